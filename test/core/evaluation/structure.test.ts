import { describe, expect, it } from "vitest";
import type { CheckpointFacts } from "../../../src/core/checkpoint.ts";
import type { Dtype } from "../../../src/core/dtype.ts";
import { checkStructure, copyReasons } from "../../../src/core/evaluation/structure.ts";
import type { JsonObject } from "../../../src/core/json.ts";

const CONFIG = { model_type: "llama", architectures: ["LlamaForCausalLM"], tie_word_embeddings: false };

type Shapes = Readonly<Record<string, readonly number[]>>;
const SHAPES: Shapes = {
  "model.embed_tokens.weight": [10, 4],
  "model.layers.0.self_attn.q_proj.weight": [4, 4],
  "model.norm.weight": [4],
  "lm_head.weight": [10, 4],
};

function facts(shapes: Shapes, config: JsonObject, dtype: Dtype, files: readonly string[]): CheckpointFacts {
  const tensors = Object.entries(shapes).map(([name, shape]) => ({ name, shape, dtype, begin: 0, end: 0 }));
  return {
    kind: "checkpoint",
    files: files.map((path) => ({ path, size: 0, role: "CARRIED" as const, digest: null })),
    weights: [{ path: "model.safetensors", size: 0, dataStart: 0, metadata: {}, tensors }],
    config,
    index: null,
    tokenizer: null,
    hasCode: false,
  };
}

interface Question {
  readonly wanted?: Shapes;
  readonly planned?: JsonObject;
  readonly shapes?: Shapes;
  readonly config?: JsonObject;
  readonly dtype?: Dtype;
  readonly files?: readonly string[];
}

function check({
  wanted = SHAPES,
  planned = {},
  shapes = wanted,
  config = {},
  dtype = "BF16",
  files = [],
}: Question) {
  return checkStructure({
    wanted: Object.entries(wanted).map(([tensor, shape]) => ({ tensor, shape, dtype: "BF16" as const })),
    config: { ...CONFIG, ...planned },
    candidate: facts(shapes, { ...CONFIG, ...planned, ...config }, dtype, files),
  });
}

const codes = (question: Question) => check(question).reasons.map(({ code }) => code);
const without = (name: string): Shapes =>
  Object.fromEntries(Object.entries(SHAPES).filter(([key]) => key !== name));
const renamed = (to: (name: string) => string): Shapes =>
  Object.fromEntries(Object.entries(SHAPES).map(([name, shape]) => [to(name), shape]));

describe("the structure of a checkpoint", () => {
  it("passes where it is as planned, in whichever float type", () => {
    for (const dtype of ["BF16", "F16", "F32"] as const) {
      const { checks, reasons, pairs } = check({ dtype });
      expect(reasons).toEqual([]);
      expect(checks.every(({ passed, level }) => passed && level === 0)).toBe(true);
      expect(pairs.size).toBe(4);
    }
  });

  it("finds tensors without the model's prefix, with one more, and under older names", () => {
    expect(check({ shapes: renamed((name) => name.replace("model.", "")) }).pairs.size).toBe(4);
    const wrapped = check({ shapes: renamed((name) => `base.${name}`) });
    expect(wrapped.pairs.get("model.norm.weight")?.name).toBe("base.model.norm.weight");
  });

  it("does not take one tensor for two", () => {
    const twice = { ...SHAPES, "norm.weight": [4] };
    const { pairs, reasons } = check({ shapes: twice });
    expect(pairs.get("model.norm.weight")?.name).toBe("model.norm.weight");
    expect(reasons.map(({ code }) => code)).toEqual(["UNEXPECTED_TENSOR"]);
  });

  it("names what is missing, too many, of another shape, of a type that is no float", () => {
    expect(codes({ shapes: without("model.norm.weight") })).toEqual(["MISSING_TENSOR"]);
    expect(codes({ shapes: { ...SHAPES, extra: [2] } })).toEqual(["UNEXPECTED_TENSOR"]);
    const bent = check({ shapes: { ...SHAPES, "model.norm.weight": [2, 2] } });
    expect(bent.reasons).toMatchObject([{ code: "SHAPE_MISMATCH", subject: "model.norm.weight" }]);
    expect(bent.pairs.has("model.norm.weight")).toBe(false);
    expect(codes({ dtype: "I16" })).toEqual(["DTYPE_MISMATCH"]);
  });

  it("lets versions of transformers keep or leave out what they compute anew", () => {
    const buffers = { "model.rotary_emb.inv_freq": [2], "transformer.h.0.attn.bias": [1, 1, 8, 8] };
    expect(codes({ shapes: { ...SHAPES, ...buffers } })).toEqual([]);
    expect(codes({ wanted: { ...SHAPES, ...buffers }, shapes: SHAPES })).toEqual([]);
    // A bias of a layer is no buffer.
    expect(codes({ shapes: { ...SHAPES, "transformer.h.0.attn.bias": [8] } })).toEqual(["UNEXPECTED_TENSOR"]);
  });

  it("finds what an adapter left, in names and in files", () => {
    const lora = { ...SHAPES, "model.layers.0.self_attn.q_proj.lora_A.default.weight": [2, 4] };
    expect(codes({ shapes: lora })).toEqual(["ADAPTER_LEFT"]);
    expect(codes({ files: ["adapter_config.json"] })).toEqual(["ADAPTER_LEFT"]);
    const wrapped = renamed((name) => name.replace("q_proj.", "q_proj.base_layer."));
    expect(codes({ shapes: wrapped })).toEqual(["ADAPTER_LEFT", "MISSING_TENSOR"]);
  });
});

describe("tied weights", () => {
  const tied = { planned: { tie_word_embeddings: true }, wanted: without("lm_head.weight") };

  it("may be stored once, or twice as equal matrices, whatever config.json says then", () => {
    expect(codes(tied)).toEqual([]);
    for (const ties of [true, false]) {
      const { copies, reasons } = check({ ...tied, shapes: SHAPES, config: { tie_word_embeddings: ties } });
      expect(reasons).toEqual([]);
      expect(copies.map(({ tensor, twin }) => [tensor.name, twin.name])).toEqual([
        ["lm_head.weight", "model.embed_tokens.weight"],
      ]);
      const digests = (of: Record<string, string>) => (name: string) => of[name]!;
      expect(
        copyReasons(copies, digests({ "lm_head.weight": "x", "model.embed_tokens.weight": "x" })),
      ).toEqual([]);
      expect(
        copyReasons(copies, digests({ "lm_head.weight": "x", "model.embed_tokens.weight": "y" })),
      ).toMatchObject([{ code: "TIES_DIFFER", subject: "lm_head.weight" }]);
    }
    // The base stores both, the candidate one.
    expect(codes({ planned: { tie_word_embeddings: true }, shapes: without("lm_head.weight") })).toEqual([]);
  });

  it("must not lose a head: tied in config.json where the plan unties, or untied and not stored", () => {
    expect(codes({ config: { tie_word_embeddings: true } })).toEqual(["TIES_DIFFER"]);
    const lost = { config: { tie_word_embeddings: true }, shapes: without("lm_head.weight") };
    expect(codes(lost)).toEqual(["TIES_DIFFER"]);
    expect(codes({ ...tied, config: { tie_word_embeddings: false } })).toEqual(["TIES_DIFFER"]);
  });
});
