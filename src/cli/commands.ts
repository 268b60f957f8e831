import { CLI_DTYPES } from "./choices.ts";
import type { CommandSpec } from "./command.ts";
import { EVALUATION_COMMANDS } from "./evaluation-commands.ts";
import { COMMON, checkCount, checkNames, deviceOption, MERGE, oneOf } from "./options.ts";

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
      device: deviceOption(", the canonical arithmetic"),
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
  ...EVALUATION_COMMANDS,
  {
    name: "devices",
    summary: "list what this machine can merge on, and what others would need",
    details: "Each device is tried out in a process of its own: a broken driver ends that process only.",
    positionals: [],
    options: { json: COMMON.json!, help: COMMON.help! },
    load: () => import("./devices.ts"),
  },
];
