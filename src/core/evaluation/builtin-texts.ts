import { CODE } from "./builtin-texts-code.ts";
import { DATA } from "./builtin-texts-data.ts";
import { DIALOGUE } from "./builtin-texts-dialogue.ts";
import { LANGUAGES } from "./builtin-texts-languages.ts";
import { PROSE } from "./builtin-texts-prose.ts";
import { textSet } from "./texts.ts";

const KINDS = [PROSE, DIALOGUE, CODE, DATA, LANGUAGES];

/** One of each kind in turn, so that the first few are as mixed as all of them. */
function inTurn(kinds: readonly (readonly string[])[]): string[] {
  const longest = Math.max(...kinds.map((texts) => texts.length));
  return Array.from({ length: longest }, (_, i) => kinds.flatMap((texts) => texts[i] ?? [])).flat();
}

/**
 * The texts of an evaluation where nobody gives any: 64 short documents of prose, dialogue, instructions, questions and
 * answers, programs, data, arithmetic and a dozen languages. Written for Graftwork and free to use under its licence,
 * Apache-2.0, so no model is known to have learnt them by heart. They are a general default: where merging changes what
 * an adapter was trained for, they may not show it, and texts of its own field do not become needless.
 */
export const BUILTIN_TEXTS = textSet(
  "built-in texts 1",
  inTurn(KINDS).map((text) => ({ text })),
);
