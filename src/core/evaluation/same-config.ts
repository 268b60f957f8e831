import { readModelSpec } from "../decoder/read.ts";
import { requireSameModel, rolesOf } from "../decoder/roles.ts";
import type { Dtype } from "../dtype.ts";
import { AppError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";

/** A model as its config.json and the headers of its tensors describe it. */
export interface DescribedModel {
  readonly config: JsonObject;
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly dtype: Dtype }>;
}

export interface ConfigComparison {
  readonly same: boolean;
  /** What differs where they are not the same; else what differs and does not matter. Empty: nothing. */
  readonly detail: string;
}

/** Fields that do not change what the weights compute, with why; they may differ, and the report says that they do. */
const HARMLESS: Readonly<Record<string, string>> = {
  transformers_version: "the version that wrote the file",
  _name_or_path: "where it was loaded from",
  torch_dtype: "the types are those of the tensors",
  dtype: "the types are those of the tensors",
  use_cache: "speed only",
  auto_map: "which class loads it by default",
  tie_word_embeddings: "checked with the tied weights",
  _attn_implementation: "which kernels run",
  _attn_implementation_autoset: "which kernels run",
  attn_implementation: "which kernels run",
  experts_implementation: "which kernels run",
  gradient_checkpointing: "training only",
  initializer_range: "training only",
  attention_dropout: "training only",
  hidden_dropout: "training only",
  hidden_dropout_prob: "training only",
  attention_probs_dropout_prob: "training only",
  resid_pdrop: "training only",
  embd_pdrop: "training only",
  attn_pdrop: "training only",
  classifier_dropout: "training only",
  router_aux_loss_coef: "training only",
  output_router_logits: "training only",
  router_jitter_noise: "training only",
  output_attentions: "what is returned besides",
  output_hidden_states: "what is returned besides",
  return_dict: "how it is returned",
  torchscript: "how it is exported",
  pretraining_tp: "how sums are split",
  label2id: "names of classes",
  id2label: "names of classes",
  finetuning_task: "a remark",
  problem_type: "training only",
  unsloth_fixed: "a remark of Unsloth",
  unsloth_version: "a remark of Unsloth",
  model_name: "a remark of Unsloth",
  bos_token_id: "used when text is generated",
  eos_token_id: "used when text is generated",
};

/** The two spellings of how positions are turned into angles. */
const ROPE = ["rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq"];

/**
 * Whether two config.json describe the same computation. Fields are compared one by one; where some differ, and the
 * forward pass of the family is known, what both make of it decides. `null` and an absent field are the same, and so
 * are `rope_theta` with `rope_scaling` and `rope_parameters`.
 */
export function compareConfigs(planned: DescribedModel, candidate: DescribedModel): ConfigComparison {
  const fields = differingFields(planned.config, candidate.config);
  const harmless = fields.filter((field) => Object.hasOwn(HARMLESS, field));
  const telling = fields.filter((field) => !Object.hasOwn(HARMLESS, field));
  const remarks = harmless.map((field) => `${field} (${HARMLESS[field]})`);
  if (telling.length === 0) return { same: true, detail: list(remarks) };
  const judged = judgedByModel(planned, candidate);
  if (judged === null) {
    const detail = list(telling.map((field) => described(field, planned.config, candidate.config)));
    return { same: false, detail };
  }
  if (judged !== "") return { same: false, detail: judged };
  return { same: true, detail: list([...telling.map((f) => `${f} (the same computation)`), ...remarks]) };
}

const list = (parts: readonly string[]) => parts.slice(0, 12).join(", ") + (parts.length > 12 ? ", …" : "");

function differingFields(left: JsonObject, right: JsonObject): string[] {
  const [a, b] = [comparable(left), comparable(right)];
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return names.filter((name) => canonical(a[name] ?? null) !== canonical(b[name] ?? null));
}

function comparable(config: JsonObject): JsonObject {
  const rest = Object.fromEntries(Object.entries(config).filter(([name]) => !ROPE.includes(name)));
  const text = isJsonObject(config.text_config) ? { text_config: comparable(config.text_config) } : {};
  return { ...rest, ...text, rope: ropeOf(config) };
}

/** What positions are turned by, in one spelling. */
function ropeOf(config: JsonObject): Json {
  const parameters = isJsonObject(config.rope_parameters) ? config.rope_parameters : null;
  if (parameters && Object.values(parameters).every(isJsonObject) && Object.keys(parameters).length > 0) {
    const layers = Object.entries(parameters as Record<string, JsonObject>);
    return Object.fromEntries(layers.map(([name, own]) => [name, ropeTable(own, config)]));
  }
  const scaling = isJsonObject(config.rope_scaling) ? config.rope_scaling : null;
  const table = ropeTable({ ...scaling, ...parameters }, config);
  const local = config.rope_local_base_freq;
  if (local === undefined || local === null) return table;
  // Gemma 3: its sliding layers turn by another base, unscaled.
  return { full_attention: table, sliding_attention: { rope_theta: local, rope_type: "default" } };
}

function ropeTable(own: JsonObject, config: JsonObject): JsonObject {
  const { type, rope_type, ...rest } = own;
  const theta = own.rope_theta ?? config.rope_theta ?? null;
  return { ...rest, rope_theta: theta, rope_type: rope_type ?? type ?? "default" };
}

/** JSON text that does not depend on the order of fields; fields that are null are left out. */
function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  const fields = Object.entries(value).filter(([, of]) => of !== null && of !== undefined);
  const sorted = fields.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${sorted.map(([name, of]) => `${JSON.stringify(name)}:${canonical(of)}`).join()}}`;
}

/** Empty: both describe the same computation; a text: they do not; null: this family's is not known. */
function judgedByModel(planned: DescribedModel, candidate: DescribedModel): string | null {
  try {
    const [left, right] = [planned, candidate].map(({ config, tensors }) =>
      rolesOf(readModelSpec(config, tensors)),
    );
    requireSameModel(left!, right!);
    return "";
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return error.code === "MODEL_DIFFERS" ? error.message : null;
  }
}

function described(field: string, planned: JsonObject, candidate: JsonObject): string {
  const [a, b] = [comparable(planned), comparable(candidate)];
  const short = (value: Json | undefined) => {
    const text = value === undefined ? "absent" : JSON.stringify(value);
    return text.length > 60 ? `${text.slice(0, 57)}…` : text;
  };
  return `${field} is ${short(b[field])} instead of ${short(a[field])}`;
}
