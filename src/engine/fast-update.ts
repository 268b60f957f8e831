import { isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { asLowRankUpdate, type Expr, leafKey } from "../core/expr.ts";
import { NUMERICS } from "../core/recipe.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";

/** A stored factor, a matrix in row-major order. */
export interface Factor {
  readonly leaf: ProgramLeaf;
  readonly dtype: MergeableDtype;
  readonly rows: number;
  readonly cols: number;
}

/** W (m×n) + scale · B (m×r) · A (r×n), both factors as they are stored. */
export interface FastUpdate {
  readonly a: Factor;
  readonly b: Factor;
  readonly scale: number;
}

/** The task as the streaming kernel takes it, or null where it is something else. */
export function fastUpdate(task: TensorTask): FastUpdate | null {
  const { program, input, dtype, shape } = task;
  if (!program || !input || program.numerics !== NUMERICS) return null;
  const update = asLowRankUpdate(program.expr);
  if (!update || update.roundFirst || shape.length !== 2 || dtype !== input.dtype) return null;
  const a = factor(program.leaves, update.right);
  const b = factor(program.leaves, update.left);
  return a && b && { a, b, scale: Math.fround(update.scale) };
}

function factor(leaves: readonly ProgramLeaf[], expr: Expr): Factor | null {
  if (expr.op !== "source") return null;
  const leaf = leaves.find(({ key }) => key === leafKey(expr));
  if (leaf?.shape.length !== 2 || !isMergeable(leaf.dtype)) return null;
  const [rows, cols] = leaf.shape as [number, number];
  return { leaf, dtype: leaf.dtype, rows, cols };
}
