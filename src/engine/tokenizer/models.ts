import { isJsonObject, type Json, type JsonObject } from "../../core/json.ts";
import {
  badTokenizer,
  onlyFields,
  readBoolean,
  readCount,
  readPart,
  readString,
  unsupported,
} from "../../core/tokenizer-json/parts.ts";
import { libraryParts } from "./library.ts";
import { Unigram } from "./unigram.ts";

/** A vocabulary, and how a piece of text becomes ids of it. */
export interface Model {
  readonly type: "BPE" | "WordPiece" | "Unigram";
  readonly ids: ReadonlyMap<string, number>;
  readonly encode: (piece: string) => readonly number[];
}

/** @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER */
export function readModel(value: Json | undefined): Model {
  if (!isJsonObject(value)) throw badTokenizer("it has no model");
  // Files of old versions of the tokenizers library do not name the type.
  const { type, part } = readPart({ type: guessType(value), ...value }, "model");
  if (type === "BPE") return bpe(part);
  if (type === "WordPiece") return wordPiece(part);
  if (type === "Unigram") return unigram(part);
  throw unsupported(`its model ${type} is not known here`);
}

function guessType(model: JsonObject): string {
  if (Array.isArray(model.vocab)) return "Unigram";
  return "merges" in model ? "BPE" : "WordPiece";
}

function readVocabulary(part: JsonObject): Map<string, number> {
  if (!isJsonObject(part.vocab)) throw badTokenizer("its model has no vocabulary");
  const ids = new Map<string, number>();
  const seen = new Set<number>();
  for (const [token, id] of Object.entries(part.vocab)) {
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0 || seen.has(id)) {
      throw badTokenizer(
        `the id of token ${JSON.stringify(token)} is ${JSON.stringify(id)}, which is none or another's`,
      );
    }
    seen.add(id);
    ids.set(token, id);
  }
  return ids;
}

const BPE_FIELDS = [
  "vocab",
  "merges",
  "dropout",
  "unk_token",
  "continuing_subword_prefix",
  "end_of_word_suffix",
  "fuse_unk",
  "byte_fallback",
  "ignore_merges",
];

function bpe(part: JsonObject): Model {
  onlyFields(part, "model", BPE_FIELDS);
  if (part.dropout) throw unsupported("its BPE drops merges at random");
  if (part.continuing_subword_prefix || part.end_of_word_suffix) {
    throw unsupported("its BPE marks the insides or ends of words");
  }
  const ids = readVocabulary(part);
  const unknown = readUnknown(part, ids);
  const merges = readMerges(part, ids);
  const fallback = readBoolean(part, "byte_fallback", false);
  if (fallback) requireBytes(ids, unknown !== null);
  const fuse = readBoolean(part, "fuse_unk", false);
  const library = libraryParts({
    model: {
      type: "BPE",
      vocab: Object.fromEntries(ids),
      merges,
      ...(unknown !== null && { unk_token: unknown }),
      byte_fallback: fallback,
      ignore_merges: readBoolean(part, "ignore_merges", false),
    },
  });
  return {
    type: "BPE",
    ids,
    encode: (piece) => {
      const tokens = library.encode(piece);
      const found = tokens.map((token) => ids.get(token)!);
      return fuse && unknown !== null ? fused(found, ids.get(unknown)!) : found;
    },
  };
}

/** Unknown characters side by side in one piece are one token. */
function fused(found: readonly number[], unknown: number): number[] {
  return found.filter((id, i) => id !== unknown || found[i - 1] !== unknown);
}

/** `null` where the model has none: what it does not know vanishes. */
function readUnknown(part: JsonObject, ids: ReadonlyMap<string, number>): string | null {
  if (part.unk_token === null || part.unk_token === undefined) return null;
  const unknown = readString(part, "unk_token");
  if (!ids.has(unknown))
    throw badTokenizer(`its unknown token ${JSON.stringify(unknown)} is not in the vocabulary`);
  return unknown;
}

/** With some byte tokens missing, the tokenizers library would write unknown ones in another order. */
function requireBytes(ids: ReadonlyMap<string, number>, hasUnknown: boolean): void {
  for (let byte = 0; byte < 256; byte++) {
    const token = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    if (!ids.has(token) && hasUnknown) throw unsupported(`its BPE falls back to bytes, but lacks ${token}`);
  }
}

function readMerges(part: JsonObject, ids: ReadonlyMap<string, number>): [string, string][] {
  if (!Array.isArray(part.merges)) throw badTokenizer("its BPE has no list of merges");
  return part.merges.map((merge: Json, i) => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    const [left, right] = Array.isArray(pair) && pair.length === 2 ? pair : [];
    if (typeof left !== "string" || typeof right !== "string")
      throw badTokenizer(`merge ${i} is not a pair of tokens`);
    for (const token of [left, right, left + right]) {
      if (!ids.has(token))
        throw badTokenizer(`merge ${i} uses ${JSON.stringify(token)}, which is not in the vocabulary`);
    }
    return [left, right];
  });
}

function wordPiece(part: JsonObject): Model {
  onlyFields(part, "model", ["vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"]);
  const ids = readVocabulary(part);
  const unknown = readUnknown(part, ids);
  if (unknown === null) throw badTokenizer("its WordPiece has no unknown token");
  const library = libraryParts({
    model: {
      type: "WordPiece",
      vocab: Object.fromEntries(ids),
      unk_token: unknown,
      continuing_subword_prefix: readString(part, "continuing_subword_prefix", "##"),
      max_input_chars_per_word:
        part.max_input_chars_per_word === undefined ? 100 : readCount(part, "max_input_chars_per_word"),
    },
  });
  return {
    type: "WordPiece",
    ids,
    encode: (piece) => library.encode(piece).map((token) => ids.get(token)!),
  };
}

function unigram(part: JsonObject): Model {
  onlyFields(part, "model", ["vocab", "unk_id", "byte_fallback"]);
  if (readBoolean(part, "byte_fallback", false)) throw unsupported("its Unigram falls back to bytes");
  if (!Array.isArray(part.vocab)) throw badTokenizer("its Unigram has no vocabulary");
  const vocabulary = part.vocab.map((entry: Json, i): [string, number] => {
    const [token, score] = Array.isArray(entry) ? entry : [];
    if (typeof token !== "string" || typeof score !== "number")
      throw badTokenizer(`token ${i} of its Unigram has no score`);
    return [token, score];
  });
  if (part.unk_id === null || part.unk_id === undefined)
    throw unsupported("its Unigram has no unknown token");
  const unknown = readCount(part, "unk_id");
  if (unknown >= vocabulary.length)
    throw badTokenizer("the unknown token of its Unigram is not in the vocabulary");
  const ids = new Map(vocabulary.map(([token], id) => [token, id]));
  if (ids.size !== vocabulary.length)
    throw badTokenizer("a token stands twice in the vocabulary of its Unigram");
  const model = new Unigram(vocabulary, unknown);
  return {
    type: "Unigram",
    ids,
    // An unknown piece of several characters may be a token all the same.
    encode: (piece) => model.encode(piece).map(({ text }) => ids.get(text) ?? unknown),
  };
}
