import type { Expr, Leaf } from "./expr.ts";

/** Positions start … stop-1 along one axis. */
export interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly stop: number;
}

/** A leaf, or slices without steps of one: from the innermost to the outermost. */
export function leafPart(expr: Expr): { leaf: Leaf; cuts: Cut[] } | null {
  if (expr.op === "base" || expr.op === "source") return { leaf: expr, cuts: [] };
  if (expr.op !== "slice" || expr.step !== 1) return null;
  const inner = leafPart(expr.of);
  if (!inner) return null;
  const { axis, start, stop } = expr;
  return { leaf: inner.leaf, cuts: [...inner.cuts, { axis, start, stop }] };
}
