import { DEVICES } from "../core/devices.ts";
import { readLayers, readNames } from "../core/selection-text.ts";
import { CLI_DTYPES } from "./choices.ts";
import type { OptionSpec } from "./command.ts";

/* Options that several commands have. */

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const checkDigest = (value: string) =>
  DIGEST.test(value) ? null : "must be sha256: and 64 lower-case hex digits";
const checkThreads = (value: string) =>
  /^[1-9]\d{0,2}$/.test(value) ? null : "must be a whole number from 1 to 999";
export const checkCount = (value: string) =>
  /^[1-9]\d{0,5}$/.test(value) ? null : "must be a whole number from 1 to 999999";
export const checkNames = (value: string) => (readNames(value).length > 0 ? null : "names no module");

export const COMMON: Readonly<Record<string, OptionSpec>> = {
  threads: {
    type: "string",
    value: "N",
    help: "worker threads (default: one a core)",
    check: checkThreads,
  },
  json: { type: "boolean", help: "print exactly one JSON document on stdout" },
  help: { type: "boolean", short: "h", help: "print this help" },
};

export const oneOf =
  (...words: string[]) =>
  (value: string) =>
    words.includes(value) ? null : `must be one of ${words.join(", ")}`;

/** `--device`; `canonical` says what the processor is besides. */
export const deviceOption = (canonical: string): OptionSpec => ({
  type: "string",
  value: "NAME",
  help: `what multiplies: ${DEVICES.join(", ")} (default: cpu${canonical})`,
  check: oneOf(...DEVICES),
});
const checkLayers = (value: string) =>
  readLayers(value) === null ? "must be layer numbers and ranges, such as 0-15,31" : null;

/** Which modules a partial merge takes; `--include…` and `--exclude…` are alike. */
function selection(word: "include" | "exclude", does: string): Readonly<Record<string, OptionSpec>> {
  return {
    [word]: {
      type: "string",
      value: "NAMES",
      help: `${does} modules with these names or ends of names (a,b,c)`,
      check: checkNames,
    },
    [`${word}-pattern`]: { type: "string", value: "REGEX", help: `${does} modules whose whole name matches` },
    [`${word}-layers`]: {
      type: "string",
      value: "N-M,…",
      help: `${does} modules of these layers, counted from 0`,
      check: checkLayers,
    },
  };
}

export const MERGE: Readonly<Record<string, OptionSpec>> = {
  base: { type: "string", value: "DIR", help: "folder of the base model", required: true },
  adapter: { type: "string", value: "DIR", help: "folder of the adapter", required: true },
  tokenizer: {
    type: "string",
    value: "base|adapter",
    help: "whose tokenizer goes into the output (default: the adapter's if it ships one that differs)",
    check: (value) => (value === "base" || value === "adapter" ? null : 'must be "base" or "adapter"'),
  },
  dtype: {
    type: "string",
    value: "TYPE",
    help: "write all float tensors as bf16, fp16 or fp32 (default: the base's types)",
    check: oneOf(...Object.keys(CLI_DTYPES)),
  },
  numerics: {
    type: "string",
    value: "peft|exact",
    help: "PEFT's own float32 steps (default), or float64 with one rounding",
    check: oneOf("peft", "exact"),
  },
  ties: {
    type: "string",
    value: "preserve|peft",
    help: "tied embeddings: untie where only one side is adapted (default), or change both sides as PEFT does",
    check: oneOf("preserve", "peft"),
  },
  ...selection("include", "merge only"),
  ...selection("exclude", "leave out"),
  "strict-base": {
    type: "boolean",
    help: "refuse a base other than the one the adapter names, and an unpinned revision",
  },
  "base-digest": { type: "string", value: "sha256:…", help: "refuse any other base", check: checkDigest },
  "adapter-digest": {
    type: "string",
    value: "sha256:…",
    help: "refuse any other adapter",
    check: checkDigest,
  },
};
