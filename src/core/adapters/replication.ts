import type { LocatedTensor } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "../json.ts";
import { badField } from "./module-names.ts";

/** A base whose layers stand in another order, some of them more than once. */
export interface Replication {
  /** Every output tensor, by its name in the output. */
  readonly base: ReadonlyMap<string, LocatedTensor>;
  /** Output tensor → base tensor that it starts from. */
  readonly origins: ReadonlyMap<string, string>;
  /** Fields of config.json that change with the number of layers. */
  readonly config: Readonly<Record<string, Json>>;
}

export interface ReplicationRequest {
  /** adapter_config.json. */
  readonly adapter: JsonObject;
  readonly base: ReadonlyMap<string, LocatedTensor>;
  /** config.json of the base. */
  readonly config: JsonObject;
}

/** Where PEFT looks for the list of layers: Llama's, BERT's and Falcon's names. */
const LAYER = /^((?:.*?\.)?(?:layers|encoder\.layer|h))\.(\d+)\.(.+)$/;

/** How often config.json names the number of layers, by family. */
const COUNT_FIELDS = ["num_hidden_layers", "n_layer", "n_layers", "num_layers"];

/**
 * LoRA's `layer_replication`: ranges [start, end) of the base's layers, one after the other, are the layers of the
 * output. Layer i starts from base layer map[i] and takes the adapter's change for layer i alone. PEFT shares one weight
 * among the copies of a layer, and its merge adds every copy's change to it; before merging each copy has its own.
 * @returns `null` where the adapter replicates nothing, or cannot be read (reported)
 */
export function replicate(request: ReplicationRequest, report: Report): Replication | null {
  const ranges = request.adapter.layer_replication;
  if (isUnset(ranges)) return null;
  const layers = layersOf(request.base, report);
  if (layers === null) return null;
  const map = layerMap(ranges!, layers.count, report);
  if (map === null) return null;
  const unclear = patternField(request.config);
  if (unclear !== null) {
    report(
      refused(
        `the base's layers differ by their position (${unclear} in config.json): repeated layers would change their kind. Save the base with a current transformers, which lists layer_types, or merge without layer_replication.`,
      ),
    );
    return null;
  }
  return {
    ...outputs(request.base, layers.prefix, map),
    config: countFields(request.config, layers.count, map),
  };
}

function refused(why: string): Finding {
  return {
    code: "UNSUPPORTED_REPLICATION",
    subject: "layer_replication",
    message: `layer_replication: ${why}`,
  };
}

function layersOf(base: ReplicationRequest["base"], report: Report) {
  const found = new Map<string, Set<number>>();
  for (const name of base.keys()) {
    const match = LAYER.exec(name);
    if (match) found.set(match[1]!, (found.get(match[1]!) ?? new Set()).add(Number(match[2])));
  }
  if (found.size !== 1) {
    const what = found.size === 0 ? "none" : [...found.keys()].join(", ");
    report(refused(`the base must have one list of layers (layers, encoder.layer or h), found ${what}.`));
    return null;
  }
  const [[prefix, numbers]] = [...found] as [[string, Set<number>]];
  return { prefix, count: Math.max(...numbers) + 1 };
}

/** The deepest models have a few hundred. */
const MAX_LAYERS = 2000;

/** The base layer of each output layer. */
function layerMap(ranges: Json, count: number, report: Report): number[] | null {
  const isRange = (range: Json): range is [number, number] =>
    Array.isArray(range) &&
    range.length === 2 &&
    range.every((end) => Number.isSafeInteger(end)) &&
    (range[0] as number) >= 0 &&
    (range[0] as number) < (range[1] as number) &&
    (range[1] as number) <= count;
  if (!Array.isArray(ranges) || !ranges.every(isRange)) {
    report(
      badField(
        "layer_replication",
        ranges,
        `a list of ranges [start, end) within the base's ${count} layers`,
      ),
    );
    return null;
  }
  const total = (ranges as [number, number][]).reduce((sum, [start, end]) => sum + end - start, 0);
  if (total > MAX_LAYERS) {
    report(refused(`its ranges make a model of ${total} layers, the limit is ${MAX_LAYERS}.`));
    return null;
  }
  return (ranges as [number, number][]).flatMap(([start, end]) =>
    Array.from({ length: end - start }, (_, i) => start + i),
  );
}

/** In the order of the base, so that every copy of a layer goes into the shard of the layer that it starts from. */
function outputs(base: ReplicationRequest["base"], prefix: string, map: readonly number[]) {
  const tensors = new Map<string, LocatedTensor>();
  const origins = new Map<string, string>();
  const copies = new Map<number, number[]>();
  for (const [i, layer] of map.entries()) copies.set(layer, [...(copies.get(layer) ?? []), i]);
  for (const [name, tensor] of base) {
    const match = LAYER.exec(name);
    const names =
      match?.[1] === prefix
        ? (copies.get(Number(match[2])) ?? []).map((i) => `${prefix}.${i}.${match[3]}`)
        : [name];
    for (const output of names) {
      tensors.set(output, { ...tensor, name: output });
      origins.set(output, name);
    }
  }
  return { base: tensors, origins };
}

/** The number of layers, and lists with an entry for each layer. */
function countFields(config: JsonObject, count: number, map: readonly number[]): Record<string, Json> {
  const changes: Record<string, Json> = {};
  const text = isJsonObject(config.text_config) ? config.text_config : {};
  for (const fields of [config, text]) {
    for (const [field, value] of Object.entries(fields)) {
      if (COUNT_FIELDS.includes(field)) changes[field] = map.length;
      if (isPerLayer(field, value, count)) changes[field] = map.map((layer) => (value as Json[])[layer]!);
    }
  }
  return Object.keys(changes).some((field) => COUNT_FIELDS.includes(field))
    ? changes
    : { ...changes, num_hidden_layers: map.length };
}

const isPerLayer = (field: string, value: Json, count: number) =>
  field.includes("layer") && Array.isArray(value) && value.length === count;

/** Fields by which transformers tells a layer's kind from its number; any other value than the given means they differ. */
const BY_POSITION: Readonly<Record<string, Json>> = {
  sliding_window_pattern: 1,
  _sliding_window_pattern: 1,
  first_k_dense_replace: 0,
  decoder_sparse_step: 1,
  interleave_moe_layer_step: 1,
  attn_layer_period: 1,
  expert_layer_period: 1,
  full_attention_interval: 1,
};
/** Families that tell layers apart by number where config.json does not list them. */
const ALTERNATING = new Set(
  "gemma2 gemma3 gemma3_text gemma3n gemma3n_text cohere2 gpt_oss llama4 llama4_text qwen3_next smollm3 exaone4".split(
    " ",
  ),
);

/** What makes layers differ by position without a list that could be reordered; `null` where nothing does. */
function patternField(config: JsonObject): string | null {
  const text = isJsonObject(config.text_config) ? config.text_config : {};
  const fields: JsonObject = { ...config, ...text };
  if (Array.isArray(fields.mlp_only_layers) && fields.mlp_only_layers.length > 0) return "mlp_only_layers";
  if (Array.isArray(fields.layer_types) || Array.isArray(fields.no_rope_layers)) return null;
  for (const [field, plain] of Object.entries(BY_POSITION)) {
    if (!isUnset(fields[field]) && fields[field] !== plain) return field;
  }
  if (fields.use_sliding_window === true && !isUnset(fields.max_window_layers)) return "max_window_layers";
  const modelType = typeof config.model_type === "string" ? config.model_type : "";
  return ALTERNATING.has(modelType) ? `model_type ${modelType} without layer_types` : null;
}
