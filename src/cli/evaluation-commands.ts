import { MOST_PROMPT, OPTION_RANGES, rangeMessage } from "../core/evaluation/options.ts";
import type { CommandSpec, OptionSpec, Values } from "./command.ts";
import { COMMON, checkCount, deviceOption, MERGE } from "./options.ts";

/* The commands that run models. */

const checkWhole = (range: readonly [number, number]) => (value: string) => {
  const within = /^\d{1,15}$/.test(value) && Number(value) >= range[0] && Number(value) <= range[1];
  return within ? null : rangeMessage(range);
};

const adapter = (help: string): OptionSpec => ({
  type: "string",
  value: "DIR[=WEIGHT]",
  help,
  multiple: true,
});

const file = (value: string, help: string): OptionSpec => ({ type: "string", value, help });

const whole = (option: keyof typeof OPTION_RANGES, help: string): OptionSpec => ({
  type: "string",
  value: "N",
  help,
  check: checkWhole(OPTION_RANGES[option]),
});

const { "strict-base": _, base, adapter: __, ...CHOICES } = MERGE;
const DEVICE = { device: deviceOption("") };

const given = (values: Values, ...names: string[]) => names.filter((name) => values[name] !== undefined);

const LOGITS: CommandSpec = {
  name: "logits",
  summary: "write a model's logits, to be compared with any other tool's",
  details:
    "Runs texts through a model, or through a base with adapters that are not merged, in float32, and writes\n" +
    "<name>.logits of each as float32 into a safetensors file; with --hidden <name>.embed (what goes into the first\n" +
    "layer), <name>.hidden.<layer> (what comes out of each) and <name>.final (after the last norm) as well.\n" +
    "--input FILE.safetensors: every <name>.input_ids (I64 or I32) in it. Of a batch [rows, tokens] each row runs alone,\n" +
    "without the padding that <name>.attention_mask marks on either side; logits at padding are 0, and positions count\n" +
    'from a row\'s first token. --input FILE.jsonl: one {"text": …} or {"messages": […]} a line, tokenised with the\n' +
    "model's own tokenizer and chat template, called text.0, text.1, …; --text is a text of its own.",
  positionals: [],
  options: {
    model: { type: "string", value: "DIR", help: "folder of the model", required: true },
    adapter: adapter("adapter to run beside it, not merged; may be given several times"),
    input: file("FILE", "tokens (.safetensors) or texts (.jsonl)"),
    text: { type: "string", value: "TEXT", help: "a text; may be given several times", multiple: true },
    out: { type: "string", value: "FILE", help: "safetensors file to write; must not exist", required: true },
    hidden: { type: "boolean", help: "write the hidden states as well" },
    ...DEVICE,
    ...COMMON,
  },
  check: (values) => (given(values, "input", "text").length === 1 ? null : "give either --input or --text"),
  load: () => import("./logits.ts"),
};

const GENERATE: CommandSpec = {
  name: "generate",
  summary: "continue prompts, greedily",
  details:
    "Takes the most likely token each time. With --base and adapters the adapters run beside the base, not merged; with\n" +
    "--merged besides, both sides answer and it is said whether they answer alike. The text of one prompt by one side is\n" +
    "written as it comes.",
  positionals: [],
  options: {
    base: { type: "string", value: "DIR", help: "folder of the base model" },
    adapter: adapter("adapter to run beside it; may be given several times"),
    merged: { type: "string", value: "DIR", help: "folder of a merged checkpoint, or of any other" },
    prompt: {
      type: "string",
      value: "TEXT",
      help: "what to continue; may be given several times",
      multiple: true,
      check: (text) =>
        text.length > MOST_PROMPT ? `has ${text.length} characters, the limit is ${MOST_PROMPT}` : null,
    },
    prompts: file("FILE", 'prompts, one {"prompt": …} a line'),
    "max-new-tokens": whole("maxNewTokens", "longest continuation (default: 128)"),
    chat: { type: "boolean", help: "write prompts as a user's message with the model's chat template" },
    ...DEVICE,
    ...COMMON,
  },
  check: (values) => {
    if (given(values, "base", "merged").length === 0) return "give --base, --merged or both";
    if (values.adapter !== undefined && values.base === undefined) return "--adapter needs its --base";
    return given(values, "prompt", "prompts").length === 1 ? null : "give either --prompt or --prompts";
  },
  load: () => import("./generate.ts"),
};

const EVALUATE: CommandSpec = {
  name: "evaluate",
  summary: "prove, or refute, that a merged model does what base and adapter do",
  details:
    "Compares base + adapter, not merged, with a merged checkpoint of any tool's making, or with what merging them would\n" +
    "write: structure, weights, logits over texts, greedy continuations and labelled tasks, with a noise floor, standard\n" +
    "errors and 95 % intervals, judged under a gate. A graftwork.json in the merged folder says how it was merged, unless\n" +
    "options do. --out writes report.json (its schema is evaluation.schema.json), report.html and report.md.",
  positionals: [],
  options: {
    base: base!,
    adapter: { ...adapter("folder of the adapter; several act together"), required: true },
    merged: {
      type: "string",
      value: "DIR",
      help: "merged checkpoint (default: what merging them would write)",
    },
    ...CHOICES,
    texts: file("FILE", 'texts, one {"text": …} or {"messages": […]} a line (default: built-in ones)'),
    tasks: file("FILE", 'labelled examples, one {"prompt": …, "expected": …} a line'),
    prompts: file("FILE", 'what to continue, one {"prompt": …} a line (default: beginnings of the texts)'),
    gate: file("FILE", "gate as JSON (default: the built-in one)"),
    seed: whole("seed", "of the bootstrap (default: 0)"),
    window: whole("window", "tokens of the longest window that a text is cut into"),
    stride: whole("stride", "how far the window moves (default: half of it)"),
    "chat-template": { type: "boolean", help: "write texts as a user's message with the chat template" },
    "floor-tokens": whole(
      "floorTokens",
      "tokens that the noise floor is measured over, 0 for none (default: 2048)",
    ),
    "max-new-tokens": whole("maxNewTokens", "longest continuation of a prompt (default: 32)"),
    out: { type: "string", value: "DIR", help: "folder to write the report to; must not exist" },
    ...DEVICE,
    ...COMMON,
  },
  check: ({ window, stride }) =>
    window !== undefined && stride !== undefined && Number(stride) > Number(window)
      ? `--stride ${stride} is more than --window ${window}: tokens between two windows would not be predicted`
      : null,
  exits: "0 PASSED, 1 FAILED (or refused, or an error), 2 wrong usage, 3 INCONCLUSIVE.",
  load: () => import("./evaluate.ts"),
};

const ADVISE: CommandSpec = {
  name: "advise",
  summary: "say whether to merge an adapter or to serve it beside its base",
  details:
    "Measures this model and adapter on this machine: bytes on disk, time to load, to the first token and for each token,\n" +
    "whether the merged model answers alike (a short evaluation), how much of the change rounding keeps; and says from how\n" +
    "many adapters of the base serving apart takes less, with the command line of vLLM for either choice.",
  positionals: [],
  options: {
    base: base!,
    adapter: { ...adapter("folder of the adapter; several act together"), required: true },
    merged: {
      type: "string",
      value: "DIR",
      help: "merged checkpoint (default: what merging them would write)",
    },
    ...CHOICES,
    adapters: {
      type: "string",
      value: "N",
      help: "adapters of this base that will be served, this one included (default: 1)",
      check: checkCount,
    },
    texts: file("FILE", "texts of the short evaluation, as for evaluate (default: built-in ones)"),
    gate: file("FILE", "gate of it as JSON (default: the built-in one)"),
    ...DEVICE,
    ...COMMON,
  },
  load: () => import("./advise.ts"),
};

export const EVALUATION_COMMANDS: readonly CommandSpec[] = [EVALUATE, LOGITS, GENERATE, ADVISE];
