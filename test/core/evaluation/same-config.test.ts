import { describe, expect, it } from "vitest";
import type { Dtype } from "../../../src/core/dtype.ts";
import { compareConfigs } from "../../../src/core/evaluation/same-config.ts";
import type { JsonObject } from "../../../src/core/json.ts";

const none = new Map<string, { shape: readonly number[]; dtype: Dtype }>();
/** A family whose forward pass is not known: fields decide. */
const compare = (planned: JsonObject, candidate: JsonObject) =>
  compareConfigs(
    { config: { model_type: "unknown", ...planned }, tensors: none },
    { config: { model_type: "unknown", ...candidate }, tensors: none },
  );

describe("two config.json", () => {
  it("are the same where nothing differs, in whatever order, and where one says null", () => {
    expect(compare({ a: 1, b: { c: 2, d: 3 } }, { b: { d: 3, c: 2 }, a: 1 })).toEqual({
      same: true,
      detail: "",
    });
    expect(compare({ a: 1, b: null }, { a: 1 })).toEqual({ same: true, detail: "" });
  });

  it("are the same but for fields that do not matter, which are named with their reason", () => {
    const { same, detail } = compare(
      { dtype: "bfloat16", use_cache: true, hidden_size: 8 },
      { torch_dtype: "float16", use_cache: false, hidden_size: 8, transformers_version: "4.51.0" },
    );
    expect(same).toBe(true);
    expect(detail).toBe(
      "dtype (the types are those of the tensors), torch_dtype (the types are those of the tensors), " +
        "transformers_version (the version that wrote the file), use_cache (speed only)",
    );
  });

  it("differ in any other field, which is named with both values", () => {
    expect(compare({ hidden_size: 8 }, { hidden_size: 16 })).toEqual({
      same: false,
      detail: "hidden_size is 16 instead of 8",
    });
    expect(compare({ hidden_size: 8 }, {}).detail).toBe("hidden_size is absent instead of 8");
    expect(compare({ text_config: { layers: 2 } }, { text_config: { layers: 3 } }).same).toBe(false);
  });

  it("say the same of positions in both spellings", () => {
    const scaled = { factor: 8, low_freq_factor: 1, rope_type: "llama3" };
    const newer = { rope_parameters: { ...scaled, rope_theta: 500000 } };
    const older = { rope_theta: 500000, rope_scaling: scaled };
    expect(compare(newer, older).same).toBe(true);
    expect(compare(newer, { ...older, rope_theta: 10000 }).same).toBe(false);
    expect(compare(newer, { rope_theta: 500000 }).same).toBe(false);
    expect(
      compare(
        { rope_theta: 1, rope_scaling: { type: "linear", factor: 2 } },
        {
          rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 1 },
        },
      ),
    ).toEqual({ same: true, detail: "" });
  });

  it("say the same of positions that differ from layer to layer", () => {
    const newer = {
      rope_parameters: {
        full_attention: { rope_type: "linear", factor: 8, rope_theta: 1000000 },
        sliding_attention: { rope_type: "default", rope_theta: 10000 },
      },
    };
    const older = {
      rope_theta: 1000000,
      rope_scaling: { rope_type: "linear", factor: 8 },
      rope_local_base_freq: 10000,
    };
    expect(compare(newer, older)).toEqual({ same: true, detail: "" });
    expect(compare(newer, { ...older, rope_local_base_freq: 5000 }).same).toBe(false);
  });
});

describe("a family whose forward pass is known", () => {
  const config = {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_size: 8,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    vocab_size: 10,
    rms_norm_eps: 1e-6,
    hidden_act: "silu",
    tie_word_embeddings: true,
  };
  const weight = (...shape: number[]) => ({ shape, dtype: "BF16" as const });
  const layer = (name: string) => `model.layers.0.${name}.weight`;
  const tensors = new Map([
    ["model.embed_tokens.weight", weight(10, 8)],
    ["model.norm.weight", weight(8)],
    [layer("input_layernorm"), weight(8)],
    [layer("post_attention_layernorm"), weight(8)],
    [layer("self_attn.q_proj"), weight(8, 8)],
    [layer("self_attn.k_proj"), weight(4, 8)],
    [layer("self_attn.v_proj"), weight(4, 8)],
    [layer("self_attn.o_proj"), weight(8, 8)],
    [layer("mlp.gate_proj"), weight(16, 8)],
    [layer("mlp.up_proj"), weight(16, 8)],
    [layer("mlp.down_proj"), weight(8, 16)],
  ]);
  const against = (changes: JsonObject) =>
    compareConfigs({ config, tensors }, { config: { ...config, ...changes }, tensors });

  it("decides whether a field matters", () => {
    // Both state what is the default already.
    expect(against({ head_dim: 4, attention_bias: false, mlp_bias: false })).toMatchObject({
      same: true,
      detail: expect.stringContaining("head_dim (the same computation)"),
    });
    const other = against({ rms_norm_eps: 1e-5 });
    expect(other.same).toBe(false);
    expect(other.detail).toContain("0.00001 instead of 0.000001");
  });
});
