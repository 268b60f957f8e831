import { RE2JS } from "re2js";
import { AppError, type Report } from "./errors.ts";

/**
 * Regular expressions from adapter configs, written by strangers for Python's `re`. They run in RE2's linear-time
 * engine: the built-in one can be held up for hours by a crafted pattern. Syntax that RE2 lacks is refused by name.
 */
export interface Pattern {
  /** Python's `re.fullmatch`. */
  matchesAll(text: string): boolean;
}

/** Far longer than any pattern that a tool or a person writes; a match takes time in proportion to it. */
const MAX_PATTERN = 10_000;
/** Regular expressions in one field, such as rank_pattern; plain names do not count. */
const MAX_PATTERNS = 200;
/** Length of a pattern times length of a text, over all its matches: seconds, where honest ones take milliseconds. */
const MAX_WORK = 2e9;

/** Reports UNSUPPORTED_PATTERN with the field, the pattern and what RE2 says of it, and then matches nothing. */
export function compilePattern(pattern: string, field: string, report: Report): Pattern {
  try {
    if (pattern.length > MAX_PATTERN) throw new Error(`it has ${pattern.length} characters`);
    const compiled = RE2JS.compile(pattern);
    let work = 0;
    const matchesAll = (text: string) => {
      work += pattern.length * text.length;
      if (work > MAX_WORK)
        throw new AppError("UNSUPPORTED_PATTERN", unusable(pattern, field, "it takes too long"));
      return compiled.matcher(text).matches();
    };
    return { matchesAll };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({ code: "UNSUPPORTED_PATTERN", subject: field, message: unusable(pattern, field, why) });
    return NOTHING;
  }
}

const NOTHING: Pattern = { matchesAll: () => false };

function unusable(pattern: string, field: string, why: string): string {
  return (
    `${field}: the pattern ${JSON.stringify(pattern.slice(0, 200))} cannot run in linear time (${why.slice(0, 200)}). ` +
    "Rewrite it without look-around and back-references, or list the module names."
  );
}

/** Names in which "." is the only character that a regular expression reads as anything but itself. */
const PLAIN = /^[\w.-]*$/;

/**
 * PEFT's rule for a key of rank_pattern and alpha_pattern: `(.*\.)?(KEY)$` from the start of the name. Most keys are
 * names, and are compared as such: thousands of them meet thousands of modules.
 */
export function compilePatternKey(key: string, field: string, report: Report): Pattern {
  const compile = () => compilePattern(`(?:.*\\.)?(?:${key})`, field, report);
  return PLAIN.test(key) ? plain((text) => endsWithKey(text, key), compile) : compile();
}

/** PEFT's rule for an entry of modules_to_save: the name of a module, anywhere in a path; a regular expression as well. */
export function compilePathPart(name: string, field: string, report: Report): Pattern {
  const compile = () => compilePattern(`(?:.*\\.)?(?:${name})(?:\\..*)?`, field, report);
  const isPart = (text: string) => `.${text}.`.includes(`.${name}.`);
  return PLAIN.test(name) && !name.includes(".") ? plain(isPart, compile) : compile();
}

/** In Python's "." is any character but the end of a line; names with one are left to the engine. */
function plain(matches: (text: string) => boolean, compile: () => Pattern): Pattern {
  return { matchesAll: (text) => (text.includes("\n") ? compile().matchesAll(text) : matches(text)) };
}

function endsWithKey(text: string, key: string): boolean {
  const start = text.length - key.length;
  if (start < 0 || (start > 0 && text[start - 1] !== ".")) return false;
  for (let i = 0; i < key.length; i++) {
    if (key[i] !== "." && key[i] !== text[start + i]) return false;
  }
  return true;
}

/** The patterns that are taken of a field: more regular expressions than any tool writes are refused, and none taken. */
export function limitPatterns(patterns: readonly string[], field: string, report: Report): readonly string[] {
  const expressions = patterns.filter((pattern) => !PLAIN.test(pattern));
  const length = expressions.reduce((sum, pattern) => sum + pattern.length, 0);
  if (expressions.length <= MAX_PATTERNS && length <= MAX_PATTERN) return patterns;
  report({
    code: "UNSUPPORTED_PATTERN",
    subject: field,
    message: `${field} has ${expressions.length} regular expressions of ${length} characters, the limit is ${MAX_PATTERNS} of ${MAX_PATTERN} in all: list the module names.`,
  });
  return [];
}

/** Value of the first key, in the dict's order, that matches the module name; else the fallback. */
export function firstMatch<T>(
  patterns: readonly { readonly pattern: Pattern; readonly value: T }[],
  module: string,
  fallback: T,
): T {
  return patterns.find(({ pattern }) => pattern.matchesAll(module))?.value ?? fallback;
}
