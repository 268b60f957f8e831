import { type Expr, type Leaf, leafKey } from "../expr.ts";

/**
 * An expression with some of its leaves replaced. Shared sub-expressions stay shared, and what holds no replaced leaf
 * stays the same object, so that an evaluator still computes each of them once.
 */
export function replaceLeaves(expr: Expr, to: (leaf: Leaf) => Expr): Expr {
  const known = new Map<Expr, Expr>();
  const visit = (node: Expr): Expr => {
    const before = known.get(node);
    if (before) return before;
    const after = node.op === "base" || node.op === "source" ? to(node) : rebuilt(node, visit);
    known.set(node, after);
    return after;
  };
  return visit(expr);
}

function rebuilt(node: Exclude<Expr, Leaf>, visit: (child: Expr) => Expr): Expr {
  switch (node.op) {
    case "matmul":
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "kron": {
      const [left, right] = [visit(node.left), visit(node.right)];
      return left === node.left && right === node.right ? node : { ...node, left, right };
    }
    case "concat": {
      const parts = node.parts.map(visit);
      return parts.every((part, i) => part === node.parts[i]) ? node : { ...node, parts };
    }
    case "call": {
      const args = node.args.map(visit);
      return args.every((arg, i) => arg === node.args[i]) ? node : { ...node, args };
    }
    case "set-rows": {
      const [of, to] = [visit(node.of), visit(node.to)];
      return of === node.of && to === node.to ? node : { ...node, of, to };
    }
    default: {
      const of = visit(node.of);
      return of === node.of ? node : { ...node, of };
    }
  }
}

/** Another expression in the place of one leaf, wherever it stands. */
export function replaceLeaf(expr: Expr, leaf: Leaf, by: Expr): Expr {
  const key = leafKey(leaf);
  return replaceLeaves(expr, (found) => (leafKey(found) === key ? by : found));
}

/** Whether two expressions are the same, node for node. */
export function sameExpr(a: Expr, b: Expr): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
