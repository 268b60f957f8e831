import { branchesExpr, type UnmergedForm } from "./branches.ts";
import { CONFIG_FILE, type LocatedTensor } from "./checkpoint.ts";
import type { Combined, CombinedTensor } from "./combined-sources.ts";
import { type Expr, setRows } from "./expr.ts";
import { EXACT_NUMERICS } from "./numerics-versions.ts";
import type { MergePlan, TouchedTensor } from "./plan.ts";
import type { PlanStep } from "./plan-layout.ts";

/** What of a plan is needed to compare a checkpoint with it. */
export type ComparedPlan = Pick<
  MergePlan,
  "steps" | "unused" | "touched" | "coverage" | "files" | "choices" | "refusals"
>;

/**
 * Several adapters, or one with a weight, as a plan to compare a checkpoint with: what each tensor is exactly, rounded
 * once into the type of the base. No merge of this release writes it, so no bytes are canonical.
 * @param plans of each source alone
 */
export function combinedPlan(
  { tensors, edits }: Combined,
  plans: readonly MergePlan[],
  base: ReadonlyMap<string, LocatedTensor>,
): ComparedPlan {
  const steps = tensors.map((one) => stepOf(one, plans, base));
  const used = new Set(steps.map(({ input }) => input?.tensor));
  const [first] = plans as [MergePlan];
  return {
    steps,
    unused: [...base.values()].filter(({ name }) => !used.has(name)),
    touched: tensors.flatMap(({ tensor, touched }) => (touched ? touchedBy(tensor, plans) : [])),
    coverage: plans.flatMap(({ coverage }) => coverage),
    files: [{ path: CONFIG_FILE, from: "plan", size: 0, edits }],
    choices: { ...first.choices, numerics: EXACT_NUMERICS },
    refusals: [],
  };
}

function stepOf(
  { tensor, shape, start, form }: CombinedTensor,
  plans: readonly MergePlan[],
  base: ReadonlyMap<string, LocatedTensor>,
): PlanStep {
  const from = start === null ? undefined : base.get(start);
  const planned = plans.flatMap(({ steps }) => steps).find((step) => step.tensor === tensor);
  const dtype = planned?.dtype ?? from?.dtype ?? "F32";
  const expr = exprOf(form);
  const isCopy = expr.op === "base" && expr.tensor === start;
  return {
    tensor,
    dtype,
    shape,
    bytes: planned?.bytes ?? 0,
    file: "",
    outputBegin: 0,
    input: from
      ? {
          tensor: from.name,
          file: from.file,
          begin: from.begin,
          bytes: from.end - from.begin,
          dtype: from.dtype,
          shape: from.shape,
        }
      : null,
    expr: isCopy ? null : expr,
  };
}

function exprOf(form: UnmergedForm): Expr {
  switch (form.kind) {
    case "stored":
      return form.leaf;
    case "branches":
      return branchesExpr(form);
    case "rows":
      return setRows(form.base, form.rows, form.to);
    case "computed":
      return form.expr;
  }
}

/** One row for all that change a tensor; their scales and ranks are not those of the whole. */
function touchedBy(tensor: string, plans: readonly MergePlan[]): TouchedTensor[] {
  const found = plans.flatMap(({ touched }) => touched.filter((one) => one.tensor === tensor));
  const [first, ...more] = found;
  if (!first || more.length === 0) return first ? [first] : [];
  const changes = [...new Set(found.map(({ change }) => change))].join(" + ");
  return [{ ...first, change: changes, rank: null, alpha: null, scale: null, forecast: null }];
}
