import { type CheckpointFacts, CONFIG_FILE } from "./checkpoint.ts";
import { elementCount } from "./dtype.ts";
import { isJsonObject, type Json, type JsonObject } from "./json.ts";
import type { JsonEdit } from "./json-edit.ts";
import type { PlannedFile } from "./plan.ts";
import type { Layout } from "./plan-layout.ts";

/** config.json with some fields changed, where any are; all else of the base's file stays as it is, byte for byte. */
export function changedConfig(
  { config, files }: Pick<CheckpointFacts, "config" | "files">,
  changes: Readonly<Record<string, Json>>,
): PlannedFile[] {
  const edits = Object.entries(changes).flatMap(([field, value]) => editsOf(config, field, value));
  if (edits.length === 0) return [];
  const size = files.find(({ path }) => path === CONFIG_FILE)?.size ?? 0;
  const added = edits.reduce((sum, edit) => sum + JSON.stringify(edit, null, 2).length, 0);
  return [{ path: CONFIG_FILE, from: "plan", size: size + added, edits }];
}

/** Names of a field: older configs call the storage type torch_dtype. */
const NAMES: Readonly<Record<string, readonly string[]>> = { dtype: ["dtype", "torch_dtype"] };

/**
 * Multimodal configs keep the language model's fields in text_config, some of them in both places, and their storage
 * type for each part: a field is changed wherever it stands. Where it stands nowhere it is added with the language
 * model's. The tie of embeddings is always stated at the top, where transformers looks for it first.
 */
function editsOf(config: JsonObject, field: string, value: Json): JsonEdit[] {
  const names = NAMES[field] ?? [field];
  const inner = Object.keys(config).filter((name) =>
    field === "dtype" ? isJsonObject(config[name]) : name === "text_config" && isJsonObject(config[name]),
  );
  const places: string[][] = [[], ...inner.map((name) => [name])];
  const edits = places.flatMap((place) => {
    const object = (place[0] === undefined ? config : config[place[0]]) as JsonObject;
    return names
      .filter((name) => Object.hasOwn(object, name))
      .map((name) => ({ path: [...place, name], value }));
  });
  const atTop = field === "tie_word_embeddings" || field === "dtype" || !isJsonObject(config.text_config);
  const stated =
    field === "tie_word_embeddings" ? edits.some(({ path }) => path.length === 1) : edits.length > 0;
  return stated ? edits : [...edits, { path: atTop ? [field] : ["text_config", field], value }];
}

/** The shard index for a layout other than the base's. */
export function changedIndex({ index }: Pick<CheckpointFacts, "index">, layout: Layout): PlannedFile[] {
  if (!index || layout.sameIndex) return [];
  const map = Object.fromEntries(layout.steps.map((step) => [step.tensor, step.file]).sort());
  const metadata = {
    ...index.metadata,
    total_size: layout.steps.reduce((total, step) => total + step.bytes, 0),
    ...(Object.hasOwn(index.metadata, "total_parameters") && {
      total_parameters: layout.steps.reduce((total, step) => total + elementCount(step.shape), 0),
    }),
  };
  return [made(index.path, { metadata, weight_map: map })];
}

function made(path: string, json: JsonObject): PlannedFile {
  const content = `${JSON.stringify(json, null, 2)}\n`;
  return { path, from: "plan", size: new TextEncoder().encode(content).byteLength, content };
}
