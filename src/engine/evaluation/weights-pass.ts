import type { VersionDigests } from "../../core/checkpoint.ts";
import { CONFIG_FILE } from "../../core/checkpoint.ts";
import type { ComparedPlan } from "../../core/combined-plan.ts";
import { MAX_ULP } from "../../core/devices.ts";
import { isMergeable, type MergeableDtype } from "../../core/dtype.ts";
import { AppError, type Finding } from "../../core/errors.ts";
import { diagnose, noEffect, suspects, type UntouchedTensor } from "../../core/evaluation/diagnosis.ts";
import type { EvaluationReport, Reason } from "../../core/evaluation/report.ts";
import {
  movedOf,
  type TouchedTensor,
  type WeightSample,
  weightsReport,
} from "../../core/evaluation/retention.ts";
import { checkStructure, copyReasons, type Structure } from "../../core/evaluation/structure.ts";
import { weightChecks } from "../../core/evaluation/weight-checks.ts";
import type { Digest } from "../../core/identity.ts";
import { editedObject } from "../../core/json-edit.ts";
import type { Check } from "../../core/parity.ts";
import { type MergePlan, requireRunnable } from "../../core/plan.ts";
import { makeRecipe, recipeDigest } from "../../core/recipe.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import type { Work } from "../pool.ts";
import { runWorks } from "../run-tasks.ts";
import { comparisons, type PlannedComparison } from "./compare-tasks.ts";
import { type ReadTensors, readEverything } from "./read-everything.ts";

interface ComparedPlaces {
  readonly base: Located;
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** A checkpoint of any tool's making; null: what the plan would write, computed on the fly. */
  readonly candidate: Located | null;
}

export interface WeightsInput extends ComparedPlaces {
  /** Of the merge that the reference stands for. */
  readonly plan: MergePlan;
}

export interface CombinedInput extends ComparedPlaces {
  /** What several adapters are together, or one with a weight. */
  readonly plan: ComparedPlan;
}

export interface WeightsOutcome {
  readonly checks: readonly Check[];
  /** Null where no tensor that the adapter changes could be compared. */
  readonly weights: EvaluationReport["weights"];
  /** Named reasons why the candidate is not base + adapter; empty for one that is, within rounding. */
  readonly reasons: readonly Reason[];
  readonly warnings: readonly Finding[];
  /** In which the candidate stores most of what the adapter changes. */
  readonly dtype: MergeableDtype;
  /** Of the recipe that the reference stands for; null where there is none. */
  readonly recipeDigest: Digest | null;
  /** Of everything that was read; the candidate's null where it is computed. */
  readonly digests: {
    readonly base: VersionDigests;
    readonly sources: readonly VersionDigests[];
    readonly candidate: VersionDigests | null;
  };
}

/**
 * Levels 0 and 1 of an evaluation: is the candidate the checkpoint that was meant, and is every tensor of it what base
 * and adapter give? Both checkpoints are read about once, in the memory of a few tiles a thread.
 * @throws the plan's refusals, NOT_A_CHECKPOINT for an adapter in the candidate's place, INPUT_CHANGED, BAD_FILE,
 *   OUT_OF_MEMORY; a candidate that is wrong is a result, not an error
 */
export async function* compareWeights(
  input: WeightsInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, WeightsOutcome> {
  const { digests, ...outcome } = yield* compareAll(input, true, options);
  return { ...outcome, digests, recipeDigest: recipeOf(input, digests) };
}

/**
 * The same where no recipe stands for the reference: no bytes are canonical, and a tensor is right where as much of the
 * exact change is in it, and as little else, as storing it leaves.
 * @throws what `compareWeights` throws
 */
export async function* compareCombined(
  input: CombinedInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, WeightsOutcome> {
  return { ...(yield* compareAll(input, false, options)), recipeDigest: null };
}

async function* compareAll(
  input: CombinedInput,
  canonical: boolean,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Omit<WeightsOutcome, "recipeDigest">> {
  const { plan, candidate } = input;
  requireRunnable(plan);
  const structure = candidate && structureOf(input, candidate);
  const compared = comparisons(
    input,
    candidate && structure && { folder: candidate.folder, pairs: structure.pairs },
  );
  const what = candidate ? "with base + adapter" : "as the merge would write them";
  yield { type: "stage", stage: "verify", message: `comparing ${compared.length} tensors ${what}` };
  const read = yield* readEverything(input, compared, options);
  const { touched, untouched } = sorted(plan, compared, { read, canonical });
  const samples = yield* readSamples(candidate ? suspects(touched, MAX_ULP) : [], compared, options);
  const reasons = candidate
    ? [
        ...structure!.reasons,
        ...copyReasons(structure!.copies, read.candidateDigest),
        ...diagnose({ touched, untouched, samples, maxUlp: MAX_ULP }),
      ]
    : noEffect({ touched, untouched });
  const checks = weightChecks({
    touched,
    untouched,
    reasons,
    maxUlp: MAX_ULP,
    computed: candidate === null,
  });
  return {
    checks: [consumed(plan), ...(structure?.checks ?? []), ...checks],
    weights: touched.length > 0 ? weightsReport(touched, untouched.length) : null,
    reasons,
    warnings: unmoved(touched, reasons),
    dtype: mainDtype(touched, plan),
    digests: { base: read.base, sources: read.sources, candidate: read.candidate },
  };
}

function structureOf({ plan, base }: CombinedInput, { folder, facts }: Located): Structure {
  if (facts.kind !== "checkpoint") {
    throw new AppError(
      "NOT_A_CHECKPOINT",
      `${folder} is an adapter, not a merged checkpoint: name the folder that base and adapter became, and remove adapter_config.json from it where it is one.`,
    );
  }
  const edits = plan.files.find(({ path }) => path === CONFIG_FILE)?.edits ?? [];
  return checkStructure({
    wanted: plan.steps,
    config: editedObject(base.facts.config, edits),
    candidate: facts,
  });
}

/** What was found of each tensor, by whether the adapter changes it. */
function sorted(
  plan: ComparedPlan,
  compared: readonly PlannedComparison[],
  { read, canonical }: { readonly read: ReadTensors; readonly canonical: boolean },
) {
  const targets = new Map(plan.touched.map((target) => [target.tensor, target]));
  const touched: TouchedTensor[] = [];
  const untouched: UntouchedTensor[] = [];
  for (const { step, task } of compared) {
    const { elements, nonFinite, identical, distance, sums, hasBase } = read.compared.get(step.tensor)!;
    const { tensor, shape } = step;
    if (step.expr === null) {
      untouched.push({ tensor, shape, elements, nonFinite, identical, differing: distance.differing });
      continue;
    }
    const { module = tensor, change = "computed", scale = null, rank = null } = targets.get(tensor) ?? {};
    const { dtype } = task.expected;
    touched.push({
      tensor,
      module,
      change,
      scale,
      rank,
      shape,
      dtype,
      elements,
      nonFinite,
      distance: canonical || !sums || !hasBase ? distance : null,
      sums,
      hasBase,
    });
  }
  return { touched, untouched };
}

/** A few elements of the tensors whose change is another one than expected. */
async function* readSamples(
  names: readonly string[],
  compared: readonly PlannedComparison[],
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Map<string, WeightSample>> {
  const wanted = new Set(names);
  const samples = new Map<string, WeightSample>();
  const works = compared
    .filter(({ step }) => wanted.has(step.tensor))
    .map(({ task }): Work => ({ kind: "weights", task: { ...task, turned: true } }));
  if (works.length === 0) return samples;
  yield { type: "stage", stage: "verify", message: `looking for what is wrong with ${works.length} tensors` };
  yield* runWorks(
    {
      stage: "verify",
      works,
      done: async (_, found) => {
        if (found.kind === "weights" && found.result) samples.set(found.result.tensor, found.result);
      },
    },
    options,
  );
  return samples;
}

/** Every refusal of the plan was thrown: what is left to say is what became of the adapter's tensors. */
function consumed({ coverage, touched }: ComparedPlan): Check {
  const tensors = coverage.reduce((sum, one) => sum + one.tensors, 0);
  const ignored = coverage.reduce((sum, one) => sum + one.ignored.length, 0);
  const without = ignored > 0 ? `, ${ignored} of them buffers without a part in a merge` : "";
  return {
    level: 0,
    name: "every adapter tensor has its part",
    passed: true,
    detail: `${tensors} adapter tensors change ${touched.length} tensors of the model${without}`,
  };
}

/** A tensor that could not move, in a merge that did. */
function unmoved(touched: readonly TouchedTensor[], reasons: readonly Reason[]): Finding[] {
  const still = touched.filter((one) => movedOf(one) === 0 && one.elements > 0 && one.sums?.rightMoved === 0);
  if (reasons.some(({ code }) => code === "NO_EFFECT" || code === "ROUNDED_AWAY")) return [];
  return still.map(({ tensor, sums }) => ({
    code: "TENSOR_UNCHANGED",
    subject: tensor,
    message: `tensor "${tensor}" did not change: ${
      sums!.delta === 0
        ? "the adapter learnt nothing there"
        : "every change is smaller than half the spacing of the stored type and was rounded away"
    }.`,
  }));
}

/** Of the touched tensors, by elements. */
function mainDtype(touched: readonly TouchedTensor[], { choices }: ComparedPlan): MergeableDtype {
  const counts = new Map<MergeableDtype, number>();
  for (const { dtype, elements } of touched) {
    if (isMergeable(dtype)) counts.set(dtype, (counts.get(dtype) ?? 0) + elements);
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? choices.dtype ?? "BF16";
}

function recipeOf({ plan, sources }: WeightsInput, read: WeightsOutcome["digests"]): Digest {
  return recipeDigest(
    makeRecipe({
      base: read.base,
      sources: read.sources.map((digests, i) => ({ ...digests, weight: sources[i]!.weight })),
      tokenizer: plan.tokenizer.from,
      choices: plan.choices,
    }),
  );
}
