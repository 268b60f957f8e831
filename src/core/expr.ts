/**
 * What one output tensor is made of. An adapter kind turns its tensors and config into such an expression. It is read
 * three ways: `evaluate.ts` computes it slowly, in float64 (the oracle) or in the canonical float32 steps; the engine
 * compiles it to kernels. Plain data: it travels to worker threads.
 */
export type Expr =
  /** A stored tensor of the base, in its stored shape, widened. */
  | { readonly op: "base"; readonly tensor: string }
  /** A stored tensor of an adapter. */
  | { readonly op: "source"; readonly source: number; readonly tensor: string }
  /** (m×k)·(k×n) → m×n. `order`: how the sum over k is rounded, see `Arithmetic`; default "fused". */
  | { readonly op: "matmul"; readonly left: Expr; readonly right: Expr; readonly order?: SumOrder }
  /** Element by element; sizes of 1 stretch, and missing leading dimensions count as 1. */
  | { readonly op: "add" | "sub" | "mul" | "div"; readonly left: Expr; readonly right: Expr }
  /** Times a number that is rounded to float32 first, as torch treats a Python float. */
  | { readonly op: "scale"; readonly by: number; readonly of: Expr }
  /** Divided by a number that is rounded to float32 first. */
  | { readonly op: "over"; readonly by: number; readonly of: Expr }
  /** Rounded to the storage type of the output, and widened again. */
  | { readonly op: "round"; readonly of: Expr }
  | { readonly op: "relu"; readonly of: Expr }
  /** Euclidean length along an axis of a matrix, which is kept with size 1. */
  | { readonly op: "norm"; readonly of: Expr; readonly axis: 0 | 1; readonly order: NormOrder }
  | { readonly op: "reshape"; readonly of: Expr; readonly shape: readonly number[] }
  /** Dimensions in another order, numpy's `transpose(axes)`. */
  | { readonly op: "permute"; readonly of: Expr; readonly axes: readonly number[] }
  | Slice
  | { readonly op: "concat"; readonly axis: number; readonly parts: readonly Expr[] }
  /** The first `size` entries of the endless repetition along an axis. */
  | { readonly op: "repeat"; readonly of: Expr; readonly axis: number; readonly size: number }
  /** Kronecker product of tensors with the same number of dimensions. */
  | { readonly op: "kron"; readonly left: Expr; readonly right: Expr }
  /** Some rows of a matrix replaced by the rows of another, the last one winning. */
  | { readonly op: "set-rows"; readonly of: Expr; readonly rows: readonly number[]; readonly to: Expr }
  /** A function that only some kinds need: `functions.ts` has their names, shapes and values. */
  | {
      readonly op: "call";
      readonly name: string;
      readonly args: readonly Expr[];
      readonly params: Readonly<Record<string, number>>;
    };

/** Entries start, start+step, … below stop, along one axis. */
export interface Slice {
  readonly op: "slice";
  readonly of: Expr;
  readonly axis: number;
  readonly start: number;
  readonly stop: number;
  readonly step: number;
}

/** "fused": fused multiply-add in K-blocks, as MKL sums; "unfused": product and sum rounded apart, in order. */
export type SumOrder = "fused" | "unfused";
/** "lanes": torch's eight lanes of a contiguous row; "sequence": one sum in order; "double": in float64. */
export type NormOrder = "lanes" | "sequence" | "double";

export type Leaf = Extract<Expr, { op: "base" | "source" }>;

export const base = (tensor: string): Leaf => ({ op: "base", tensor });
export const source = (from: number, tensor: string): Leaf => ({ op: "source", source: from, tensor });
export const matmul = (left: Expr, right: Expr, order: SumOrder = "fused"): Expr =>
  order === "fused" ? { op: "matmul", left, right } : { op: "matmul", left, right, order };
export const add = (left: Expr, right: Expr): Expr => ({ op: "add", left, right });
export const sub = (left: Expr, right: Expr): Expr => ({ op: "sub", left, right });
export const mul = (left: Expr, right: Expr): Expr => ({ op: "mul", left, right });
export const div = (left: Expr, right: Expr): Expr => ({ op: "div", left, right });
export const scale = (by: number, of: Expr): Expr => ({ op: "scale", by, of });
export const over = (by: number, of: Expr): Expr => ({ op: "over", by, of });
export const round = (of: Expr): Expr => ({ op: "round", of });
export const relu = (of: Expr): Expr => ({ op: "relu", of });
export const reshape = (of: Expr, shape: readonly number[]): Expr => ({ op: "reshape", of, shape });
export const permute = (of: Expr, axes: readonly number[]): Expr => ({ op: "permute", of, axes });
export const transpose = (of: Expr): Expr => permute(of, [1, 0]);
export const concat = (axis: number, parts: readonly Expr[]): Expr => ({ op: "concat", axis, parts });
export const repeat = (of: Expr, axis: number, size: number): Expr => ({ op: "repeat", of, axis, size });
export const kron = (left: Expr, right: Expr): Expr => ({ op: "kron", left, right });
export const norm = (of: Expr, axis: 0 | 1, order: NormOrder): Expr => ({ op: "norm", of, axis, order });
export const setRows = (of: Expr, rows: readonly number[], to: Expr): Expr => ({
  op: "set-rows",
  of,
  rows,
  to,
});
export const call = (name: string, args: readonly Expr[], params: Record<string, number> = {}): Expr => ({
  op: "call",
  name,
  args,
  params,
});
export const slice = (of: Expr, axis: number, start: number, stop: number, step = 1): Expr => ({
  op: "slice",
  of,
  axis,
  start,
  stop,
  step,
});

/** The expressions directly below one, in order. */
export function children(expr: Expr): readonly Expr[] {
  switch (expr.op) {
    case "base":
    case "source":
      return [];
    case "matmul":
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "kron":
      return [expr.left, expr.right];
    case "concat":
      return expr.parts;
    case "set-rows":
      return [expr.of, expr.to];
    case "call":
      return expr.args;
    default:
      return [expr.of];
  }
}

/**
 * An expression with other expressions in the place of its leaves. Shared sub-expressions stay shared, and what holds
 * no replaced leaf stays the same object, so that an evaluator still computes each of them once.
 */
export function mapLeaves(expr: Expr, to: (leaf: Leaf) => Expr): Expr {
  const known = new Map<Expr, Expr>();
  const visit = (node: Expr): Expr => {
    const before = known.get(node);
    if (before) return before;
    const after = node.op === "base" || node.op === "source" ? to(node) : mapChildren(node, visit);
    known.set(node, after);
    return after;
  };
  return visit(expr);
}

/** An expression with other children; the same object where all of them stay. */
export function mapChildren(node: Exclude<Expr, Leaf>, visit: (child: Expr) => Expr): Expr {
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

/** Every leaf, in order of first appearance, each one once. */
export function leaves(expr: Expr): Leaf[] {
  const found = new Map<string, Leaf>();
  const visit = (node: Expr) => {
    if (node.op === "base" || node.op === "source")
      found.set(leafKey(node), found.get(leafKey(node)) ?? node);
    else for (const child of children(node)) visit(child);
  };
  visit(expr);
  return [...found.values()];
}

/** A text that tells leaves apart. */
export function leafKey(leaf: Leaf): string {
  return leaf.op === "base" ? `base ${leaf.tensor}` : `source ${leaf.source} ${leaf.tensor}`;
}

/** Whether a base tensor is read anywhere in it. */
export function readsBase(expr: Expr): boolean {
  return expr.op === "base" || children(expr).some(readsBase);
}

/** Whether elements of a base tensor are summed on the way, as a rotation of a weight does; products of them are no sum. */
export function sumsBase(expr: Expr): boolean {
  const own = children(expr);
  if (expr.op === "matmul" || expr.op === "call") return own.some(readsBase);
  const adds = expr.op === "add" || expr.op === "sub";
  return (adds && own.every(readsBase)) || own.some(sumsBase);
}

/** `W + round?(scale · L·R)`, the update that the engine's fastest kernel knows; L and R read no base tensor. */
export interface LowRankUpdate {
  readonly base: string;
  /** m×k */
  readonly left: Expr;
  /** k×n */
  readonly right: Expr;
  readonly scale: number;
  /** The change is rounded to the output's type before it is added. */
  readonly roundFirst: boolean;
}

/** Builds the expression of a low-rank update of W (m×n). */
export function lowRankUpdate({ base: tensor, left, right, scale: by, roundFirst }: LowRankUpdate): Expr {
  const change = scale(by, matmul(left, right));
  return add(base(tensor), roundFirst ? round(change) : change);
}

/** Recognises the form that `lowRankUpdate` builds; `null` for any other expression. */
export function asLowRankUpdate(expr: Expr): LowRankUpdate | null {
  if (expr.op !== "add" || expr.left.op !== "base") return null;
  const roundFirst = expr.right.op === "round";
  const change = expr.right.op === "round" ? expr.right.of : expr.right;
  if (change.op !== "scale") return null;
  const product = change.of;
  if (product.op !== "matmul" || product.order === "unfused") return null;
  const { left, right } = product;
  if (readsBase(left) || readsBase(right)) return null;
  return { base: expr.left.tensor, left, right, scale: change.by, roundFirst };
}
