import type { Json, JsonObject } from "../../core/json.ts";
import {
  badTokenizer,
  onlyFields,
  partList,
  readBoolean,
  readPart,
  readString,
  unsupported,
} from "../../core/tokenizer-json/parts.ts";
import { bytesAsText } from "./byte-level.ts";
import type { CharacterTable } from "./characters.ts";
import { escapePattern, readPattern, WHITE_SPACE, WORD } from "./patterns.ts";

/** A piece of a text on its way to the model. */
export interface Piece {
  readonly text: string;
  /** Whether it begins where the whole text begins. */
  readonly first: boolean;
}

export interface PreTokenizer {
  readonly split: (pieces: readonly Piece[]) => readonly Piece[];
  readonly tables: ReadonlySet<CharacterTable>;
  /** Whether it matters that a piece is the first of a text. */
  readonly asksForBeginning: boolean;
}

type Step = (piece: Piece) => readonly Piece[];

/** How a tokenizer.json cuts a text into pieces. @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER */
export function readPreTokenizer(value: Json | undefined): PreTokenizer {
  const steps: Step[] = [];
  const tables = new Set<CharacterTable>();
  if (value !== null && value !== undefined) collect(value, steps, tables);
  return {
    tables,
    asksForBeginning: JSON.stringify(value ?? null).includes('"prepend_scheme":"first"'),
    split: (pieces) =>
      steps.reduce(
        (now, step) => now.flatMap(step).filter((piece) => piece.text !== ""),
        pieces.filter((piece) => piece.text !== ""),
      ),
  };
}

function collect(value: Json, steps: Step[], tables: Set<CharacterTable>): void {
  const { type, part } = readPart(value, "pre-tokenizer");
  if (type === "Sequence") {
    onlyFields(part, "pre-tokenizer", ["pretokenizers"]);
    for (const inner of partList(part.pretokenizers, "pre-tokenizer")) collect(inner, steps, tables);
    return;
  }
  const read = PRE_TOKENIZERS[type];
  if (!read) throw unsupported(`its pre-tokenizer ${type} is not known here`);
  onlyFields(part, "pre-tokenizer", read.fields);
  if (read.table) tables.add(read.table);
  steps.push(read.step(part));
}

/** What becomes of a match and of what lies around it. */
type Behavior = "Removed" | "Isolated" | "MergedWithPrevious" | "MergedWithNext" | "Contiguous";
const BEHAVIORS: readonly string[] = [
  "Removed",
  "Isolated",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
] satisfies Behavior[];

interface Cut {
  readonly begin: number;
  readonly end: number;
  readonly match: boolean;
}

/** Cuts a piece at every match; a part of a piece begins the text if the piece does and nothing lies before it. */
function cutAt(pattern: RegExp, behavior: Behavior, invert = false): Step {
  return ({ text, first }) => {
    const cuts: Cut[] = [];
    let from = 0;
    for (const found of text.matchAll(pattern)) {
      if (from < found.index) cuts.push({ begin: from, end: found.index, match: invert });
      from = found.index + found[0].length;
      if (found.index < from) cuts.push({ begin: found.index, end: from, match: !invert });
    }
    if (from < text.length) cuts.push({ begin: from, end: text.length, match: invert });
    return joined(cuts, behavior).map(({ begin, end }) => ({
      text: text.slice(begin, end),
      first: first && begin === 0,
    }));
  };
}

function joined(cuts: readonly Cut[], behavior: Behavior): readonly Cut[] {
  if (behavior === "Removed") return cuts.filter((cut) => !cut.match);
  if (behavior === "Isolated") return cuts;
  const backwards = behavior === "MergedWithNext";
  const result: Cut[] = [];
  let previous: boolean | null = null;
  for (const cut of backwards ? cuts.toReversed() : cuts) {
    const last = result.at(-1);
    const joins =
      behavior === "Contiguous"
        ? cut.match === previous
        : cut.match && previous !== true && last !== undefined;
    if (joins && last)
      result[result.length - 1] = {
        ...last,
        begin: Math.min(last.begin, cut.begin),
        end: Math.max(last.end, cut.end),
      };
    else result.push(cut);
    previous = cut.match;
  }
  return backwards ? result.reverse() : result;
}

interface Known {
  readonly fields: readonly string[];
  readonly table?: CharacterTable;
  readonly step: (part: JsonObject) => Step;
}

const PUNCTUATION = "[\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E]";
const plain = (source: string, behavior: Behavior, invert = false) => ({
  fields: [],
  step: () => cutAt(new RegExp(source, "gu"), behavior, invert),
});

const PRE_TOKENIZERS: Readonly<Record<string, Known>> = {
  ByteLevel: {
    fields: ["add_prefix_space", "trim_offsets", "use_regex"],
    table: "categories",
    step: byteLevel,
  },
  Metaspace: {
    fields: ["replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"],
    step: metaspace,
  },
  Split: {
    fields: ["pattern", "behavior", "invert"],
    table: "categories",
    step: (part) => cutAt(readPattern(part), readBehavior(part), readBoolean(part, "invert", false)),
  },
  WhitespaceSplit: plain(WHITE_SPACE, "Removed"),
  Whitespace: { ...plain(`[${WORD}]+|[^${WORD}${WHITE_SPACE}]+`, "Removed", true), table: "categories" },
  Digits: {
    fields: ["individual_digits"],
    table: "categories",
    step: (part) =>
      cutAt(/\p{N}/gu, readBoolean(part, "individual_digits", false) ? "Isolated" : "Contiguous"),
  },
  Punctuation: {
    fields: ["behavior"],
    table: "punctuation",
    step: (part) => cutAt(new RegExp(PUNCTUATION, "gu"), readBehavior(part)),
  },
  BertPreTokenizer: {
    fields: [],
    table: "punctuation",
    step: () => {
      const words = cutAt(new RegExp(WHITE_SPACE, "gu"), "Removed");
      const marks = cutAt(new RegExp(PUNCTUATION, "gu"), "Isolated");
      return (piece) => words(piece).flatMap(marks);
    },
  },
};

function readBehavior(part: JsonObject): Behavior {
  const behavior = readString(part, "behavior", "Isolated");
  if (!BEHAVIORS.includes(behavior)) throw unsupported(`its pre-tokenizer has the behavior ${behavior}`);
  return behavior as Behavior;
}

/** GPT-2's expression, with white space as Oniguruma knows it. */
const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

function byteLevel(part: JsonObject): Step {
  const prefix = readBoolean(part, "add_prefix_space", true);
  const split = readBoolean(part, "use_regex", true) ? cutAt(GPT2, "Isolated") : (piece: Piece) => [piece];
  return ({ text, first }) =>
    split({ text: prefix && !text.startsWith(" ") ? ` ${text}` : text, first }).map((piece) => ({
      ...piece,
      text: bytesAsText(piece.text),
    }));
}

/** Spaces become `▁`, one is put before the text, and each begins a piece of its own. */
function metaspace(part: JsonObject): Step {
  const mark = readString(part, "replacement", "▁");
  if ([...mark].length !== 1) throw badTokenizer("the replacement of its Metaspace is not one character");
  const scheme = readString(part, "prepend_scheme", "always");
  if (!["always", "first", "never"].includes(scheme)) throw unsupported(`its Metaspace prepends "${scheme}"`);
  // The older field, which says no more.
  if (part.add_prefix_space === false && scheme !== "never") {
    throw badTokenizer("its Metaspace says add_prefix_space false and another prepend_scheme");
  }
  const cut = readBoolean(part, "split", true)
    ? cutAt(new RegExp(escapePattern(mark), "gu"), "MergedWithNext")
    : (piece: Piece) => [piece];
  return ({ text, first }) => {
    const marked = text.replaceAll(" ", mark);
    const prepends = !marked.startsWith(mark) && (scheme === "always" || (scheme === "first" && first));
    return cut({ text: prepends ? mark + marked : marked, first });
  };
}
