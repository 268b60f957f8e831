import { AppError } from "./errors.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Far deeper than any real config; what reads JSON recursively would run out of stack on a crafted one. */
const MAX_DEPTH = 100;

export interface JsonLimits {
  /** Lists and objects. */
  readonly containers: number;
  /** Commas, which are a little fewer than values. */
  readonly commas: number;
}

/** An index of the 200,000 tensors that a checkpoint may have stays below. */
const MAX_JSON: JsonLimits = { containers: 300_000, commas: 1_000_000 };
/** A tokenizer.json of a million tokens stays below. */
export const TOKENIZER_JSON: JsonLimits = { containers: 2_000_000, commas: 5_000_000 };

/**
 * Why a text is no JSON that should be parsed: it nests deeper than `MAX_DEPTH`, or holds more values than a limit, each
 * of which takes tens of bytes once it is parsed. `null`: nothing is wrong so far. Looks outside of strings only.
 */
export function jsonExcess(text: string, limits: JsonLimits): string | null {
  let depth = 0;
  let containers = 0;
  let commas = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x7b || c === 0x5b) {
      containers++;
      if (++depth > MAX_DEPTH) return `nests deeper than ${MAX_DEPTH} levels`;
    } else if (c === 0x7d || c === 0x5d) depth--;
    else if (c === 0x2c) commas++;
    else if (c === 0x22) {
      i++;
      while (i < text.length && text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
    }
  }
  if (containers > limits.containers) {
    return `holds ${containers} lists and objects, the limit is ${limits.containers}`;
  }
  return commas > limits.commas ? `holds ${commas} values, the limit is ${limits.commas}` : null;
}

/** Parses a JSON file that must hold an object; BAD_JSON names the file and the parser's complaint. */
export function parseJsonObject(text: string, file: string, limits: JsonLimits = MAX_JSON): JsonObject {
  const excess = jsonExcess(text, limits);
  if (excess !== null) {
    throw new AppError("BAD_JSON", `${file} ${excess}. Restore the file from its source.`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError("BAD_JSON", `${file} is not valid JSON: ${why}. Restore the file from its source.`);
  }
  if (!isJsonObject(value)) {
    throw new AppError("BAD_JSON", `${file} must hold a JSON object, found ${describe(value)}.`);
  }
  return value;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  return Array.isArray(value) ? "an array" : value === null ? "null" : `a ${typeof value}`;
}

/** The value PEFT writes for "not set": null, false, 0, "", [] or {}. Such a field cannot change a merge. */
export function isUnset(value: Json | undefined): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}
