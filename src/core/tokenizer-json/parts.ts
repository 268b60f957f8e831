import { AppError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";

/*
 * A tokenizer.json is a chain of parts, each `{"type": …, settings}`. What is not known to give the very ids that the
 * tokenizers library of transformers gives is refused by name: other ids would make every number of a report one of
 * another text. Messages are put behind the file's path by whoever opened it.
 */

/** A part or setting that is valid, but not reproduced here. */
export function unsupported(what: string): AppError {
  return new AppError(
    "UNSUPPORTED_TOKENIZER",
    `${what}. Ids that transformers would give cannot be promised, so no text is tokenized; give token ids instead.`,
  );
}

/** Contents that transformers would not load, or would load as something else than they say. */
export function badTokenizer(what: string): AppError {
  return new AppError("BAD_TOKENIZER", `${what}. Restore the file from its source.`);
}

/** A part of a chain, its type, and nothing in it that is not known. */
export function readPart(value: Json | undefined, place: string): { type: string; part: JsonObject } {
  if (!isJsonObject(value) || typeof value.type !== "string") {
    throw badTokenizer(`its ${place} is not an object with a type`);
  }
  return { type: value.type, part: value };
}

/** Refuses settings beyond the ones named: each may change ids. */
export function onlyFields(part: JsonObject, place: string, known: readonly string[]): void {
  const other = Object.keys(part).find((field) => field !== "type" && !known.includes(field));
  if (other !== undefined) throw unsupported(`its ${place} ${String(part.type)} has the setting "${other}"`);
}

export function partList(value: Json | undefined, place: string): readonly Json[] {
  if (!Array.isArray(value)) throw badTokenizer(`its ${place} has no list of parts`);
  return value;
}

export function readBoolean(part: JsonObject, field: string, fallback: boolean): boolean {
  const value = part[field] ?? fallback;
  if (typeof value !== "boolean")
    throw badTokenizer(`"${field}" of ${String(part.type)} is not true or false`);
  return value;
}

export function readString(part: JsonObject, field: string, fallback?: string): string {
  const value = part[field] ?? fallback;
  if (typeof value !== "string") throw badTokenizer(`"${field}" of ${String(part.type)} is not a string`);
  return value;
}

export function readCount(part: JsonObject, field: string): number {
  const value = part[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw badTokenizer(`"${field}" of ${String(part.type)} is not a count`);
  }
  return value;
}
