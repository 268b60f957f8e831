import { AppError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import { bert } from "./bert.ts";
import { mixtral, qwen3Moe } from "./experts.ts";
import type { Family, Task } from "./family.ts";
import { Fields, unsupported } from "./fields.ts";
import { gemma2, gemma3Text } from "./gemma.ts";
import { gptNeox } from "./gpt-neox.ts";
import { gpt2 } from "./gpt2.ts";
import { granite } from "./granite.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { olmo2 } from "./olmo2.ts";
import { phi3 } from "./phi3.ts";
import { qwen2, qwen3 } from "./qwen.ts";
import { smollm3 } from "./smollm3.ts";
import type { ModelSpec } from "./spec.ts";
import { type Declared, Tensors } from "./tensors.ts";

/** By `model_type`. */
const FAMILIES: Readonly<Record<string, Family>> = {
  bert,
  gemma2,
  gemma3_text: gemma3Text,
  gpt2,
  gpt_neox: gptNeox,
  granite,
  llama,
  mistral,
  mixtral,
  olmo2,
  phi3,
  qwen2,
  qwen3,
  qwen3_moe: qwen3Moe,
  smollm3,
};

/** `model_type`s whose forward pass is known. */
export const SUPPORTED_MODEL_TYPES: readonly string[] = Object.keys(FAMILIES);

/**
 * Fields that change what a model computes, in the families here and in others → values with which they do not. A family
 * that does not read one refuses it when it has another value, and null never matters.
 */
const MEANINGS: Readonly<Record<string, readonly Json[]>> = {
  quantization_config: [],
  compression_config: [],
  per_layer_config: [{}],
  attention_bias: [false],
  mlp_bias: [false],
  qkv_bias: [false],
  lm_head_bias: [false],
  sliding_window: [],
  use_sliding_window: [false],
  layer_types: [],
  sliding_window_pattern: [],
  attention_chunk_size: [],
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  query_pre_attn_scalar: [],
  use_qk_norm: [false],
  qk_norm: [false],
  qk_layernorm: [false],
  use_qk_layernorm: [false],
  clip_qkv: [],
  rope_parameters: [{}],
  rope_scaling: [{}],
  rope_theta: [],
  rope_local_base_freq: [],
  partial_rotary_factor: [1],
  rotary_pct: [1],
  rotary_dim: [],
  rotary_emb_base: [],
  original_max_position_embeddings: [],
  rope_interleaved: [false],
  rope_interleave: [false],
  use_mrope: [false],
  no_rope_layers: [[]],
  alibi: [false],
  use_alibi: [false],
  position_embedding_type: ["absolute", "rope", "rotary"],
  use_bidirectional_attention: [false],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  embedding_multiplier: [1],
  logits_scaling: [1],
  logit_scale: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  scale_emb: [1],
  scale_depth: [],
  use_parallel_residual: [false],
  parallel_attn: [false],
  scale_attn_weights: [true],
  scale_attn_by_inverse_layer_idx: [false],
  num_local_experts: [0, 1],
  num_experts: [0, 1],
  n_routed_experts: [0],
  n_shared_experts: [0],
  shared_expert_intermediate_size: [0],
  num_kv_shared_layers: [0],
  hidden_size_per_layer_input: [0],
  apply_residual_connection_post_layernorm: [false],
  pruned_heads: [{}],
};

/**
 * Reads a model's forward pass from its config.json and its tensors, with defaults as transformers 5.18 has them.
 * Whatever would change the computation and is not understood is refused by name.
 * @param tensors by the names in the checkpoint's files
 * @throws UNSUPPORTED_ARCHITECTURE (a model type, class, field or tensor that is not understood), BAD_CONFIG (a field of
 * the wrong kind), BAD_CHECKPOINT (a tensor is missing or has another shape)
 */
export function readModelSpec(config: JsonObject, tensors: ReadonlyMap<string, Declared>): ModelSpec {
  const { values, modelType } = textConfig(config);
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType]! : null;
  if (!family) {
    throw unsupported(
      modelType,
      "model_type",
      `config.json: model_type "${modelType}" is not supported; supported are ${SUPPORTED_MODEL_TYPES.join(", ")}, ` +
        "and the text part of gemma3.",
    );
  }
  // Before the tensors, which would not fit.
  new Fields(config, modelType).refuseUnread({ quantization_config: [], compression_config: [] });
  const fields = new Fields(values, modelType);
  const task = readTask(fields, family);
  const found = Tensors.locate(tensors, modelType, family);
  fields.accept(...(family.unread ?? []));
  const spec = family.read({ fields, tensors: found, task });
  refuseLayerTypes(fields, spec);
  fields.refuseUnread(MEANINGS);
  found.refuseLeftOver(`${found.headPrefix}${family.heads[task] ?? "lm_head"}`);
  return spec;
}

/** Gemma 3 with images keeps the language model's fields one level down, but for these. */
function textConfig(config: JsonObject): { values: JsonObject; modelType: string } {
  const stated = config.model_type;
  if (typeof stated !== "string" || stated === "") {
    throw new AppError(
      "UNSUPPORTED_ARCHITECTURE",
      `config.json names no model_type; supported are ${SUPPORTED_MODEL_TYPES.join(", ")}.`,
      { field: "model_type" },
    );
  }
  if (stated !== "gemma3" || !isJsonObject(config.text_config)) return { values: config, modelType: stated };
  const outer = new Fields(config, stated);
  const text: JsonObject = { ...config.text_config };
  if (typeof text.final_logit_softcapping === "number") {
    throw outer.refused("text_config", "final_logit_softcapping is not applied by a model that sees images");
  }
  const values: JsonObject = {
    ...text,
    architectures: config.architectures ?? null,
    tie_word_embeddings: outer.flag("tie_word_embeddings", true),
  };
  return { values, modelType: "gemma3_text" };
}

/** What the head is for, by the first class in `architectures`. */
function readTask(fields: Fields, family: Family): Task {
  const [name] = fields.texts("architectures") ?? [];
  const known = Object.keys(family.classes);
  if (name === undefined) return family.classes[known[0]!]!;
  if (!Object.hasOwn(family.classes, name)) {
    throw fields.refused("architectures", `a forward pass is known for ${known.join(" and ")}`);
  }
  return family.classes[name]!;
}

/** Families without a list of kinds of layers: one that a file has all the same must say what the layers do. */
function refuseLayerTypes(fields: Fields, spec: ModelSpec): void {
  const types = fields.texts("layer_types");
  const agrees = spec.layers.every(
    ({ attention }, index) =>
      types?.[index] === (attention.window === null ? "full_attention" : "sliding_attention"),
  );
  if (types && !agrees) {
    throw fields.refused("layer_types", "this family treats all layers alike, and its list says otherwise");
  }
}
