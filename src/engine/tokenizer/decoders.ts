import type { Json, JsonObject } from "../../core/json.ts";
import {
  onlyFields,
  partList,
  readBoolean,
  readCount,
  readPart,
  readString,
  unsupported,
} from "../../core/tokenizer-json/parts.ts";
import { textAsBytes } from "./byte-level.ts";
import { readPattern } from "./patterns.ts";

/** Tokens of a chain of decoders on their way to a text, which is what is left of them put together. */
type Step = (tokens: readonly string[]) => readonly string[];

export type Decoder = (tokens: readonly string[]) => string;

/** How a tokenizer.json puts tokens together. @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER */
export function readDecoder(value: Json | undefined): Decoder {
  if (value === null || value === undefined) return (tokens) => tokens.join(" ");
  const steps: Step[] = [];
  collect(value, steps);
  return (tokens) => steps.reduce((now, step) => step(now), tokens).join("");
}

function collect(value: Json, steps: Step[]): void {
  const { type, part } = readPart(value, "decoder");
  if (type === "Sequence") {
    onlyFields(part, "decoder", ["decoders"]);
    for (const inner of partList(part.decoders, "decoder")) collect(inner, steps);
    return;
  }
  const read = DECODERS[type];
  if (!read) throw unsupported(`its decoder ${type} is not known here`);
  onlyFields(part, "decoder", read.fields);
  steps.push(read.step(part));
}

interface Known {
  readonly fields: readonly string[];
  readonly step: (part: JsonObject) => Step;
}

const DECODERS: Readonly<Record<string, Known>> = {
  ByteLevel: { fields: ["add_prefix_space", "trim_offsets", "use_regex"], step: () => byteLevel },
  ByteFallback: { fields: [], step: () => byteFallback },
  Fuse: { fields: [], step: () => (tokens) => [tokens.join("")] },
  Metaspace: {
    fields: ["replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"],
    step: metaspace,
  },
  Replace: {
    fields: ["pattern", "content"],
    step: (part) => {
      const pattern = readPattern(part);
      const content = readString(part, "content");
      return (tokens) => tokens.map((token) => token.replaceAll(pattern, () => content));
    },
  },
  Strip: { fields: ["content", "start", "stop"], step: strip },
  WordPiece: { fields: ["prefix", "cleanup"], step: wordPiece },
  BPEDecoder: {
    fields: ["suffix"],
    step: (part) => {
      const suffix = readString(part, "suffix");
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
    },
  },
};

const lossy = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

function byteLevel(tokens: readonly string[]): readonly string[] {
  return [lossy.decode(Buffer.concat(tokens.map(textAsBytes)))];
}

const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

/** Runs of `<0xE2>` become characters, or one replacement character for each byte where they are none. */
function byteFallback(tokens: readonly string[]): readonly string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length > 0) texts.push(decodeBytes(bytes));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = BYTE_TOKEN.exec(token)?.[1];
    if (byte !== undefined) bytes.push(Number.parseInt(byte, 16));
    else {
      flush();
      texts.push(token);
    }
  }
  flush();
  return texts;
}

function decodeBytes(bytes: readonly number[]): string {
  try {
    return strict.decode(Uint8Array.from(bytes));
  } catch {
    return "\ufffd".repeat(bytes.length);
  }
}

/** Every mark of the first token goes, unless none was put there; the others are spaces. */
function metaspace(part: JsonObject): Step {
  const mark = readString(part, "replacement", "▁");
  const never = readString(part, "prepend_scheme", "always") === "never";
  return (tokens) => tokens.map((token, i) => token.replaceAll(mark, i === 0 && !never ? "" : " "));
}

function strip(part: JsonObject): Step {
  const content = readString(part, "content");
  const start = readCount(part, "start");
  const stop = readCount(part, "stop");
  return (tokens) =>
    tokens.map((token) => {
      const letters = [...token];
      let from = 0;
      while (from < start && letters[from] === content) from++;
      let to = letters.length;
      while (letters.length - to < stop && to > 0 && letters[to - 1] === content) to--;
      // Both ends may want the same letters of a short token.
      return letters.slice(from, Math.max(from, to)).join("");
    });
}

function wordPiece(part: JsonObject): Step {
  const prefix = readString(part, "prefix");
  const clean = readBoolean(part, "cleanup", true);
  return (tokens) =>
    tokens.map((token, i) => {
      const joined = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return clean ? withoutSpaces(joined).replaceAll(" do not", " don't") : joined;
    });
}

/** What transformers calls cleaning up tokenization spaces. */
export function withoutSpaces(text: string): string {
  return text
    .replaceAll(" .", ".")
    .replaceAll(" ?", "?")
    .replaceAll(" !", "!")
    .replaceAll(" ,", ",")
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}
