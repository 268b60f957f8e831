import { join } from "node:path";
import { type LocatedTensor, tensorsByName } from "../core/checkpoint.ts";
import { isMergeable } from "../core/dtype.ts";
import { asLowRankUpdate, type Expr } from "../core/expr.ts";
import type { MergePlan, PlanStep } from "../core/plan.ts";
import type { Located } from "./events.ts";
import type { FactorRange, TensorTask } from "./pool.ts";

export interface TaskInputs {
  readonly plan: MergePlan;
  readonly base: Located;
  readonly sources: readonly Located[];
}

/** A factor as the pool reads it, from an adapter whose tensors have been digested. */
export function factorRange(source: Located, tensor: LocatedTensor): FactorRange {
  const [rows, cols] = tensor.shape as [number, number];
  if (!isMergeable(tensor.dtype) || tensor.digest === undefined) {
    throw new Error(`${tensor.name} was planned as a factor without a float type or a digest`);
  }
  return {
    path: join(source.folder, tensor.file),
    offset: tensor.begin,
    bytes: tensor.end - tensor.begin,
    dtype: tensor.dtype,
    rows,
    cols,
    digest: tensor.digest,
  };
}

/** One task for each step of the plan, in the plan's order; without outputs and comparisons. */
export function tensorTasks({ plan, base, sources }: TaskInputs): TensorTask[] {
  const baseTensors = tensorsByName(base.facts.weights);
  const factors = sources.map((source) => tensorsByName(source.facts.weights));
  const lora = (expr: Expr): Pick<TensorTask, "lora"> => {
    const update = asLowRankUpdate(expr);
    if (!update) throw new Error(`no kernel for ${JSON.stringify(expr).slice(0, 200)}`);
    const source = sources[update.source]!;
    const tensor = (name: string) => factors[update.source]!.get(name)!;
    return {
      lora: {
        a: factorRange(source, tensor(update.a)),
        b: factorRange(source, tensor(update.b)),
        scale: Math.fround(update.scale),
      },
    };
  };
  return plan.steps.map((step) => {
    const digest = baseTensors.get(step.tensor)?.digest;
    return {
      name: step.tensor,
      dtype: step.dtype,
      shape: step.shape,
      input: inputRange(base, step),
      ...(digest && { expectDigest: digest }),
      ...(step.expr && lora(step.expr)),
    };
  });
}

function inputRange(base: Located, step: PlanStep): TensorTask["input"] {
  return { path: join(base.folder, step.file), offset: step.inputBegin, bytes: step.bytes };
}
