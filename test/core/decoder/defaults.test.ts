import { describe, expect, it } from "vitest";
import { readModelSpec, SUPPORTED_MODEL_TYPES } from "../../../src/core/decoder/read.ts";
import { checkpointFor } from "../../support/decoder.ts";

interface Expected {
  readonly family: string;
  /** How the name of a tensor of layer 0 begins. */
  readonly first: string;
  readonly layers: number;
  readonly hidden: number;
  /** Attention heads, heads of k and v, numbers of a head. */
  readonly attention: readonly [number, number, number];
  readonly maxPositions: number;
  readonly epsilon: number;
  readonly thetas: readonly number[];
  readonly windows: readonly [first: number | null, sixth: number | null];
  readonly activation: string;
  readonly tied: boolean;
  /** A tensor that shows the width inside the MLP. */
  readonly inner: readonly [name: string, shape: readonly number[]];
}

const LLAMA = "model.layers.0.";
const GATE = `${LLAMA}mlp.gate_proj.weight`;

/*
 * Read off `AutoConfig.for_model(model_type)` of transformers 5.18.0,
 * and off the shapes of the model that it builds.
 */
const DEFAULTS: readonly Expected[] = [
  {
    family: "bert",
    first: "bert.encoder.layer.0.",
    layers: 12,
    hidden: 768,
    attention: [12, 12, 64],
    maxPositions: 512,
    epsilon: 1e-12,
    thetas: [],
    windows: [null, null],
    activation: "gelu",
    tied: false,
    inner: ["bert.encoder.layer.0.intermediate.dense.weight", [3072, 768]],
  },
  {
    family: "gemma2",
    first: LLAMA,
    layers: 26,
    hidden: 2304,
    attention: [8, 4, 256],
    maxPositions: 8192,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [4096, null],
    activation: "gelu_tanh",
    tied: true,
    inner: [GATE, [9216, 2304]],
  },
  {
    family: "gemma3_text",
    first: LLAMA,
    layers: 26,
    hidden: 2304,
    attention: [8, 4, 256],
    maxPositions: 131072,
    epsilon: 1e-6,
    thetas: [1000000, 10000],
    windows: [4096, null],
    activation: "gelu_tanh",
    tied: true,
    inner: [GATE, [9216, 2304]],
  },
  {
    family: "gpt2",
    first: "transformer.h.0.",
    layers: 12,
    hidden: 768,
    attention: [12, 12, 64],
    maxPositions: 1024,
    epsilon: 1e-5,
    thetas: [],
    windows: [null, null],
    activation: "gelu_tanh",
    tied: true,
    inner: ["transformer.h.0.mlp.c_fc.weight", [768, 3072]],
  },
  {
    family: "gpt_neox",
    first: "gpt_neox.layers.0.",
    layers: 44,
    hidden: 6144,
    attention: [64, 64, 96],
    maxPositions: 2048,
    epsilon: 1e-5,
    thetas: [10000],
    windows: [null, null],
    activation: "gelu",
    tied: false,
    inner: ["gpt_neox.layers.0.mlp.dense_h_to_4h.weight", [24576, 6144]],
  },
  {
    family: "granite",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 32, 128],
    maxPositions: 2048,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: [GATE, [11008, 4096]],
  },
  {
    family: "llama",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 32, 128],
    maxPositions: 2048,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: [GATE, [11008, 4096]],
  },
  {
    family: "mistral",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 8, 128],
    maxPositions: 131072,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [4096, 4096],
    activation: "silu",
    tied: false,
    inner: [GATE, [14336, 4096]],
  },
  {
    family: "mixtral",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 8, 128],
    maxPositions: 131072,
    epsilon: 1e-5,
    thetas: [1000000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: ["model.layers.0.block_sparse_moe.experts.0.w2.weight", [4096, 14336]],
  },
  {
    family: "olmo2",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 32, 128],
    maxPositions: 2048,
    epsilon: 1e-5,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: [GATE, [11008, 4096]],
  },
  {
    family: "phi3",
    first: LLAMA,
    layers: 32,
    hidden: 3072,
    attention: [32, 32, 96],
    maxPositions: 4096,
    epsilon: 1e-5,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: ["model.layers.0.mlp.gate_up_proj.weight", [16384, 3072]],
  },
  {
    family: "qwen2",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 32, 128],
    maxPositions: 32768,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: [GATE, [22016, 4096]],
  },
  {
    family: "qwen3",
    first: LLAMA,
    layers: 32,
    hidden: 4096,
    attention: [32, 32, 128],
    maxPositions: 32768,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: [GATE, [22016, 4096]],
  },
  {
    family: "qwen3_moe",
    first: LLAMA,
    layers: 24,
    hidden: 2048,
    attention: [32, 4, 64],
    maxPositions: 32768,
    epsilon: 1e-6,
    thetas: [10000],
    windows: [null, null],
    activation: "silu",
    tied: false,
    inner: ["model.layers.0.mlp.experts.0.down_proj.weight", [2048, 768]],
  },
  {
    family: "smollm3",
    first: LLAMA,
    layers: 36,
    hidden: 2048,
    attention: [16, 4, 128],
    maxPositions: 32768,
    epsilon: 1e-6,
    thetas: [2000000],
    windows: [null, null],
    activation: "silu",
    tied: true,
    inner: [GATE, [11008, 2048]],
  },
];

describe("a config.json that says nothing but its model_type", () => {
  it("is covered for every family", () => {
    expect(DEFAULTS.map(({ family }) => family).sort()).toEqual([...SUPPORTED_MODEL_TYPES].sort());
  });

  it.each(DEFAULTS)("is read with the defaults of transformers: $family", (expected) => {
    const config = { model_type: expected.family };
    // Eight experts of Qwen3-MoE's 128 are as good as all; their number has a case of its own below.
    const few = expected.family === "qwen3_moe" ? { num_experts: 8 } : {};
    const layers = expected.family === "gpt2" ? { n_layer: 6 } : { num_hidden_layers: 6 };
    const small = { ...config, ...layers, ...few };
    const tensors = checkpointFor((found) => readModelSpec(small, found), expected.first);
    const spec = readModelSpec(small, tensors);
    const [layer] = spec.layers;
    const { heads, kvHeads, headDim } = layer!.attention;
    const norm = layer!.attentionNorm ?? layer!.attentionOutNorm ?? layer!.afterAttentionNorm;
    const [name, shape] = expected.inner;
    expect(tensors.get(name)?.shape).toEqual(shape);
    expect({
      hidden: spec.hidden,
      attention: [heads, kvHeads, headDim],
      maxPositions: spec.maxPositions,
      epsilon: norm!.epsilon,
      thetas: spec.ropes.map(({ theta }) => theta),
      windows: [layer!.attention.window, spec.layers[5]!.attention.window],
      activation: layer!.mlp.activation,
      tied: spec.head.form === "vocabulary" && spec.head.linear.weight === spec.embedding.tokens,
    }).toEqual({
      hidden: expected.hidden,
      attention: [...expected.attention],
      maxPositions: expected.maxPositions,
      epsilon: expected.epsilon,
      thetas: [...expected.thetas],
      windows: [...expected.windows],
      activation: expected.activation,
      tied: expected.tied,
    });
  });

  it.each(DEFAULTS)("has as many layers as transformers makes: $family", ({ family, first, layers }) => {
    const few = family === "qwen3_moe" ? { num_experts: 8 } : {};
    const config = { model_type: family, ...few };
    const last = first.replace("0.", `${layers - 1}.`);
    const tensors = checkpointFor((found) => readModelSpec(config, found), first);
    const names = [...tensors.keys()];
    expect(names.some((name) => name.startsWith(last))).toBe(true);
    expect(names.some((name) => name.startsWith(first.replace("0.", `${layers}.`)))).toBe(false);
  });

  it("has 128 experts of Qwen3-MoE, of which 8 are used, and 2 of 8 of Mixtral", () => {
    for (const [family, count, topK] of [
      ["qwen3_moe", 128, 8],
      ["mixtral", 8, 2],
    ] as const) {
      const config = { model_type: family, num_hidden_layers: 1 };
      const tensors = checkpointFor((found) => readModelSpec(config, found), LLAMA);
      const { mlp } = readModelSpec(config, tensors).layers[0]!;
      expect(mlp).toMatchObject({ form: "experts", topK });
      expect(mlp.form === "experts" && mlp.experts.length).toBe(count);
    }
  });
});
