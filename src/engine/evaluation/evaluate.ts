import type { checkpointDigests } from "../../core/checkpoint.ts";
import type { DeviceName, OnnxDevice } from "../../core/devices.ts";
import { AppError, type Finding } from "../../core/errors.ts";
import { BUILTIN_TEXTS } from "../../core/evaluation/builtin-texts.ts";
import { gateDigest } from "../../core/evaluation/gates.ts";
import type { EvaluationOptions } from "../../core/evaluation/options.ts";
import type { EvaluationReport, Gate } from "../../core/evaluation/report.ts";
import { parseReport } from "../../core/evaluation/schema.ts";
import type { TaskSet, TextSet } from "../../core/evaluation/texts.ts";
import { judge, type Unjudged } from "../../core/evaluation/verdict.ts";
import type { MergeChoices } from "../../core/recipe.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import type { Side } from "../forward/side.ts";
import { environmentOf } from "./environment.ts";
import { logitsLevel } from "./logits-level.ts";
import { forwardDevice } from "./model-sides.ts";
import { type AlignedSides, alignSides, sideBeside } from "./pair.ts";
import { type PreparedTexts, prepareTexts } from "./prepared-texts.ts";
import { candidateSide, checkpointSide, type ReferenceSide, referenceSide } from "./sides.ts";
import { tasksLevel, textLevel } from "./text-level.ts";
import type { TokenizerPaths } from "./tokenizer-files.ts";
import { recipeTokenizer, tokenizerReasons } from "./tokenizer-reasons.ts";
import { compareWeights } from "./weights-pass.ts";
import { type Weighed, weighWithoutRecipe } from "./without-recipe.ts";

export interface EvaluationInputs {
  readonly base: Located;
  /** Adapters of the un-merged side. */
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** Of the recipe that the reference stands for. */
  readonly choices: MergeChoices;
  /** A checkpoint of any tool's making; null: what the recipe would write, computed on the fly. */
  readonly candidate: Located | null;
  readonly labels: { readonly base: string; readonly sources: readonly string[]; readonly candidate: string };
  /** Null: the built-in texts. */
  readonly texts: TextSet | null;
  /** Level 3; null: beginnings of the texts; empty: none. */
  readonly prompts: readonly string[] | null;
  /** Level 4; null: none. */
  readonly tasks: TaskSet | null;
  readonly gate: Gate;
  readonly options: Omit<EvaluationOptions, "prompts"> & { readonly device: DeviceName };
}

/**
 * Proves, or refutes, that a candidate does what base and adapter do: levels 0 to 4, judged under a gate.
 * @throws the plan's refusals, BAD_FILE, DEVICE_UNAVAILABLE, DEVICE_FAILED, TOKENIZER_MISSING, …; a candidate that is
 *   wrong is no error but a report that says FAILED and why
 */
export async function* evaluate(
  inputs: EvaluationInputs,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, EvaluationReport> {
  const { base, sources, choices, gate } = inputs;
  const device = await forwardDevice(inputs.options.device);
  const clock = new Clock();
  const reference = referenceSide({ base, sources, choices, labels: inputs.labels });
  const weighed = yield* clock.time("weights", weigh(inputs, reference, options));
  const tokenizer = recipeTokenizer(inputs, reference.plans);
  const files = await tokenizerReasons(inputs, reference.plans);
  const ready = await readyToRun(inputs, reference, tokenizer);
  const levels =
    "skipped" in ready
      ? null
      : yield* runLevels(inputs, { ...ready, device, clock, dtype: weighed.dtype }, options);
  const reasons = [...weighed.reasons, ...files.reasons];
  const report: Unjudged = {
    schema: 1,
    warnings: [...[...reference.plans.flatMap(({ warnings }) => warnings), ...weighed.warnings].map(plain)],
    gate,
    gateDigest: gateDigest(gate),
    reference: referenceOf(inputs, { reference, weighed }),
    candidate: candidateOf(inputs, weighed),
    recipeDigest: weighed.recipeDigest,
    checks: [...weighed.checks, ...files.checks],
    weights: weighed.weights,
    logits: levels?.logits ?? null,
    logitsSkipped: "skipped" in ready ? ready.skipped : null,
    text: levels?.text ?? null,
    tasks: levels?.tasks ?? null,
    texts: ready.texts,
    seed: inputs.options.seed,
    environment: environmentOf(inputs.options.device, {
      runtime: levels?.runtime ?? "not used",
      threads: options.threads,
    }),
    timings: clock.times,
  };
  return parseReport({ ...report, ...judge(report, reasons) });
}

function weigh(
  { base, sources, candidate }: EvaluationInputs,
  reference: ReferenceSide,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Weighed> {
  const input = { base, sources, candidate };
  const { plan } = reference;
  return plan ? compareWeights({ ...input, plan }, options) : weighWithoutRecipe(input, reference, options);
}

interface Runnable {
  readonly pair: AlignedSides;
  /** The base without adapters; null where it cannot run beside them. */
  readonly base: Side | null;
  readonly prepared: PreparedTexts;
}

interface Ready {
  readonly texts: EvaluationReport["texts"];
}

/** The pair of sides and the texts in tokens; or why level 2 cannot be. */
async function readyToRun(
  inputs: EvaluationInputs,
  reference: ReferenceSide,
  tokenizer: TokenizerPaths,
): Promise<(Ready & { readonly skipped: string }) | (Ready & Runnable)> {
  try {
    const pair = alignSides([reference, candidateSide({ ...inputs, plan: reference.plan })]);
    const prepared = await prepareTexts(inputs, {
      texts: inputs.texts ?? BUILTIN_TEXTS,
      tokenizer,
      model: pair.model,
    });
    const alone = sideBeside(pair, checkpointSide(inputs.base, "base"));
    return { texts: prepared.texts, pair, base: alone, prepared };
  } catch (error) {
    if (!(error instanceof AppError) || !SKIPS.has(error.code)) throw error;
    return { texts: null, skipped: error.message };
  }
}

/** What leaves levels 0 and 1 standing: the report then says why there is no level 2. */
const SKIPS = new Set([
  "UNSUPPORTED_ARCHITECTURE",
  "MODEL_DIFFERS",
  "BAD_CHECKPOINT",
  "BAD_CONFIG",
  "TOKENIZER_MISSING",
  "BAD_TOKENIZER",
  "UNSUPPORTED_CHARACTER",
  "TOKEN_BEYOND_EMBEDDING",
  "UNSUPPORTED_TOKENIZER",
  "UNSUPPORTED_DTYPE",
  "UNSUPPORTED_QUANTISATION",
]);

interface LevelsInput extends Runnable {
  readonly device: OnnxDevice;
  readonly clock: Clock;
  readonly dtype: Weighed["dtype"];
}

async function* runLevels(
  inputs: EvaluationInputs,
  { pair, base, prepared, device, clock, dtype }: LevelsInput,
  options: EngineOptions,
) {
  const { seed, floorTokens, maxNewTokens } = inputs.options;
  const { tokenizer, sequences, prompts, encode } = prepared;
  const decode = (ids: readonly number[]) => tokenizer.decode(ids, { skipSpecial: false });
  const shared = { pair, device, tokenizer, encode };
  const { report: logits, runtime } = yield* clock.time(
    "logits",
    logitsLevel({ pair, base, sequences, device, floorTokens, seed, dtype, decode }, options),
  );
  const generates = pair.model.head.form === "vocabulary" && pair.model.direction === "decoder";
  const text =
    generates && prompts.length > 0
      ? yield* clock.time("text", textLevel({ ...shared, prompts, maxNewTokens }, options))
      : null;
  const tasks =
    generates && inputs.tasks
      ? yield* clock.time("tasks", tasksLevel({ ...shared, tasks: inputs.tasks }, options))
      : null;
  return { logits, text, tasks, runtime };
}

function referenceOf(
  { labels, sources }: EvaluationInputs,
  { reference, weighed }: { reference: ReferenceSide; weighed: Weighed },
): EvaluationReport["reference"] {
  return {
    base: { label: labels.base, ...digestsOf(weighed.digests.base) },
    sources: sources.map(({ weight }, i) => ({
      label: labels.sources[i]!,
      ...digestsOf(weighed.digests.sources[i] ?? null),
      weight,
    })),
    forms: { ...reference.forms },
    note: reference.note,
  };
}

function candidateOf(
  { labels, candidate }: EvaluationInputs,
  { digests, dtype }: Weighed,
): EvaluationReport["candidate"] {
  return {
    label: labels.candidate,
    ...digestsOf(digests.candidate),
    kind: candidate === null ? "recipe" : "checkpoint",
    dtype,
  };
}

type Digests = ReturnType<typeof checkpointDigests>;

const digestsOf = (digests: Digests | null) => ({
  version: digests?.version ?? null,
  weights: digests?.weights ?? null,
});

function plain({ code, message, subject }: Finding): {
  code: string;
  message: string;
  subject?: string;
} {
  return { code, message, ...(subject !== undefined && { subject }) };
}

/** Milliseconds by stage. */
class Clock {
  readonly times: Record<string, number> = {};

  async *time<T>(stage: string, work: AsyncGenerator<EngineEvent, T>): AsyncGenerator<EngineEvent, T> {
    const start = performance.now();
    const result = yield* work;
    this.times[stage] = Math.round(performance.now() - start);
    return result;
  }
}
