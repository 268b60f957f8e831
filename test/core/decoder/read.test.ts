import { describe, expect, it } from "vitest";
import { readModelSpec } from "../../../src/core/decoder/read.ts";
import type { ModelSpec } from "../../../src/core/decoder/spec.ts";
import type { JsonObject } from "../../../src/core/json.ts";
import { checkpointFor, decoderFixture, modelFixture, renamed } from "../../support/decoder.ts";

const BOTH_SPELLINGS = [
  "gemma2",
  "gemma3",
  "gpt2",
  "gpt_neox",
  "granite",
  "llama",
  "llama-attention-bias",
  "llama-rope-dynamic",
  "llama-rope-linear",
  "llama-rope-llama3",
  "llama-rope-longrope",
  "llama-rope-yarn",
  "llama-tied",
  "mistral",
  "mixtral",
  "olmo2",
  "phi3",
  "phi3-rope-longrope",
  "qwen2",
  "qwen3",
  "qwen3_moe",
  "smollm3",
];

/** The spec of a fixture whose config has some fields changed; undefined takes one out. */
function read(name: string, changes: Record<string, unknown> = {}): ModelSpec {
  const { config, tensors } = decoderFixture(name);
  return readModelSpec(changed(config, changes), tensors);
}

function changed(config: JsonObject, changes: Record<string, unknown>): JsonObject {
  const entries = Object.entries({ ...config, ...changes }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as JsonObject;
}

/** A spec of made-up tensors, as a config asks for them. */
function imagined(config: JsonObject, first = "model.layers.0."): ModelSpec {
  return readModelSpec(
    config,
    checkpointFor((tensors) => readModelSpec(config, tensors), first),
  );
}

const windows = (spec: ModelSpec) => spec.layers.map((layer) => layer.attention.window);

describe("reading a model's forward pass", () => {
  it.each(BOTH_SPELLINGS)("gives the same from the fields of transformers 4 and 5: %s", (name) => {
    const { config, legacy, tensors } = decoderFixture(name);
    expect(legacy).not.toBeNull();
    expect(readModelSpec(legacy!, tensors)).toEqual(readModelSpec(config, tensors));
  });

  it("names every tensor of a checkpoint once: none is left out", () => {
    for (const name of [...BOTH_SPELLINGS, "llama-score", "bert-score"]) {
      const { tensors } = decoderFixture(name);
      const text = JSON.stringify(read(name));
      for (const tensor of tensors.keys()) expect(text, name).toContain(`"${tensor}"`);
    }
  });

  it("of Llama, bias or not", () => {
    const [layer] = read("llama").layers;
    expect(layer!.attention.out).toEqual({
      weight: "model.layers.0.self_attn.o_proj.weight",
      bias: null,
      layout: "out-in",
    });
    expect(layer!.attention).toMatchObject({ heads: 4, kvHeads: 2, headDim: 16, scale: 0.25, window: null });
    const biased = read("llama-attention-bias").layers[0]!;
    expect(biased.attention.out.bias).toBe("model.layers.0.self_attn.o_proj.bias");
    expect(biased.mlp).toMatchObject({ form: "gated", down: { bias: "model.layers.0.mlp.down_proj.bias" } });
  });

  it("of Mistral, whose window is on every layer, and 4,096 where the file is silent", () => {
    expect(windows(read("mistral"))).toEqual([16, 16]);
    expect(windows(read("mistral", { sliding_window: null }))).toEqual([null, null]);
    expect(windows(read("mistral", { sliding_window: undefined }))).toEqual([4096, 4096]);
  });

  it("of Qwen2 and Qwen3, with windows from a layer on once they are asked for", () => {
    for (const name of ["qwen2", "qwen3"]) {
      const silent = { layer_types: undefined, sliding_window: 8 };
      expect(windows(read(name, { ...silent, max_window_layers: 1 }))).toEqual([null, null]);
      const asked = { ...silent, use_sliding_window: true };
      expect(windows(read(name, { ...asked, max_window_layers: 1 }))).toEqual([null, 8]);
      expect(windows(read(name, asked))).toEqual([null, null]);
      const listed = { ...asked, layer_types: ["sliding_attention", "full_attention"] };
      expect(windows(read(name, listed))).toEqual([8, null]);
    }
  });

  it("of Gemma 2, with norms around both parts, soft caps and its own scale", () => {
    const spec = read("gemma2");
    expect(spec.embedding.scale).toBe(8);
    expect(spec.head).toMatchObject({ softcap: 3, linear: { weight: "model.embed_tokens.weight" } });
    const [layer] = spec.layers;
    expect(layer!.attention).toMatchObject({ scale: 24 ** -0.5, softcap: 5, window: 16 });
    expect(layer!.mlpNorm).toMatchObject({
      weight: "model.layers.0.pre_feedforward_layernorm.weight",
      plusOne: true,
    });
    expect(spec.layers[1]!.attention.window).toBeNull();
    expect(read("gemma2", { layer_types: undefined })).toEqual(spec);
    const silent = read("gemma2", { attn_logit_softcapping: undefined, final_logit_softcapping: undefined });
    expect(silent.layers[0]!.attention.softcap).toBe(50);
    expect(silent.head).toMatchObject({ softcap: 30 });
  });

  it("of Gemma 3, with one base for layers that see everything and one for those with a window", () => {
    const spec = read("gemma3");
    expect(spec.ropes.map(({ theta }) => theta)).toEqual([1_000_000, 10_000]);
    expect(spec.layers.map(({ attention }) => [attention.window, attention.rope!.table])).toEqual([
      [16, 1],
      [null, 0],
    ]);
    const { legacy, tensors } = decoderFixture("gemma3");
    const pattern = { layer_types: undefined, _sliding_window_pattern: undefined };
    const two = changed(legacy!, { ...pattern, sliding_window_pattern: 2 });
    expect(readModelSpec(two, tensors)).toEqual(spec);
    expect(windows(readModelSpec(changed(legacy!, pattern), tensors))).toEqual([16, 16]);
    const linear = changed(legacy!, { rope_scaling: { rope_type: "linear", factor: 8 } });
    expect(readModelSpec(linear, tensors).ropes.map(({ type }) => type)).toEqual(["linear", "default"]);
  });

  it("of Gemma 3 with images, whose text part has longer names and fields one level down", () => {
    const { config, tensors } = decoderFixture("gemma3");
    const { architectures: _, ...text } = config;
    const whole: JsonObject = {
      model_type: "gemma3",
      architectures: ["Gemma3ForConditionalGeneration"],
      text_config: text,
      vision_config: { hidden_size: 32 },
    };
    const plain = JSON.stringify(readModelSpec(config, tensors));
    for (const prefix of ["model.language_model.", "language_model.model."]) {
      const names = renamed(tensors, (name) => name.replace("model.", prefix));
      names.set("model.vision_tower.patch.weight", { dtype: "F32", shape: [3] });
      const spec = readModelSpec(whole, names);
      expect(JSON.stringify(spec)).toBe(plain.replaceAll('"model.', `"${prefix}`));
    }
  });

  it("of Phi-3, fused, with the part of a head that turns", () => {
    const spec = read("phi3");
    expect(spec.layers[0]!.attention.qkv).toMatchObject({ form: "fused", order: "rows" });
    expect(spec.layers[0]!.mlp.form).toBe("gated-fused");
    const half = {
      rope_parameters: { rope_type: "default", rope_theta: 10_000, partial_rotary_factor: 0.5 },
    };
    const part = read("phi3", half);
    expect(part.layers[0]!.attention).toMatchObject({ headDim: 16, rope: { table: 0, dims: 8 } });
    expect(read("phi3", { rope_parameters: undefined, partial_rotary_factor: 0.5 })).toEqual(part);
  });

  it("of Phi-3's long positions under their older names", () => {
    const { legacy, tensors } = decoderFixture("phi3-rope-longrope");
    const spec = readModelSpec(legacy!, tensors);
    expect(spec.ropes[0]).toMatchObject({ type: "longrope", factor: 8, originalMaxPositions: 32 });
    for (const type of ["su", "yarn"]) {
      const { rope_type: _, ...scaling } = legacy!.rope_scaling as JsonObject;
      expect(readModelSpec({ ...legacy, rope_scaling: { ...scaling, type } }, tensors)).toEqual(spec);
    }
  });

  it("of GPT-2, whose matrices are stored the other way round, with and without a prefix", () => {
    const spec = read("gpt2");
    expect(spec.layers[0]!.attention.out.layout).toBe("in-out");
    expect(spec.embedding.positions).toEqual({ tensor: "transformer.wpe.weight", offset: 0 });
    const { config, tensors } = modelFixture("gpt2-bf16-bare");
    const bare = readModelSpec(config, tensors);
    expect(JSON.stringify(bare)).toBe(JSON.stringify(spec).replaceAll("transformer.", ""));
  });

  it("of GPT-2's scales of scores", () => {
    const scales = (changes: Record<string, unknown>) =>
      read("gpt2", changes).layers.map(({ attention }) => attention.scale);
    expect(scales({})).toEqual([0.25, 0.25]);
    expect(scales({ scale_attn_by_inverse_layer_idx: true })).toEqual([0.25, 0.125]);
    expect(scales({ scale_attn_weights: false })).toEqual([1, 1]);
  });

  it("of GPT-NeoX, side by side or one after the other", () => {
    const spec = read("gpt_neox");
    expect(spec.layers[0]).toMatchObject({ parallel: true, attention: { rope: { dims: 8 } } });
    expect(spec.layers[0]!.attention.qkv).toMatchObject({ order: "heads" });
    expect(read("gpt_neox", { use_parallel_residual: false }).layers[0]!.parallel).toBe(false);
    expect(read("gpt_neox", { rope_parameters: undefined }).layers[0]!.attention.rope!.dims).toBe(4);
    const { config, tensors } = decoderFixture("gpt_neox");
    const names = renamed(tensors, (name) => name.replace("embed_out", "lm_head"));
    expect(readModelSpec(config, names).head).toMatchObject({ linear: { weight: "lm_head.weight" } });
  });

  it("of OLMo 2, with norms behind both parts and over all heads", () => {
    const [layer] = read("olmo2").layers;
    expect(layer).toMatchObject({
      attentionNorm: null,
      mlpNorm: null,
      attention: { qNorm: { over: "whole" } },
    });
    expect(layer!.mlpOutNorm!.weight).toBe("model.layers.0.post_feedforward_layernorm.weight");
  });

  it("of Granite, with its four factors", () => {
    const spec = read("granite");
    expect(spec.embedding.scale).toBe(6);
    expect(spec.head).toMatchObject({ scale: 0.25 });
    expect(spec.layers[0]).toMatchObject({ residualScale: 0.3, attention: { scale: 0.2 } });
  });

  it("of SmolLM3, some of whose layers know no positions", () => {
    const turns = (spec: ModelSpec) => spec.layers.map(({ attention }) => attention.rope !== null);
    expect(turns(read("smollm3"))).toEqual([true, false]);
    expect(turns(read("smollm3", { no_rope_layers: null }))).toEqual([true, true]);
    expect(turns(read("smollm3", { no_rope_layers: null, no_rope_layer_interval: 2 }))).toEqual([
      true,
      false,
    ]);
    const window = { use_sliding_window: true, sliding_window: 7, layer_types: undefined };
    expect(windows(read("smollm3", window))).toEqual([null, 7]);
  });

  it("of Mixtral and Qwen3-MoE, with one tensor an expert", () => {
    expect(read("mixtral").layers[0]!.mlp).toMatchObject({ form: "experts", topK: 2, normalise: true });
    expect(read("qwen3_moe").layers[0]!.mlp).toMatchObject({ form: "experts", topK: 2, normalise: true });
    expect(read("qwen3_moe", { norm_topk_prob: undefined }).layers[0]!.mlp).toMatchObject({
      normalise: false,
    });
    expect(read("mixtral", { num_local_experts: undefined, num_experts: 4 })).toEqual(read("mixtral"));
  });

  it("of Qwen3-MoE with layers that have no experts", () => {
    const { config } = decoderFixture("qwen3_moe");
    const forms = (changes: JsonObject) =>
      imagined({ ...config, num_hidden_layers: 4, ...changes }).layers.map(({ mlp }) => mlp.form);
    expect(forms({ mlp_only_layers: [3] })).toEqual(["experts", "experts", "experts", "gated"]);
    expect(forms({ decoder_sparse_step: 2 })).toEqual(["gated", "experts", "gated", "experts"]);
    expect(forms({ decoder_sparse_step: 2, mlp_only_layers: [1] })).toEqual([
      "gated",
      "gated",
      "gated",
      "experts",
    ]);
  });

  it("of BERT with a classifier, under old names of norms too", () => {
    const spec = read("bert-score");
    expect(spec).toMatchObject({ direction: "encoder", finalNorm: null, head: { form: "pooled" } });
    expect(spec.layers[0]).toMatchObject({ attentionNorm: null, mlpNorm: null });
    expect(spec.layers[0]!.afterMlpNorm!.weight).toBe("bert.encoder.layer.0.output.LayerNorm.weight");
    const { config, tensors } = decoderFixture("bert-score");
    const old = renamed(tensors, (name) =>
      name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    );
    expect(readModelSpec(config, old).embedding.norm!.weight).toBe("bert.embeddings.LayerNorm.gamma");
  });

  it("of a decoder with a score head, and its padding", () => {
    expect(read("llama-score").head).toEqual({
      form: "last-token",
      linear: { weight: "score.weight", bias: null, layout: "out-in" },
      padToken: 0,
    });
    expect(read("llama-score", { pad_token_id: null }).head).toMatchObject({ padToken: null });
  });

  it("of a bare model's names", () => {
    const { config, tensors } = decoderFixture("llama-tied");
    const spec = readModelSpec(
      config,
      renamed(tensors, (name) => name.replace("model.", "")),
    );
    expect(spec.embedding.tokens).toBe("embed_tokens.weight");
    expect(spec.head).toMatchObject({ linear: { weight: "embed_tokens.weight" } });
  });

  it("passes over buffers that old versions of transformers stored", () => {
    const { config, tensors } = decoderFixture("llama");
    tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", { dtype: "F32", shape: [8] });
    expect(readModelSpec(config, tensors)).toEqual(read("llama"));
  });
});

describe("a head and an embedding that are one", () => {
  const tied = () => decoderFixture("llama-tied");

  it("may be stored under either name", () => {
    const { config, tensors } = tied();
    const names = renamed(tensors, (name) => (name.includes("embed_tokens") ? "lm_head.weight" : name));
    const spec = readModelSpec(config, names);
    expect(spec.embedding.tokens).toBe("lm_head.weight");
    expect(spec.head).toMatchObject({ linear: { weight: "lm_head.weight" } });
  });

  it("are each used where both are stored, as transformers 5 unties what differs", () => {
    const { config, tensors } = tied();
    tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight")!);
    const spec = readModelSpec(config, tensors);
    expect(spec.embedding.tokens).toBe("model.embed_tokens.weight");
    expect(spec.head).toMatchObject({ linear: { weight: "lm_head.weight" } });
  });

  it("are so by the family's default where the file is silent", () => {
    const { config, tensors } = decoderFixture("gemma2");
    const silent = changed(config, { tie_word_embeddings: undefined });
    expect(readModelSpec(silent, tensors)).toEqual(readModelSpec(config, tensors));
  });
});
