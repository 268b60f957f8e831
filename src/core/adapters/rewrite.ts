import { type Expr, type Leaf, leafKey, mapLeaves } from "../expr.ts";

/** Another expression in the place of one leaf, wherever it stands. */
export function replaceLeaf(expr: Expr, leaf: Leaf, by: Expr): Expr {
  const key = leafKey(leaf);
  return mapLeaves(expr, (found) => (leafKey(found) === key ? by : found));
}

/** Whether two expressions are the same, node for node. */
export function sameExpr(a: Expr, b: Expr): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
