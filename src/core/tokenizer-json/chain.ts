import { isJsonObject, type Json, type JsonObject } from "../json.ts";

/** Settings that old files leave out and new ones write. */
const DEFAULTS: Readonly<Record<string, JsonObject>> = {
  ByteLevel: { add_prefix_space: true, use_regex: true },
  Metaspace: { replacement: "▁", prepend_scheme: "always", split: true },
  Split: { invert: false },
  Digits: { individual_digits: false },
  Punctuation: { behavior: "Isolated" },
  BPE: { fuse_unk: false, byte_fallback: false, ignore_merges: false },
  Unigram: { byte_fallback: false },
};
/** Settings of offsets, which change no id, and older names of others. */
const WITHOUT_MEANING: Readonly<Record<string, readonly string[]>> = {
  ByteLevel: ["trim_offsets"],
  Metaspace: ["add_prefix_space", "str_rep"],
};

/**
 * A part of a tokenizer.json's chain with all its settings and nothing without meaning, so that two ways to write the
 * same part are equal. `null` and empty settings are left out: they are how new versions write "not set".
 */
export function plainPart(value: Json | undefined): Json {
  if (Array.isArray(value)) return value.map((part: Json) => plainPart(part));
  if (!isJsonObject(value)) return value ?? null;
  const type = typeof value.type === "string" ? value.type : "";
  const dropped = WITHOUT_MEANING[type] ?? [];
  const filled = { ...DEFAULTS[type], ...value };
  const kept = Object.entries(filled).filter(
    ([name, setting]) => setting !== null && setting !== "" && !dropped.includes(name),
  );
  return Object.fromEntries(kept.map(([name, setting]) => [name, plainPart(setting)]));
}

/** A decoder: that of bytes has no settings that count. */
export function plainDecoder(value: Json | undefined): Json {
  const part = plainPart(value);
  if (!isJsonObject(part)) return part;
  if (part.type === "ByteLevel") return { type: "ByteLevel" };
  if (part.type !== "Sequence" || !Array.isArray(part.decoders)) return part;
  return { ...part, decoders: part.decoders.map((inner: Json) => plainDecoder(inner)) };
}
