import { isJsonObject, type JsonObject } from "../../core/json.ts";
import { badTokenizer, unsupported } from "../../core/tokenizer-json/parts.ts";
import { libraryParts } from "./library.ts";

/** White space as Unicode and the tokenizers library know it; JavaScript's `\s` has U+FEFF and lacks U+0085. */
export const WHITE_SPACE = "\\p{White_Space}";
/** `\w` of Rust's regular expressions. */
export const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d";

export function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

/**
 * The pattern of a Split or Replace part: `{"String": …}` taken literally, or `{"Regex": …}` in Oniguruma's syntax, which
 * @huggingface/tokenizers rewrites. Constructs that it would read as something else are refused before.
 */
export function readPattern(part: JsonObject): RegExp {
  const { pattern } = part;
  if (isJsonObject(pattern) && Object.keys(pattern).length === 1) {
    if (typeof pattern.String === "string") {
      if (pattern.String === "") throw unsupported(`a ${String(part.type)} of nothing`);
      return new RegExp(escapePattern(pattern.String), "gu");
    }
    if (typeof pattern.Regex === "string") return compile(pattern.Regex);
  }
  throw badTokenizer(`a ${String(part.type)} has neither a String nor a Regex as its pattern`);
}

function compile(regex: string): RegExp {
  const outside = regex.replace(/\\./gs, "\\.").replace(/\[[^\]]*\]/g, "[]");
  // Possessive and atomic: not in JavaScript, and dropping them changes where `\s++$` matches. Inline flags likewise.
  const foreign = /[*+?]\+|\(\?>|\(\?(?![:=!]|<[=!]|i:)/.exec(outside) ?? /\\[GKRXONky]|\\[1-9]/.exec(regex);
  if (foreign) throw unsupported(`its pattern ${JSON.stringify(regex)} uses ${foreign[0]}`);
  try {
    return libraryParts({
      preTokenizer: {
        type: "Split",
        pattern: { Regex: ignoringCase(regex) },
        behavior: "Isolated",
        invert: false,
      },
    }).pattern;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw unsupported(`its pattern ${JSON.stringify(regex)} cannot be read (${error.message})`);
  }
}

/** Letters that Unicode folds to an ASCII letter. */
const FOLDS: Readonly<Record<string, string>> = { s: "ſ", k: "\u212a" };

/**
 * Writes `(?i:'s|'re)` out as `(?:'[sSſ]|'[rR][eE])`: Oniguruma folds all of Unicode, and what rewrites it for
 * JavaScript folds ASCII only. Groups with more in them than letters, and pairs of letters that a ligature folds to
 * ("ss", "st", "ff", "fi", "fl"), are refused.
 */
function ignoringCase(regex: string): string {
  return regex.replace(/\(\?i:([^()]*)(.?)/gs, (group, body: string, end: string) => {
    if (end !== ")" || !/^(?:['’|a-zA-Z]|\[[a-zA-Z]+\])*$/.test(body) || /ss|st|ff|fi|fl/i.test(body)) {
      throw unsupported(`its pattern has the group ${JSON.stringify(group)}, which ignores case`);
    }
    const cases = (letter: string) => {
      const low = letter.toLowerCase();
      return low + low.toUpperCase() + (FOLDS[low] ?? "");
    };
    const written = body.replace(
      /\[[a-zA-Z]+\]|[a-zA-Z]/g,
      (atom) => `[${atom.replace(/[a-zA-Z]/g, cases).replace(/[[\]]/g, "")}]`,
    );
    return `(?:${written})`;
  });
}
