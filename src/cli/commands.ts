import { DEVICES } from "../core/devices.ts";
import { readLayers, readNames } from "../core/selection-text.ts";
import { CLI_DTYPES } from "./choices.ts";
import type { CommandSpec, OptionSpec } from "./command.ts";

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const checkDigest = (value: string) =>
  DIGEST.test(value) ? null : "must be sha256: and 64 lower-case hex digits";
const checkThreads = (value: string) =>
  /^[1-9]\d{0,2}$/.test(value) ? null : "must be a whole number from 1 to 999";
const checkCount = (value: string) =>
  /^[1-9]\d{0,5}$/.test(value) ? null : "must be a whole number from 1 to 999999";
const checkNames = (value: string) => (readNames(value).length > 0 ? null : "names no module");

const COMMON: Readonly<Record<string, OptionSpec>> = {
  threads: {
    type: "string",
    value: "N",
    help: "worker threads (default: one a core)",
    check: checkThreads,
  },
  json: { type: "boolean", help: "print exactly one JSON document on stdout" },
  help: { type: "boolean", short: "h", help: "print this help" },
};

const oneOf =
  (...words: string[]) =>
  (value: string) =>
    words.includes(value) ? null : `must be one of ${words.join(", ")}`;
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

const MERGE: Readonly<Record<string, OptionSpec>> = {
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

export const COMMANDS: readonly CommandSpec[] = [
  {
    name: "inspect",
    summary: "say what a model or adapter folder holds",
    details:
      "Reads headers and configs, and every tensor once for the digests of weights and version\n(--no-digest leaves that out).",
    positionals: ["DIR"],
    options: {
      tensors: { type: "boolean", help: "list every tensor" },
      "no-digest": { type: "boolean", help: "headers only: no digests, no statistics" },
      ...COMMON,
    },
    load: () => import("./inspect.ts"),
  },
  {
    name: "plan",
    summary: "say what a merge would do, or every reason why it is refused",
    details: "Nothing is written. A refused plan ends with exit code 1.",
    positionals: [],
    options: {
      ...MERGE,
      forecast: {
        type: "boolean",
        help: "read the base and the adapter once and say what rounding will cost each change",
      },
      ...COMMON,
    },
    load: () => import("./plan.ts"),
  },
  {
    name: "merge",
    summary: "merge an adapter into its base",
    details:
      "Writes a checkpoint folder with the base's shards, names and dtypes, checks it, and makes it visible\nwhen it is complete. On failure or Ctrl-C nothing is left.\nDigests of the files it read are remembered in the user's cache folder (in GRAFTWORK_HOME where that is set), so\nthat an unchanged base is not hashed again; verify never relies on them.",
    positionals: [],
    options: {
      ...MERGE,
      out: { type: "string", value: "DIR", help: "folder to write; must not exist", required: true },
      device: {
        type: "string",
        value: "NAME",
        help: `what multiplies: ${DEVICES.join(", ")} (default: cpu, the canonical arithmetic)`,
        check: oneOf(...DEVICES),
      },
      ...COMMON,
    },
    load: () => import("./merge.ts"),
  },
  {
    name: "verify",
    summary: "derive a merged folder again from its inputs and compare",
    details:
      "Reads graftwork.json in DIR. IDENTICAL ends with exit code 0, and so does PROVEN_CLOSE: a merge on a device whose\nelements are all within a unit in the last place of the canonical value. DIFFERENT (VERIFY_DIFFERENT) ends with 1.",
    positionals: ["DIR"],
    options: {
      base: { type: "string", value: "DIR", help: "where the base is now (default: as recorded)" },
      adapter: { type: "string", value: "DIR", help: "where the adapter is now (default: as recorded)" },
      sample: {
        type: "string",
        value: "N",
        help: "derive N tensors, chosen at random, instead of all",
        check: checkCount,
      },
      ...COMMON,
    },
    load: () => import("./verify.ts"),
  },
  {
    name: "unmerge",
    summary: "say whether a merged folder of any tool is its base plus the adapter",
    details:
      "Compares every tensor with base + adapter: equal, within rounding, or how it differs (not merged,\nmerged twice, another scale). EXPLAINED ends with exit code 0, NOT_EXPLAINED with 1. A graftwork.json in\nDIR says how it was merged, unless options do. Nothing is written: without the adapter it is the base, by reference.",
    positionals: ["DIR"],
    options: { ...MERGE, ...COMMON },
    load: () => import("./unmerge.ts"),
  },
  {
    name: "extract",
    summary: "write the difference of a base and its fine-tuned checkpoint as an adapter",
    details:
      "Writes a PEFT folder with LoRA factors for every linear layer, and extract.json: how much of each\nmodule's change they keep. What differs elsewhere (norms, embeddings, head) is named, not carried.",
    positionals: [],
    options: {
      base: { type: "string", value: "DIR", help: "folder of the base model", required: true },
      tuned: { type: "string", value: "DIR", help: "folder of the fine-tuned model", required: true },
      rank: { type: "string", value: "N", help: "rank of the factors", required: true, check: checkCount },
      out: { type: "string", value: "DIR", help: "folder to write; must not exist", required: true },
      target: {
        type: "string",
        value: "NAMES",
        help: "only these modules or ends of names (a,b,c)",
        check: checkNames,
      },
      dtype: {
        type: "string",
        value: "TYPE",
        help: "store the factors as bf16, fp16 or fp32 (default)",
        check: oneOf(...Object.keys(CLI_DTYPES)),
      },
      "base-name": {
        type: "string",
        value: "NAME",
        help: "base_model_name_or_path to write (default: --base)",
      },
      ...COMMON,
    },
    load: () => import("./extract.ts"),
  },
  {
    name: "devices",
    summary: "list what this machine can merge on, and what others would need",
    details: "Each device is tried out in a process of its own: a broken driver ends that process only.",
    positionals: [],
    options: { json: COMMON.json!, help: COMMON.help! },
    load: () => import("./devices.ts"),
  },
];
