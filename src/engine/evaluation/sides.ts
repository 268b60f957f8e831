import { readModelFacts } from "../../core/arch.ts";
import { CONFIG_FILE, type LocatedTensor, tensorsByName } from "../../core/checkpoint.ts";
import { type Combined, combineSources } from "../../core/combined-sources.ts";
import { AppError, refusal } from "../../core/errors.ts";
import { base as baseLeaf, type Expr, mapLeaves } from "../../core/expr.ts";
import { isFloat8 } from "../../core/float8.ts";
import type { JsonObject } from "../../core/json.ts";
import { editedObject, type JsonEdit } from "../../core/json-edit.ts";
import { type MergePlan, planMerge, requireRunnable } from "../../core/plan.ts";
import { changedConfig } from "../../core/plan-files.ts";
import { isFloat8Base } from "../../core/plan-findings.ts";
import { planFloat8 } from "../../core/plan-float8.ts";
import type { PlanStep } from "../../core/plan-layout.ts";
import type { MergeChoices } from "../../core/recipe.ts";
import type { Located } from "../events.ts";
import type { Side, WeightForm } from "../forward/side.ts";
import { declared, SideForms } from "./side-forms.ts";
import { noteOf } from "./side-note.ts";

/** A side with what it takes to read its forward pass from. */
export interface DescribedSide {
  readonly side: Side;
  /** config.json of the model that the side is. */
  readonly config: JsonObject;
  /** Every tensor of the side by its name. */
  readonly shapes: ReadonlyMap<string, ReturnType<typeof declared>>;
}

export interface ReferenceSide extends DescribedSide {
  /** Adapted tensors by how they run. */
  readonly forms: Readonly<Record<WeightForm["kind"], number>>;
  /** The same for people. */
  readonly note: string;
  /** The merge that the reference stands for; null for several sources or a weight, which no recipe merges yet. */
  readonly plan: MergePlan | null;
  /** Of each source alone, at the weight 1. */
  readonly plans: readonly MergePlan[];
  /** What base and sources are together, tensor by tensor. */
  readonly combined: Combined;
}

export interface ReferenceInput {
  readonly base: Located;
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** Of the merge that the reference stands for; include, exclude, ties and tokenizer count, dtype and numerics do not. */
  readonly choices: MergeChoices;
  /** What to call the inputs in messages; default their folders. */
  readonly labels?: { readonly base: string; readonly sources: readonly string[] };
}

/**
 * The side that is not merged: base and adapters, W + Σ weightᵢ·(exprᵢ − W) for each tensor. Nothing on it is rounded to
 * a storage type: `round` nodes of the plans' expressions are dropped, stored tensors keep the type they have, and of a
 * base in 8-bit floats every weight is dequantised in float32. Adapters' tensors must have been digested, and the base's
 * where `needsBaseDigests` says so, as for any plan.
 * @throws the refusals of all plans together; AMBIGUOUS_SOURCES, WEIGHT_OF_REPLACEMENT (see `combineSources`); NO_SOURCE
 */
export function referenceSide(input: ReferenceInput): ReferenceSide {
  const { base, sources } = input;
  if (sources.length === 0) {
    throw new AppError("NO_SOURCE", "the reference has no adapter: name at least one beside the base.", {
      field: "sources",
    });
  }
  const tensors = tensorsByName(base.facts.weights);
  const { config } = base.facts;
  const eight = [...tensors.values()].some(({ dtype }) => isFloat8(dtype));
  const plans = plansOf(input, input.choices);
  // Dequantised, where the merge itself would quantise again.
  const seen = eight ? plansOf(input, { ...input.choices, dtype: "F32" }) : plans;
  const forms = new SideForms({ base, sources });
  const combined = combineSources({
    tensors,
    config,
    values: dequantised(tensors, config).values,
    sources: seen.map((plan, i) => ({ plan, weight: sources[i]!.weight, label: labelOf(input, i) })),
    shapes: forms.shapes,
  });
  if (combined.problems.length > 0) throw refusal("this reference is refused", combined.problems);
  const weights = Object.fromEntries(combined.tensors.map((one) => [one.tensor, forms.unmerged(one)]));
  const adapted = adaptedForms(combined, weights);
  return {
    ...described("reference", weights, editedObject(config, combined.edits)),
    forms: countsOf(adapted),
    note: noteOf(adapted, { plans, eight }),
    plan: plans.length === 1 && sources[0]!.weight === 1 ? plans[0]! : null,
    plans,
    combined,
  };
}

const labelOf = ({ sources, labels }: ReferenceInput, i: number) => labels?.sources[i] ?? sources[i]!.folder;

/** The plan of each source's own merge into the base. */
function plansOf(input: ReferenceInput, choices: MergeChoices): MergePlan[] {
  const { base, sources, labels } = input;
  const plans = sources.map(({ facts }, i) =>
    planMerge({
      base: { facts: base.facts, label: labels?.base ?? base.folder },
      sources: [{ facts, label: labelOf(input, i) }],
      // The weight is no part of the plan: it scales what the plan's expressions change.
      choices: { ...choices, weights: [1] },
    }),
  );
  const refusals = plans.flatMap((plan) => plan.refusals);
  if (refusals.length > 0) throw refusal("this reference is refused", refusals);
  return plans;
}

function adaptedForms({ tensors }: Combined, weights: Readonly<Record<string, WeightForm>>) {
  const adapted = tensors.filter(({ touched }) => touched);
  return adapted.map(({ tensor }) => ({ tensor, kind: weights[tensor]!.kind }));
}

function countsOf(adapted: readonly { readonly kind: WeightForm["kind"] }[]): ReferenceSide["forms"] {
  const count = (kind: WeightForm["kind"]) => adapted.filter((one) => one.kind === kind).length;
  return {
    stored: count("stored"),
    branches: count("branches"),
    rows: count("rows"),
    computed: count("computed"),
  };
}

export interface CandidateInput {
  readonly base: Located;
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** A checkpoint of any tool's making; null: what the recipe would write. */
  readonly candidate: Located | null;
  /** The reference's. */
  readonly plan: MergePlan | null;
}

/**
 * The merged side: a checkpoint, or the recipe's result computed on the fly.
 * @throws UNSUPPORTED_RECIPE where there is neither: several sources, or a weight, are merged by no recipe
 */
export function candidateSide({ base, sources, candidate, plan }: CandidateInput): DescribedSide {
  if (candidate) return checkpointSide(candidate);
  if (plan) return recipeSide(plan, base, sources);
  throw new AppError(
    "UNSUPPORTED_RECIPE",
    `a recipe merges one adapter with the weight 1 (found ${sources.map(({ weight }) => weight).join(", ")}): name the checkpoint that is to be compared with base and adapters as the candidate.`,
    { field: "candidate" },
  );
}

/**
 * A checkpoint as it is stored; of one in 8-bit floats every weight is dequantised, one float32 product.
 * @throws NOT_A_CHECKPOINT for an adapter, UNSUPPORTED_DTYPE for other quantised weights, UNSUPPORTED_QUANTISATION for
 *   8-bit floats whose scales are not understood, BAD_CHECKPOINT for a name that stands in two files
 */
export function checkpointSide(located: Located, name = "candidate"): DescribedSide {
  const { facts, folder } = located;
  requireReadable(located);
  const tensors = tensorsByName(facts.weights);
  const { values, dropped, edits } = dequantised(tensors, facts.config);
  const forms = new SideForms({ base: located, sources: [] });
  const kept = [...tensors.values()].filter((tensor) => !dropped.has(tensor.name));
  const weights = kept.map(({ name: tensor, shape }) => {
    const expr = values.get(tensor);
    const form = expr
      ? ({ kind: "computed", expr } as const)
      : ({ kind: "stored", leaf: baseLeaf(tensor) } as const);
    return [tensor, forms.unmerged({ tensor, shape, start: tensor, form })] as const;
  });
  if (weights.length === 0) throw new AppError("NO_WEIGHTS", `${folder} holds no tensor.`);
  return described(name, Object.fromEntries(weights), editedObject(facts.config, edits));
}

function requireReadable({ folder, facts }: Located): void {
  if (facts.kind !== "checkpoint") {
    throw new AppError(
      "NOT_A_CHECKPOINT",
      `${folder} is an adapter, not a checkpoint with full weights: name the folder of the model.`,
    );
  }
  const { quantMethod } = readModelFacts(facts.config);
  if (quantMethod === null || isFloat8Base(facts, quantMethod)) return;
  throw new AppError(
    "UNSUPPORTED_DTYPE",
    `${folder} is quantised (${quantMethod}): a forward pass reads F32, F16, BF16 and 8-bit floats with scales. Evaluate the full-precision checkpoint.`,
    { field: "quantization_config" },
  );
}

/**
 * What a merge would write, without writing it: touched tensors are computed in the recipe's own numerics and storage
 * type, others are the base's, cast where the recipe says so. Of 8-bit floats the value is that of the bytes that would
 * be written, scales included.
 * @throws the plan's refusals
 */
export function recipeSide(plan: MergePlan, base: Located, sources: readonly Located[]): DescribedSide {
  requireRunnable(plan);
  const forms = new SideForms({ base, sources });
  const config = editedObject(base.facts.config, configEdits(plan));
  const written = new Map(plan.steps.map((step) => [step.tensor, step]));
  const { values, dropped, edits } = dequantised(writtenTensors(plan), config);
  const kept = plan.steps.filter(({ tensor }) => !dropped.has(tensor));
  const weights = kept.map((step) => {
    const value = values.get(step.tensor);
    const expr = value && mapLeaves(value, (leaf) => writtenExpr(written.get(leaf.tensor)!));
    return [step.tensor, writtenForm(step, { plan, forms, expr })] as const;
  });
  return described("candidate", Object.fromEntries(weights), editedObject(config, edits));
}

/** The output's tensors, as a reader of its files would find them. */
function writtenTensors({ steps }: MergePlan): Map<string, LocatedTensor> {
  return new Map(
    steps.map(({ tensor, dtype, shape, file, outputBegin, bytes }) => [
      tensor,
      { name: tensor, dtype, shape, file, begin: outputBegin, end: outputBegin + bytes },
    ]),
  );
}

const writtenExpr = ({ expr, input }: PlanStep): Expr => expr ?? baseLeaf(input!.tensor);

interface Writing {
  readonly plan: MergePlan;
  readonly forms: SideForms;
  /** Of 8-bit floats: what the written bytes stand for. */
  readonly expr: Expr | undefined;
}

function writtenForm(step: PlanStep, { plan, forms, expr }: Writing): WeightForm {
  const { tensor, shape, input } = step;
  const start = input?.tensor ?? null;
  const { numerics } = plan.choices;
  const task = (of: Expr, dtype: PlanStep["dtype"]) =>
    ({
      kind: "computed",
      task: forms.task({ name: tensor, dtype, shape, start, expr: of, numerics }),
    }) as const;
  if (expr) return task(expr, "F32");
  const whole = writtenExpr(step);
  if (whole.op === "base" || whole.op === "source") {
    const stored = forms.stored(whole, shape);
    if (stored.dtype === step.dtype) return { kind: "stored", tensor: stored };
  }
  return task(whole, step.dtype);
}

const configEdits = ({ files }: MergePlan): readonly JsonEdit[] =>
  files.find(({ path }) => path === CONFIG_FILE)?.edits ?? [];

/** What the weights of a checkpoint in 8-bit floats stand for, as expressions over its own tensors; none of any other. */
function dequantised(tensors: ReadonlyMap<string, LocatedTensor>, config: JsonObject) {
  const { targets, dropped, config: changes, problems } = planFloat8([], tensors, { config, dtype: "F32" });
  if (problems.length > 0) throw refusal("these 8-bit floats cannot be read", problems);
  return {
    values: new Map<string, Expr>(targets.map(({ tensor, expr }) => [tensor, expr])),
    dropped,
    edits: changedConfig({ config, files: [] }, changes)[0]?.edits ?? [],
  };
}

function described(
  name: string,
  weights: Readonly<Record<string, WeightForm>>,
  config: JsonObject,
): DescribedSide {
  const shapes = new Map(Object.entries(weights).map(([tensor, form]) => [tensor, declared(form)]));
  return { side: { name, weights }, config, shapes };
}
