import { join } from "node:path";
import { type LocatedTensor, tensorsByName } from "../core/checkpoint.ts";
import { base as baseLeaf, type Leaf, leafKey, leaves } from "../core/expr.ts";
import type { MergePlan } from "../core/plan.ts";
import type { PlanStep, StepInput } from "../core/plan-layout.ts";
import type { Located } from "./events.ts";
import type { Program, ProgramLeaf, TensorResult, TensorTask } from "./pool.ts";

export interface TaskInputs {
  readonly plan: MergePlan;
  readonly base: Located;
  readonly sources: readonly Located[];
}

/** The part of a plan that tasks are made of. */
export interface StepInputs extends Omit<TaskInputs, "plan"> {
  readonly plan: Pick<MergePlan, "steps" | "unused" | "choices">;
}

/**
 * One task for each step of the plan, in the plan's order, and then one for each base tensor that only has to be
 * digested; without outputs and comparisons.
 */
export function tensorTasks(inputs: StepInputs): TensorTask[] {
  const find = leafFinder(inputs);
  const steps = inputs.plan.steps.map((step) => stepTask(step, inputs, find));
  const unused = inputs.plan.unused.map((tensor): TensorTask => {
    const { name, dtype, shape, digest } = tensor;
    const input = located(baseLeaf(name), inputs.base, tensor);
    return { name: unusedTask(name), dtype, shape, input, ...(digest && { expectDigest: digest }) };
  });
  return [...steps, ...unused];
}

/** Name of the task that only reads a base tensor. */
export function unusedTask(tensor: string): string {
  return `base:${tensor}`;
}

/** What the tasks learnt of every base tensor. */
export function baseResults(
  { plan }: TaskInputs,
  results: ReadonlyMap<string, TensorResult>,
): Map<string, TensorResult> {
  const found = new Map<string, TensorResult>();
  for (const step of plan.steps) if (step.input) found.set(step.input.tensor, results.get(step.tensor)!);
  for (const { name } of plan.unused) found.set(name, results.get(unusedTask(name))!);
  return found;
}

type LeafFinder = (leaf: Leaf) => ProgramLeaf;

/** Where the leaves of expressions lie on disk. */
export function leafFinder({ base, sources }: Omit<TaskInputs, "plan">): LeafFinder {
  const baseTensors = tensorsByName(base.facts.weights);
  const sourceTensors = sources.map((source) => tensorsByName(source.facts.weights));
  return (leaf) => {
    const [from, tensors] =
      leaf.op === "base" ? [base, baseTensors] : [sources[leaf.source]!, sourceTensors[leaf.source]!];
    return located(leaf, from, tensors.get(leaf.tensor)!);
  };
}

function located(leaf: Leaf, { folder }: Located, tensor: LocatedTensor): ProgramLeaf {
  const { file, begin, end, dtype, shape, digest } = tensor;
  return {
    key: leafKey(leaf),
    path: join(folder, file),
    offset: begin,
    bytes: end - begin,
    dtype,
    shape,
    ...(digest && { digest }),
  };
}

function stepTask(step: PlanStep, { plan, base }: StepInputs, find: LeafFinder): TensorTask {
  const input = step.input && inputLeaf(step.input, base);
  const digest = step.input && find(baseLeaf(step.input.tensor)).digest;
  const program = programOf(step, find);
  return {
    name: step.tensor,
    dtype: step.dtype,
    shape: step.shape,
    input,
    ...(digest && { expectDigest: digest }),
    ...(program && { program: { ...program, numerics: plan.choices.numerics } }),
  };
}

function inputLeaf(input: StepInput, { folder }: Located): ProgramLeaf {
  const { tensor, file, begin, bytes, dtype, shape } = input;
  return { key: leafKey(baseLeaf(tensor)), path: join(folder, file), offset: begin, bytes, dtype, shape };
}

/** An untouched tensor in another storage type is its input, rounded. */
function programOf(step: PlanStep, find: LeafFinder): Omit<Program, "numerics"> | null {
  const { input } = step;
  const expr = step.expr ?? (input && input.dtype !== step.dtype ? baseLeaf(input.tensor) : null);
  if (!expr) return null;
  const own = input && leafKey(baseLeaf(input.tensor));
  return {
    expr,
    leaves: leaves(expr)
      .map(find)
      .filter(({ key }) => key !== own),
  };
}
