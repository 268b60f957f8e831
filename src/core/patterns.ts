import { RE2JS } from "re2js";
import type { Report } from "./errors.ts";

/**
 * Regular expressions from adapter configs, written by strangers for Python's `re`. They run in RE2's linear-time
 * engine: the built-in one can be held up for hours by a crafted pattern. Syntax that RE2 lacks is refused by name.
 */
export interface Pattern {
  /** Python's `re.fullmatch`. */
  matchesAll(text: string): boolean;
}

/** Reports UNSUPPORTED_PATTERN with the field, the pattern and what RE2 says of it, and then matches nothing. */
export function compilePattern(pattern: string, field: string, report: Report): Pattern {
  try {
    const compiled = RE2JS.compile(pattern);
    return { matchesAll: (text) => compiled.matcher(text).matches() };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({
      code: "UNSUPPORTED_PATTERN",
      subject: field,
      message:
        `${field}: the pattern ${JSON.stringify(pattern)} cannot run in linear time (${why}). ` +
        "Rewrite it without look-around and back-references, or list the module names.",
    });
    return { matchesAll: () => false };
  }
}

/** PEFT's rule for a key of rank_pattern and alpha_pattern: `(.*\.)?(KEY)$` from the start of the name. */
export function compilePatternKey(key: string, field: string, report: Report): Pattern {
  return compilePattern(`(?:.*\\.)?(?:${key})`, field, report);
}

/** Value of the first key, in the dict's order, that matches the module name; else the fallback. */
export function firstMatch<T>(
  patterns: readonly { readonly pattern: Pattern; readonly value: T }[],
  module: string,
  fallback: T,
): T {
  return patterns.find(({ pattern }) => pattern.matchesAll(module))?.value ?? fallback;
}
