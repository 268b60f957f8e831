import { type CheckpointFacts, CONFIG_FILE } from "./checkpoint.ts";
import { elementCount } from "./dtype.ts";
import { isJsonObject, type Json, type JsonObject } from "./json.ts";
import type { PlannedFile } from "./plan.ts";
import type { Layout } from "./plan-layout.ts";

/** config.json with some fields changed, where any are; other fields keep their order. */
export function changedConfig(
  { config }: Pick<CheckpointFacts, "config">,
  changes: Readonly<Record<string, Json>>,
): PlannedFile[] {
  if (Object.keys(changes).length === 0) return [];
  return [made(CONFIG_FILE, withFields(config, changes))];
}

/**
 * Multimodal configs keep the language model's fields in text_config, some of them in both places, and older ones say
 * torch_dtype: a field is changed wherever it stands, and added at the top where it stands nowhere.
 */
function withFields(config: JsonObject, changes: Readonly<Record<string, Json>>): JsonObject {
  const result: Record<string, Json> = { ...config };
  const text = isJsonObject(config.text_config) ? { ...config.text_config } : null;
  for (const [field, value] of Object.entries(changes)) {
    const names = field === "dtype" ? ["dtype", "torch_dtype"] : [field];
    let placed = false;
    for (const place of text ? [result, text] : [result]) {
      for (const name of names) {
        if (!Object.hasOwn(place, name)) continue;
        place[name] = value;
        placed = true;
      }
    }
    if (!placed)
      (text && field !== "dtype" && field !== "tie_word_embeddings" ? text : result)[field] = value;
  }
  if (text) result.text_config = text;
  return result;
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
