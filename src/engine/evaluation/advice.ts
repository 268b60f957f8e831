import { readModelFacts } from "../../core/arch.ts";
import { allTensors, type CheckpointFacts } from "../../core/checkpoint.ts";
import type { DeviceName } from "../../core/devices.ts";
import { adviseOn, type ServingAdvice, type ServingFacts } from "../../core/evaluation/advice.ts";
import type { EvaluationReport, Gate } from "../../core/evaluation/report.ts";
import { requireServable, servingPlans } from "../../core/evaluation/serving-plans.ts";
import { type TextSet, textSet } from "../../core/evaluation/texts.ts";
import {
  servedNames,
  servedRank,
  vllmMerged,
  vllmObstacles,
  vllmSeparate,
} from "../../core/evaluation/vllm.ts";
import type { MergePlan } from "../../core/plan.ts";
import type { MergeChoices } from "../../core/recipe.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import { type EvaluationInputs, evaluate } from "./evaluate.ts";
import { timeServing } from "./serving-times.ts";

export interface ServingInputs {
  readonly base: Located;
  /** Adapters that act together. */
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** The merged checkpoint; null: it was not written, and the recipe stands for it. */
  readonly merged: Located | null;
  readonly choices: MergeChoices;
  /** What the command lines call them: paths, or names of repositories. */
  readonly labels: {
    readonly base: string;
    readonly sources: readonly string[];
    readonly merged: string | null;
  };
  /** Adapters of this base that will be served, this one included. */
  readonly planned: number;
  /** Of the short evaluation; null: the built-in ones. */
  readonly texts: TextSet | null;
  readonly gate: Gate;
  readonly device: DeviceName;
  /** An evaluation of these very inputs that was made before: none is made then. */
  readonly report?: EvaluationReport;
  /** Most bytes of widened weights to keep in memory while both sides are timed; default: half of what is free. */
  readonly keep?: number;
}

/** Texts that a short evaluation reads: enough for a verdict, and over soon. */
const SHORT_TEXTS = 64;
const SHORT_FLOOR = 512;

/**
 * Merged, or separate? Sizes, times on this machine, a short evaluation, and what follows from them.
 * @throws the plan's refusals, except that of a quantised base; BAD_FILE, DEVICE_UNAVAILABLE, DEVICE_FAILED
 */
export async function* adviseServing(
  inputs: ServingInputs,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, ServingAdvice> {
  const { base, sources, labels } = inputs;
  const plans = servingPlans({
    base: { facts: base.facts, label: labels.base },
    sources: sources.map(({ facts }, i) => ({ facts, label: labels.sources[i]! })),
    choices: inputs.choices,
  });
  const refused = requireServable(plans);
  const { quantMethod } = readModelFacts(base.facts.config);
  const training = plans
    .flatMap((plan) => plan.warnings)
    .find(({ code }) => code === "QUANTISED_TRAINING_BASE");
  const parity = refused
    ? { report: null, skipped: refused.message }
    : yield* parityOf(inputs, plans, options);
  const timed = refused
    ? { times: null, timesSkipped: refused.message }
    : yield* timeServing(inputs, options);
  const facts: ServingFacts = {
    labels: { base: inputs.labels.base, sources: [...inputs.labels.sources], merged: inputs.labels.merged },
    planned: inputs.planned,
    ...sizesOf(inputs, refused ? null : plans),
    ...timed,
    ...parityFacts(parity.report, parity.skipped),
    quantisation: { base: quantMethod, training: training?.message ?? null },
    ...servingCommands(inputs),
  };
  return adviseOn(facts);
}

/**
 * Of a merge that was not written the plan knows the sizes; of several adapters together: as large as the largest.
 * @param plans null where they are refused, and know nothing of what a merge would take
 */
function sizesOf(
  { base, sources, merged }: ServingInputs,
  plans: readonly MergePlan[] | null,
): Pick<ServingFacts, "disk" | "memory" | "mergedExists"> {
  const sum = (some: readonly Located[], of: (facts: CheckpointFacts) => number) =>
    some.reduce((total, { facts }) => total + of(facts), 0);
  const planned = (of: (plan: MergePlan) => number) => plans && Math.max(...plans.map(of));
  return {
    disk: {
      base: diskBytes(base.facts),
      adapter: sum(sources, diskBytes),
      merged: merged ? diskBytes(merged.facts) : planned((plan) => plan.bytesToWrite),
    },
    memory: {
      base: tensorBytes(base.facts),
      adapter: sum(sources, tensorBytes),
      merged: merged
        ? tensorBytes(merged.facts)
        : planned((plan) => plan.steps.reduce((total, { bytes }) => total + bytes, 0)),
    },
    mergedExists: merged !== null,
  };
}

const diskBytes = ({ files }: CheckpointFacts) => files.reduce((sum, { size }) => sum + size, 0);

const tensorBytes = (facts: CheckpointFacts) =>
  allTensors(facts).reduce((sum, { begin, end }) => sum + end - begin, 0);

interface Parity {
  readonly report: EvaluationReport | null;
  readonly skipped: string | null;
}

async function* parityOf(
  inputs: ServingInputs,
  plans: readonly MergePlan[],
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Parity> {
  const { report, merged, sources } = inputs;
  if (report) return { report, skipped: null };
  if (merged === null && (plans.length > 1 || sources[0]!.weight !== 1)) {
    const skipped =
      "several adapters, or one with a weight, have no recipe yet: merge them and name the checkpoint.";
    return { report: null, skipped };
  }
  return { report: yield* evaluate(shortEvaluation(inputs), options), skipped: null };
}

function shortEvaluation(inputs: ServingInputs): EvaluationInputs {
  const { base, sources, choices, merged, labels, texts, gate, device } = inputs;
  return {
    base,
    sources,
    choices,
    candidate: merged,
    labels: { ...labels, candidate: labels.merged ?? "what merging them would write" },
    texts: texts && shortened(texts),
    prompts: [],
    tasks: null,
    gate,
    options: {
      seed: 0,
      window: null,
      stride: null,
      chatTemplate: false,
      floorTokens: SHORT_FLOOR,
      maxNewTokens: 1,
      device,
    },
  };
}

function shortened(texts: TextSet): TextSet {
  if (texts.documents.length <= SHORT_TEXTS) return texts;
  return textSet(`${texts.name}, the first ${SHORT_TEXTS}`, texts.documents.slice(0, SHORT_TEXTS));
}

function parityFacts(
  report: EvaluationReport | null,
  skipped: string | null,
): Pick<ServingFacts, "parity" | "paritySkipped" | "retention"> {
  if (!report) return { parity: null, paritySkipped: skipped, retention: null };
  const { verdict, reasons, gate, candidate, logits, weights } = report;
  return {
    parity: {
      verdict,
      codes: [...new Set(reasons.map(({ code }) => code))],
      gate: `${gate.name}@${gate.version}`,
      dtype: candidate.dtype,
      documents: logits?.documents ?? 0,
      predictions: logits?.predictions ?? 0,
      meanKld: logits?.kld.mean ?? null,
      timesFloor: logits?.timesFloor ?? null,
      sameTop: logits?.sameTop ?? null,
      perplexityRatio: logits?.perplexity?.ratio ?? null,
    },
    paritySkipped: report.logitsSkipped,
    retention: weights && {
      relativeError: weights.relativeError,
      projection: weights.projection,
      moved: weights.moved,
    },
  };
}

/** Where no merged checkpoint is named yet. */
const UNNAMED = "merged";

/**
 * vLLM's command lines, and why it would not serve the adapters beside their base.
 * @param places where the models lie, if that is not what they are called
 */
export function servingCommands(
  { sources, labels, planned }: Pick<ServingInputs, "sources" | "labels" | "planned">,
  places: ServingInputs["labels"] = labels,
): Pick<ServingFacts, "obstacles" | "commands"> {
  const weighted = sources.filter(({ weight }) => weight !== 1);
  const obstacles = [
    ...new Set([
      ...sources.flatMap(({ facts }) => vllmObstacles(facts)),
      ...weighted.map(({ weight }) => `it counts with the weight ${weight}, and vLLM applies it as it is`),
    ]),
  ];
  const names = servedNames(labels.sources);
  const isServable = obstacles.length === 0 && sources.length === 1;
  const separate = isServable
    ? vllmSeparate({
        base: places.base,
        adapters: places.sources.map((path, i) => ({ name: names[i]!, path })),
        rank: servedRank(sources[0]!.facts),
        planned,
      })
    : null;
  return { obstacles, commands: { merged: vllmMerged(places.merged ?? UNNAMED), separate } };
}
