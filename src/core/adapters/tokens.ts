import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import type { Finding, Report } from "../errors.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "../json.ts";
import { badField } from "./module-names.ts";

/** Whole rows that an adapter puts in the place of rows of an embedding. */
export interface TokenRows {
  readonly module: string;
  /** The matrix, as the output has it before. */
  readonly place: LocatedTensor;
  readonly rows: readonly number[];
  readonly to: TensorFacts;
}

export interface RowsRequest {
  readonly module: string;
  readonly place: LocatedTensor;
  readonly to: TensorFacts;
  /** adapter_config.json. */
  readonly config: JsonObject;
}

/** LoRA's field, and that of the method of its own. */
const fieldOf = (config: JsonObject) =>
  config.peft_type === "TRAINABLE_TOKENS" ? "token_indices" : "trainable_token_indices";

/**
 * `trainable_tokens_delta` (n×d): row i of it takes the place of row `indices[i]` of the embedding (PEFT's
 * `index_copy`; the name says delta, the rows are whole). Indices are a list, or one list for each module by the end of
 * its name.
 * @returns `null` where they do not fit (reported)
 */
export function readTokenRows({ module, place, to, config }: RowsRequest, report: Report): TokenRows | null {
  const field = fieldOf(config);
  const indices = indicesOf(config[field], module);
  if (indices === undefined) {
    report(
      problem(
        to.name,
        `adapter tensor "${to.name}" replaces rows of ${module}, but ${field} names no tokens for it. Restore the config that belongs to these weights.`,
      ),
    );
    return null;
  }
  const rows = readIndices(indices, { field, count: place.shape[0] ?? 0 }, report);
  if (rows === null) return null;
  const fits =
    place.shape.length === 2 &&
    to.shape.length === 2 &&
    to.shape[0] === rows.length &&
    to.shape[1] === place.shape[1];
  if (!fits) {
    report({
      code: "SHAPE_MISMATCH",
      subject: to.name,
      message: `adapter tensor "${to.name}" is [${to.shape}]; ${field} names ${rows.length} tokens, and the rows of ${place.name} [${place.shape}] must fit. Restore the config that belongs to these weights, or name the base they were trained on.`,
    });
    return null;
  }
  return { module, place, rows, to };
}

const problem = (subject: string, message: string): Finding => ({ code: "MISSING_FIELD", subject, message });

function indicesOf(value: Json | undefined, module: string): Json | undefined {
  if (Array.isArray(value)) return value;
  if (!isJsonObject(value)) return undefined;
  // PEFT matches the end of the name as text, from the first entry on.
  const key = Object.keys(value).find((name) => module.endsWith(name));
  return key === undefined ? undefined : value[key];
}

function readIndices(
  value: Json,
  { field, count }: { field: string; count: number },
  report: Report,
): number[] | null {
  const valid =
    Array.isArray(value) &&
    value.every(
      (index) => Number.isSafeInteger(index) && (index as number) >= 0 && (index as number) < count,
    ) &&
    new Set(value).size === value.length;
  if (valid) return value as number[];
  report(badField(field, value, `different rows of the embedding, which has ${count}`));
  return null;
}

export interface TokensLeft {
  readonly config: JsonObject;
  /** Modules for which the file has rows. */
  readonly modules: readonly string[];
  /** Module of a head that is tied to the embedding: PEFT stores the rows of both once. */
  readonly tiedHead: string | null;
}

/** Tokens that the config names and the file has no rows for. */
export function missingTokenRows({ config, modules, tiedHead }: TokensLeft): Finding[] {
  const field = fieldOf(config);
  const value = config[field];
  if (isUnset(value)) return [];
  const lacking = isJsonObject(value)
    ? Object.keys(value).filter(
        (name) =>
          !modules.some((module) => module.endsWith(name)) &&
          !(tiedHead?.endsWith(name) && modules.length > 0 && sameAsOther(value, name)),
      )
    : modules.length === 0
      ? ["the embedding"]
      : [];
  return lacking.map((module) => ({
    code: "MISSING_TENSOR",
    subject: field,
    message: `adapter_config.json trains single tokens of ${module} (${field}), but the adapter file holds no rows for them: the file is incomplete, save it again.`,
  }));
}

const sameAsOther = (value: JsonObject, name: string) =>
  Object.entries(value).some(
    ([other, indices]) => other !== name && JSON.stringify(indices) === JSON.stringify(value[name]),
  );
