import type { OnnxDevice } from "../../core/devices.ts";
import { mcnemar } from "../../core/evaluation/mcnemar.ts";
import type { Metric, TasksReport, TextReport } from "../../core/evaluation/report.ts";
import { differenceMetric, shareMetric } from "../../core/evaluation/shares.ts";
import type { TaskSet } from "../../core/evaluation/texts.ts";
import { counted } from "../../core/evaluation/wording.ts";
import type { EngineEvent, EngineOptions } from "../events.ts";
import { type AlignedSides, widenedBytes } from "./pair.ts";
import { relayed } from "./relay.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** Widened weights that stay in memory between two tokens. */
const CACHE_BYTES = 512 * 2 ** 20;

export interface TextRequest {
  readonly pair: AlignedSides;
  readonly tokenizer: TextTokenizer;
  readonly prompts: readonly string[];
  readonly maxNewTokens: number;
  readonly device: OnnxDevice;
  /** Encodes a prompt, with a chat template where one is asked for. */
  readonly encode: (prompt: string) => number[];
}

/** Level 3: greedy continuations by both sides. */
export async function* textLevel(
  request: TextRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, TextReport> {
  const { prompts, maxNewTokens, tokenizer } = request;
  const message = `continuing ${counted(prompts.length, "prompt")} by up to ${counted(maxNewTokens, "token")}`;
  yield { type: "stage", stage: "text", message };
  const [reference, candidate] = yield* continuations("text", request, options);
  const pairs = prompts.map((prompt, i) => {
    const [a, b] = [reference![i]!, candidate![i]!];
    const at = a.findIndex((token, j) => token !== b[j]);
    const firstDivergence = at >= 0 ? at : a.length === b.length ? null : Math.min(a.length, b.length);
    const show = (ids: readonly number[]) => tokenizer.decode(ids, { skipSpecial: true });
    return { prompt, reference: show(a), candidate: show(b), firstDivergence };
  });
  const exactMatch = shareMetric(pairs.map(({ firstDivergence }) => firstDivergence === null));
  return { prompts: pairs, maxNewTokens, exactMatch };
}

export interface TasksRequest extends Omit<TextRequest, "prompts" | "maxNewTokens"> {
  readonly tasks: TaskSet;
}

const RULE =
  "the whole greedy answer, special tokens and surrounding spaces aside, equals the expected answer";
/** An answer may be so many tokens longer than the longest expected one before it is cut off, and wrong. */
const SPARE_TOKENS = 4;

/** Level 4: accuracy of both sides on labelled examples, paired. */
export async function* tasksLevel(
  request: TasksRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, TasksReport> {
  const { tasks, tokenizer } = request;
  const { examples } = tasks;
  yield { type: "stage", stage: "tasks", message: `answering ${counted(examples.length, "example")}` };
  const longest = Math.max(
    ...examples.map(({ expected }) => tokenizer.encode(` ${expected}`, { specialTokens: false }).length),
  );
  const prompts = examples.map(({ prompt }) => prompt);
  const answers = yield* continuations(
    "tasks",
    { ...request, prompts, maxNewTokens: longest + SPARE_TOKENS },
    options,
  );
  const [reference, candidate] = answers.map((side) =>
    side.map(
      (ids, i) => tokenizer.decode(ids, { skipSpecial: true }).trim() === examples[i]!.expected.trim(),
    ),
  ) as [boolean[], boolean[]];
  const count = (a: boolean, b: boolean) =>
    reference.filter((right, i) => right === a && candidate[i] === b).length;
  const [onlyReference, onlyCandidate] = [count(true, false), count(false, true)];
  const difference: Metric = differenceMetric(reference, candidate);
  return {
    name: tasks.name,
    digest: tasks.digest,
    examples: examples.length,
    rule: RULE,
    reference: shareMetric(reference),
    candidate: shareMetric(candidate),
    difference,
    bothRight: count(true, true),
    onlyReference,
    onlyCandidate,
    neither: count(false, false),
    mcnemar: mcnemar(onlyReference, onlyCandidate),
  };
}

/** New tokens by side and prompt. */
async function* continuations(
  stage: "text" | "tasks",
  { pair, prompts, maxNewTokens, tokenizer, device, encode }: TextRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, readonly (readonly (readonly number[])[])[]> {
  let done = 0;
  const last = yield* relayed(
    {
      type: "generate",
      setup: {
        model: pair.model,
        sides: pair.sides,
        device,
        threads: options.threads,
        cacheBytes: Math.min(CACHE_BYTES, 2 * widenedBytes(pair)),
      },
      prompts: prompts.map((prompt) => Int32Array.from(encode(prompt))),
      maxNewTokens,
      ends: tokenizer.eosIds,
    },
    options,
    ({ type }) => (type === "tokens" ? { type: "progress", stage, done: ++done, total: maxNewTokens } : null),
  );
  if (last.type !== "generated") throw new Error(`a generation ended with ${last.type}`);
  return last.texts;
}
