import { join } from "node:path";
import { withoutRounding } from "../../core/branches.ts";
import { type LocatedTensor, tensorsByName } from "../../core/checkpoint.ts";
import { isMergeable } from "../../core/dtype.ts";
import { base as baseLeaf, type Expr, leafKey, leaves, reshape, sub, sumsBase } from "../../core/expr.ts";
import { EXACT_NUMERICS } from "../../core/numerics-versions.ts";
import type { PlanStep } from "../../core/plan-layout.ts";
import type { Located } from "../events.ts";
import type { Program, StoredTensor, TensorTask } from "../pool.ts";
import { type StepInputs, tensorTasks } from "../tasks.ts";
import type { CompareTask } from "./tensor-comparer.ts";

/** A planned tensor with the task that compares it. */
export interface PlannedComparison {
  readonly step: PlanStep;
  /** Name of the candidate's tensor; null where it is computed. */
  readonly candidate: string | null;
  readonly task: CompareTask;
}

/**
 * One comparison for each planned tensor that the candidate has. With no candidate those that the merge computes: what
 * it would write is measured.
 * @param pairs the candidate's tensors by their planned names; null: no candidate
 */
export function comparisons(
  inputs: StepInputs,
  candidate: { readonly folder: string; readonly pairs: ReadonlyMap<string, LocatedTensor> } | null,
): PlannedComparison[] {
  const tasks = tensorTasks(inputs);
  return inputs.plan.steps.flatMap((step, i): PlannedComparison[] => {
    const task = tasks[i]!;
    if (!candidate) {
      return step.expr === null ? [] : [{ step, candidate: null, task: compareTask(step, task, null) }];
    }
    const found = candidate.pairs.get(step.tensor);
    if (!found) return [];
    return [{ step, candidate: found.name, task: compareTask(step, task, stored(candidate.folder, found)) }];
  });
}

function stored(folder: string, { file, begin, end, dtype, shape }: LocatedTensor): StoredTensor {
  return { path: join(folder, file), offset: begin, bytes: end - begin, dtype, shape };
}

function compareTask(step: PlanStep, task: TensorTask, candidate: StoredTensor | null): CompareTask {
  const expected = castTo(candidate?.dtype ?? step.dtype, step, task);
  const summed = step.expr !== null && sumsBase(step.expr);
  return { name: step.tensor, expected, delta: deltaTask(step, expected), summed, candidate };
}

/** The same value in another storage type. */
function castTo(dtype: TensorTask["dtype"], { input, expr }: PlanStep, task: TensorTask): TensorTask {
  if (task.dtype === dtype) return task;
  const { program, ...rest } = task;
  const isCopy = expr === null && input?.dtype === dtype;
  if (isCopy) return { ...rest, dtype };
  const cast: Program = { expr: baseLeaf(input?.tensor ?? ""), leaves: [], numerics: EXACT_NUMERICS };
  return { ...rest, dtype, program: program ?? cast };
}

/**
 * What is added to the base, in float32 out of exact arithmetic: of `W + X` it is X, of anything else what is left when
 * W is taken away; the whole value where the base has no such tensor. Null for types that are compared as bytes.
 */
function deltaTask({ expr, input, shape }: PlanStep, expected: TensorTask): TensorTask | null {
  if (expr === null || !isMergeable(expected.dtype)) return null;
  const before = input && isMergeable(input.dtype) && count(input.shape) === count(shape) ? input : null;
  const change = before ? changeOf(withoutRounding(expr), before, shape) : withoutRounding(expr);
  const read = leaves(change);
  const readsInput = expected.input !== null && read.some((leaf) => leafKey(leaf) === expected.input!.key);
  const wanted = new Set(read.map(leafKey));
  return {
    name: expected.name,
    dtype: "F32",
    shape,
    input: readsInput ? expected.input : null,
    digests: "none",
    program: {
      expr: change,
      leaves: expected.program!.leaves.filter(({ key }) => wanted.has(key)),
      numerics: EXACT_NUMERICS,
    },
  };
}

function changeOf(
  expr: Expr,
  before: { readonly tensor: string; readonly shape: readonly number[] },
  shape: readonly number[],
): Expr {
  const own = leafKey(baseLeaf(before.tensor));
  if (expr.op === "add" && expr.left.op === "base" && leafKey(expr.left) === own) return expr.right;
  const weight = baseLeaf(before.tensor);
  return sub(expr, before.shape.join() === shape.join() ? weight : reshape(weight, shape));
}

const count = (shape: readonly number[]) => shape.reduce((product, dim) => product * dim, 1);

/** Tasks that only read the tensors of a folder, for their digests. */
export function readTasks(
  { folder, facts }: Located,
  { prefix, except }: { readonly prefix: string; readonly except: ReadonlySet<string> },
): TensorTask[] {
  return [...tensorsByName(facts.weights).values()]
    .filter(({ name }) => !except.has(name))
    .map((tensor) => {
      const { name, dtype, shape, digest } = tensor;
      const input = { key: leafKey(baseLeaf(name)), ...stored(folder, tensor) };
      return { name: `${prefix}${name}`, dtype, shape, input, ...(digest && { expectDigest: digest }) };
    });
}
