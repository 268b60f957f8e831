import { describe, expect, it } from "vitest";
import { readModelSpec } from "../../../src/core/decoder/read.ts";
import type { Declared } from "../../../src/core/decoder/tensors.ts";
import type { JsonObject } from "../../../src/core/json.ts";
import { decoderFixture, refused, renamed } from "../../support/decoder.ts";

function refusedConfig(name: string, changes: Record<string, unknown>) {
  const { config, tensors } = decoderFixture(name);
  const entries = Object.entries({ ...config, ...changes }).filter(([, value]) => value !== undefined);
  return refused(() => readModelSpec(Object.fromEntries(entries) as JsonObject, tensors));
}

function refusedTensors(name: string, change: (tensors: Map<string, Declared>) => void) {
  const { config, tensors } = decoderFixture(name);
  change(tensors);
  return refused(() => readModelSpec(config, tensors));
}

const rope = (parameters: Record<string, unknown>) => ({ rope_parameters: parameters });
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };
const LONG = {
  rope_type: "longrope",
  short_factor: [1, 1, 1, 1, 1, 1, 1, 1],
  long_factor: [2, 2, 2, 2, 2, 2, 2, 2],
  original_max_position_embeddings: 32,
};

/** Fixture, changed fields, and the field that must be named; the code is UNSUPPORTED_ARCHITECTURE. */
const UNSUPPORTED: readonly (readonly [string, Record<string, unknown>, string])[] = [
  ["llama", { model_type: "mamba2" }, "model_type"],
  ["llama", { model_type: "constructor" }, "model_type"],
  ["llama", { model_type: "gemma3" }, "model_type"],
  ["llama", { model_type: undefined }, "model_type"],
  ["llama", { architectures: ["LlamaForTokenClassification"] }, "architectures"],
  ["llama", { architectures: ["LlamaModel"] }, "architectures"],
  ["granite", { architectures: ["GraniteForSequenceClassification"] }, "architectures"],
  ["bert-score", { architectures: ["BertForMaskedLM"] }, "architectures"],
  ["llama", { quantization_config: { quant_method: "bitsandbytes" } }, "quantization_config"],
  ["llama", { hidden_act: "quick_gelu" }, "hidden_act"],
  ["gpt2", { activation_function: "mish" }, "activation_function"],
  ["gemma2", { hidden_act: "gelu" }, "hidden_act"],
  ["llama", { sliding_window: 4096 }, "sliding_window"],
  ["llama", { attn_logit_softcapping: 50 }, "attn_logit_softcapping"],
  ["llama", { use_qk_norm: true }, "use_qk_norm"],
  ["llama", { embedding_multiplier: 12 }, "embedding_multiplier"],
  ["llama", { rope_interleaved: true }, "rope_interleaved"],
  ["llama", { num_local_experts: 8 }, "num_local_experts"],
  ["llama", { layer_types: ["full_attention", "sliding_attention"] }, "layer_types"],
  ["llama", { layer_types: ["full_attention"] }, "layer_types"],
  ["mistral", { attention_bias: true }, "attention_bias"],
  ["mistral", { layer_types: ["full_attention", "sliding_attention"] }, "layer_types"],
  ["qwen2", { layer_types: ["full_attention", "chunked_attention"] }, "layer_types"],
  ["qwen2", { layer_types: ["full_attention", "sliding_attention"] }, "layer_types"],
  ["qwen2", { use_mrope: true }, "use_mrope"],
  ["qwen3_moe", { use_sliding_window: true, max_window_layers: 1 }, "max_window_layers"],
  ["mixtral", { num_experts: 8 }, "num_experts"],
  ["gemma2", { use_bidirectional_attention: true }, "use_bidirectional_attention"],
  ["gemma3", { use_bidirectional_attention: true }, "use_bidirectional_attention"],
  ["gemma3", { attn_logit_softcapping: 50 }, "attn_logit_softcapping"],
  ["gemma3", { layer_types: undefined, _sliding_window_pattern: 2 }, "_sliding_window_pattern"],
  ["gemma3", rope({ rope_type: "default", rope_theta: 10_000 }), "rope_parameters.rope_type"],
  [
    "gemma3",
    rope({ full_attention: { ...YARN, truncate: false } }),
    "rope_parameters.full_attention.truncate",
  ],
  ["gemma3", { rope_scaling: { rope_type: "linear", factor: 8 } }, "rope_scaling"],
  ["gpt2", { add_cross_attention: true }, "add_cross_attention"],
  ["gpt2", { rope_theta: 10_000 }, "rope_theta"],
  ["gpt_neox", { rope_theta: 500_000 }, "rope_theta"],
  ["gpt_neox", { partial_rotary_factor: 0.25 }, "partial_rotary_factor"],
  ["gpt_neox", { rotary_pct: 0.25 }, "rotary_pct"],
  ["bert-score", { position_embedding_type: "relative_key" }, "position_embedding_type"],
  ["bert-score", { is_decoder: true }, "is_decoder"],
  ["bert-score", { add_cross_attention: true }, "add_cross_attention"],
  ["phi3", rope({ rope_type: "linear", factor: 2 }), "rope_scaling"],
  [
    "phi3",
    { ...rope(LONG), original_max_position_embeddings: undefined },
    "original_max_position_embeddings",
  ],
  ["olmo2", { clip_qkv: 8 }, "clip_qkv"],
  ["llama", rope({ rope_type: "proportional" }), "rope_parameters.rope_type"],
  ["llama", { rope_parameters: undefined, rope_scaling: { type: "mrope" } }, "rope_scaling.type"],
  ["llama", rope({ rope_type: "default", type: "linear" }), "rope_parameters.type"],
  ["llama", rope({ rope_type: "default", factor: 2 }), "rope_parameters.factor"],
  ["llama", rope({ ...YARN, finetuned: true }), "rope_parameters.finetuned"],
  ["llama", rope({ rope_type: "dynamic", factor: 2, alpha: 1000 }), "rope_parameters.alpha"],
  ["llama", rope({ full_attention: { rope_type: "default" } }), "rope_parameters.full_attention"],
  ["llama", rope({ rope_type: "default", partial_rotary_factor: 0.5 }), "partial_rotary_factor"],
  ["llama", { partial_rotary_factor: 0.5 }, "partial_rotary_factor"],
  ["llama", { rope_theta: 500_000 }, "rope_theta"],
  ["llama", { rope_scaling: { rope_type: "linear", factor: 2 } }, "rope_scaling"],
  ["llama", { ...rope(YARN), original_max_position_embeddings: 64 }, "original_max_position_embeddings"],
];

/** As above, with BAD_CONFIG. */
const MALFORMED: readonly (readonly [string, Record<string, unknown>, string])[] = [
  ["llama", { hidden_size: "64" }, "hidden_size"],
  ["llama", { hidden_size: null }, "hidden_size"],
  ["llama", { num_hidden_layers: 0 }, "num_hidden_layers"],
  ["llama", { num_hidden_layers: 2.5 }, "num_hidden_layers"],
  ["llama", { num_hidden_layers: 1e12 }, "num_hidden_layers"],
  ["llama", { num_key_value_heads: 3 }, "num_key_value_heads"],
  ["llama", { num_attention_heads: 5, num_key_value_heads: 5, head_dim: null }, "hidden_size"],
  ["llama", { attention_bias: "no" }, "attention_bias"],
  ["llama", { hidden_act: null }, "hidden_act"],
  ["llama", { architectures: "LlamaForCausalLM" }, "architectures"],
  ["llama", { rope_parameters: [1] }, "rope_parameters"],
  ["qwen2", { layer_types: ["full_attention"] }, "layer_types"],
  ["qwen3", { head_dim: null }, "head_dim"],
  ["smollm3", { no_rope_layers: [1] }, "no_rope_layers"],
  ["smollm3", { no_rope_layers: ["1", "0"] }, "no_rope_layers"],
  ["mixtral", { num_experts_per_tok: 5 }, "num_experts_per_tok"],
  ["granite", { logits_scaling: 0 }, "logits_scaling"],
  ["gpt2", { n_head: 5 }, "n_embd"],
  ["llama", rope({ rope_type: "linear" }), "rope_parameters.factor"],
  ["llama", rope({ rope_type: "yarn" }), "rope_parameters.factor"],
  ["llama", rope({ rope_type: "llama3", factor: 8, high_freq_factor: 4 }), "rope_parameters.low_freq_factor"],
  ["llama", rope({ ...LONG, short_factor: [1] }), "rope_parameters.short_factor"],
  ["llama", rope({ ...LONG, long_factor: undefined }), "rope_parameters.long_factor"],
];

describe("a config that is not understood is refused", () => {
  it.each(UNSUPPORTED)("%s with %j, naming %s", (name, changes, field) => {
    const found = refusedConfig(name, changes);
    expect(found).toMatchObject({ code: "UNSUPPORTED_ARCHITECTURE", field });
    expect(found.message).toContain(field.split(".").at(-1));
  });

  it("naming the model type, and those that are supported", () => {
    const { message } = refusedConfig("llama", { model_type: "mamba2" });
    expect(message).toMatch(/model_type "mamba2" is not supported.*gpt_neox.*llama.*smollm3/);
    expect(message).toContain("structure and weights are");
  });

  it.each(MALFORMED)("%s with %j, whose value is of the wrong kind, naming %s", (name, changes, field) => {
    const found = refusedConfig(name, changes);
    expect(found).toMatchObject({ code: "BAD_CONFIG", field });
    expect(found.message).toContain(field.split(".").at(-1));
  });

  it("of Gemma 3 with images, where a cap of the head would not be applied", () => {
    const { config, tensors } = decoderFixture("gemma3");
    const text = { ...config, final_logit_softcapping: 30 };
    const whole = { model_type: "gemma3", text_config: text };
    expect(refused(() => readModelSpec(whole, tensors))).toMatchObject({
      code: "UNSUPPORTED_ARCHITECTURE",
      field: "text_config",
    });
  });
});

describe("fields without a meaning for the forward pass", () => {
  it.each([
    ["llama", { pretraining_tp: 4, attention_dropout: 0.1, use_cache: false, _name_or_path: "somewhere" }],
    [
      "llama",
      { attention_bias: false, rope_scaling: null, layer_types: ["full_attention", "full_attention"] },
    ],
    ["llama", { auto_map: { AutoModel: "own.Model" }, rope_interleaved: false, embedding_multiplier: 1 }],
    ["qwen2", { sliding_window: 131_072, max_window_layers: 21, use_mrope: false, attention_bias: true }],
    ["qwen3_moe", { sliding_window: 4096, max_window_layers: 48 }],
    ["gpt2", { n_ctx: 64, summary_type: "cls_index", reorder_and_upcast_attn: true }],
    ["gpt_neox", { rope_theta: 10_000, classifier_dropout: 0.5 }],
    ["gemma2", { hidden_act: "gelu_pytorch_tanh", cache_implementation: "hybrid" }],
    ["bert-score", { position_embedding_type: "absolute", gradient_checkpointing: false }],
    ["mistral", { layer_types: ["sliding_attention", "sliding_attention"] }],
  ])("are passed over: %s with %j", (name, changes) => {
    const { config, tensors } = decoderFixture(name);
    const plain = readModelSpec(config, tensors);
    expect(readModelSpec({ ...config, ...changes } as JsonObject, tensors)).toEqual(plain);
  });
});

describe("a checkpoint that does not fit its config is refused", () => {
  it("where a tensor is missing, by its name", () => {
    const found = refusedTensors("llama", (tensors) => tensors.delete("model.layers.1.mlp.up_proj.weight"));
    expect(found.code).toBe("BAD_CHECKPOINT");
    expect(found.message).toContain("no tensor model.layers.1.mlp.up_proj.weight");
  });

  it("where a tensor has another shape, by both", () => {
    const found = refusedTensors("llama", (tensors) =>
      tensors.set("model.layers.0.self_attn.k_proj.weight", { dtype: "F32", shape: [64, 64] }),
    );
    expect(found.code).toBe("BAD_CHECKPOINT");
    expect(found.message).toMatch(/k_proj\.weight has shape \[64, 64\].* makes it \[32, 64\]/);
  });

  it("where the config has fewer or more layers, or another width", () => {
    expect(refusedConfig("llama", { num_hidden_layers: 3 }).message).toContain("model.layers.2.");
    expect(refusedConfig("llama", { num_hidden_layers: 1 })).toMatchObject({
      code: "UNSUPPORTED_ARCHITECTURE",
      field: expect.stringContaining("model.layers.1."),
    });
    expect(refusedConfig("gpt2", { n_inner: null })).toMatchObject({ code: "BAD_CHECKPOINT" });
    expect(refusedConfig("qwen3_moe", { mlp_only_layers: [0] }).code).toBe("BAD_CHECKPOINT");
  });

  it("where a bias, a scale or a head's bias is there that nothing would add", () => {
    for (const name of [
      "model.layers.0.self_attn.q_proj.bias",
      "model.layers.0.mlp.up_proj.weight_scale",
      "model.norm.bias",
      "lm_head.bias",
    ]) {
      const found = refusedTensors("llama", (tensors) => tensors.set(name, { dtype: "F32", shape: [64] }));
      expect(found).toMatchObject({ code: "UNSUPPORTED_ARCHITECTURE", field: name });
    }
  });

  it("where weights are stored in a type that is no float of 16 or 32 bits", () => {
    const found = refusedTensors("llama", (tensors) =>
      tensors.set("lm_head.weight", { dtype: "F8_E4M3", shape: [128, 64] }),
    );
    expect(found).toMatchObject({ code: "UNSUPPORTED_ARCHITECTURE", field: "lm_head.weight" });
  });

  it("where all experts are in one tensor", () => {
    const found = refusedTensors("qwen3_moe", (tensors) => {
      for (const name of [...tensors.keys()]) if (name.includes(".experts.")) tensors.delete(name);
      tensors.set("model.layers.0.mlp.experts.gate_up_proj", { dtype: "F32", shape: [4, 64, 64] });
    });
    expect(found).toMatchObject({
      code: "UNSUPPORTED_ARCHITECTURE",
      field: "model.layers.0.mlp.experts.gate_up_proj",
    });
  });

  it("where it has no head of its own, and none is tied", () => {
    const found = refusedTensors("llama", (tensors) => tensors.delete("lm_head.weight"));
    expect(found).toMatchObject({ code: "BAD_CHECKPOINT", field: "tie_word_embeddings" });
    expect(found.message).toContain("lm_head.weight");
  });

  it("where a classifier has no score", () => {
    const found = refusedConfig("llama", { architectures: ["LlamaForSequenceClassification"] });
    expect(found.message).toContain("no tensor score.weight");
  });

  it("where its names are another model's, or two models'", () => {
    const { config, tensors } = decoderFixture("llama");
    const other = renamed(tensors, (name) => `other.${name}`);
    expect(refused(() => readModelSpec(config, other)).message).toContain('looked for "model.layers.0.…"');
    const twice = new Map([...tensors, ...renamed(tensors, (name) => name.replace("model.", ""))]);
    expect(refused(() => readModelSpec(config, twice)).message).toContain("not clear");
  });
});
