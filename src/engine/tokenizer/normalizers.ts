import type { Json, JsonObject } from "../../core/json.ts";
import {
  onlyFields,
  partList,
  readBoolean,
  readPart,
  readString,
  unsupported,
} from "../../core/tokenizer-json/parts.ts";
import type { CharacterTable } from "./characters.ts";
import { readPattern, WHITE_SPACE } from "./patterns.ts";

export interface Normalizer {
  readonly normalize: (text: string) => string;
  /** Tables of characters that the result depends on. */
  readonly tables: ReadonlySet<CharacterTable>;
}

type Step = Normalizer["normalize"];

/** What a tokenizer.json does to a text before it is cut. @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER */
export function readNormalizer(value: Json | undefined): Normalizer {
  if (value === null || value === undefined) return { normalize: (text) => text, tables: new Set() };
  const steps: Step[] = [];
  const tables = new Set<CharacterTable>();
  collect(value, steps, tables);
  return { normalize: (text) => steps.reduce((now, step) => step(now), text), tables };
}

function collect(value: Json, steps: Step[], tables: Set<CharacterTable>): void {
  const { type, part } = readPart(value, "normalizer");
  if (type === "Sequence") {
    onlyFields(part, "normalizer", ["normalizers"]);
    for (const inner of partList(part.normalizers, "normalizer")) collect(inner, steps, tables);
    return;
  }
  const read = NORMALIZERS[type];
  if (!read) throw unsupported(`its normalizer ${type} is not known here`);
  onlyFields(part, "normalizer", read.fields);
  if (read.tables) tables.add("marks");
  if (type === "Replace" && "Regex" in (part.pattern as object)) tables.add("categories");
  steps.push(read.step(part));
}

interface Known {
  readonly fields: readonly string[];
  readonly tables?: true;
  readonly step: (part: JsonObject) => Step;
}

const form = (name: "NFC" | "NFD" | "NFKC" | "NFKD"): Known => ({
  fields: [],
  tables: true,
  step: () => (text) => text.normalize(name),
});

const NORMALIZERS: Readonly<Record<string, Known>> = {
  NFC: form("NFC"),
  NFD: form("NFD"),
  NFKC: form("NFKC"),
  NFKD: form("NFKD"),
  Lowercase: { fields: [], step: () => lowerCase },
  StripAccents: { fields: [], tables: true, step: () => (text) => text.replace(/\p{M}/gu, "") },
  Strip: { fields: ["strip_left", "strip_right"], step: strip },
  // Nothing is put before nothing.
  Prepend: {
    fields: ["prepend"],
    step: (part) => {
      const prefix = readString(part, "prepend");
      return (text) => (text === "" ? "" : prefix + text);
    },
  },
  Replace: {
    fields: ["pattern", "content"],
    step: (part) => {
      const pattern = readPattern(part);
      const content = readString(part, "content");
      // A function: `$` in the content means itself.
      return (text) => text.replaceAll(pattern, () => content);
    },
  },
  BertNormalizer: {
    fields: ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"],
    tables: true,
    step: bert,
  },
};

/** Letter by letter, as the tokenizers library does: a final Σ becomes σ like any other. */
function lowerCase(text: string): string {
  let low = "";
  for (const letter of text) low += letter.toLowerCase();
  return low;
}

function strip(part: JsonObject): Step {
  const left = readBoolean(part, "strip_left", false);
  const right = readBoolean(part, "strip_right", false);
  const leading = new RegExp(`^${WHITE_SPACE}+`, "u");
  return (text) => {
    const from = left ? text.replace(leading, "") : text;
    return right ? trimEnd(from) : from;
  };
}

/** By hand: an expression anchored at the end is tried at every space of a long text. */
export function trimEnd(text: string): string {
  const space = new RegExp(WHITE_SPACE, "u");
  let end = text.length;
  while (end > 0 && space.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

const CONTROL = /[\0\ufffd\p{Cf}\p{Co}]|(?![\t\n\r])\p{Cc}/gu;
/** As the tokenizers library has it, with its own idea of extension E. */
const CJK =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bert(part: JsonObject): Step {
  const clean = readBoolean(part, "clean_text", true);
  const chinese = readBoolean(part, "handle_chinese_chars", true);
  const lower = readBoolean(part, "lowercase", true);
  const accents = readBoolean(part, "strip_accents", lower);
  const space = new RegExp(WHITE_SPACE, "gu");
  return (text) => {
    let now = text;
    if (clean) now = now.replace(CONTROL, "").replace(space, " ");
    if (chinese) now = now.replace(CJK, " $& ");
    if (accents) now = now.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowerCase(now) : now;
  };
}
