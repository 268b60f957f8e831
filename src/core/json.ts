import { AppError } from "./errors.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** Far deeper than any real config; what reads JSON recursively would run out of stack on a crafted one. */
const MAX_DEPTH = 100;

/** Whether braces and brackets outside of strings nest deeper than `MAX_DEPTH`. */
export function nestsTooDeep(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x7b || c === 0x5b) {
      if (++depth > MAX_DEPTH) return true;
    } else if (c === 0x7d || c === 0x5d) depth--;
    else if (c === 0x22) {
      i++;
      while (i < text.length && text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
    }
  }
  return false;
}

/** Parses a JSON file that must hold an object; BAD_JSON names the file and the parser's complaint. */
export function parseJsonObject(text: string, file: string): JsonObject {
  if (nestsTooDeep(text)) {
    throw new AppError(
      "BAD_JSON",
      `${file} nests deeper than ${MAX_DEPTH} levels. Restore the file from its source.`,
    );
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
