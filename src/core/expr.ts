/**
 * What one output tensor is made of. An adapter kind turns its tensors and config into such an expression; the
 * engine compiles it to kernels, and `evaluate` below is the slow, obvious oracle in float64.
 */
export type Expr =
  | { readonly op: "base"; readonly tensor: string }
  | { readonly op: "source"; readonly source: number; readonly tensor: string }
  /** (m×k)·(k×n) → m×n */
  | { readonly op: "matmul"; readonly left: Expr; readonly right: Expr }
  | { readonly op: "scale"; readonly by: number; readonly of: Expr }
  | { readonly op: "add"; readonly left: Expr; readonly right: Expr };

/** Row-major float64 values with their shape. */
export interface Matrix {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

export type TensorLookup = (leaf: Extract<Expr, { op: "base" | "source" }>) => Matrix;

/** Evaluates an expression in float64, without any rounding to storage types: the "exact" value. */
export function evaluate(expr: Expr, lookup: TensorLookup): Matrix {
  switch (expr.op) {
    case "base":
    case "source":
      return lookup(expr);
    case "scale": {
      const of = evaluate(expr.of, lookup);
      return { shape: of.shape, values: of.values.map((v) => v * expr.by) };
    }
    case "add": {
      const left = evaluate(expr.left, lookup);
      const right = evaluate(expr.right, lookup);
      if (left.shape.join() !== right.shape.join()) {
        throw new Error(`cannot add [${left.shape}] and [${right.shape}]`);
      }
      return { shape: left.shape, values: left.values.map((v, i) => v + right.values[i]!) };
    }
    case "matmul":
      return multiply(evaluate(expr.left, lookup), evaluate(expr.right, lookup));
  }
}

function multiply(left: Matrix, right: Matrix): Matrix {
  const [m, k] = left.shape as [number, number];
  const [k2, n] = right.shape as [number, number];
  if (left.shape.length !== 2 || right.shape.length !== 2 || k !== k2) {
    throw new Error(`cannot multiply [${left.shape}] by [${right.shape}]`);
  }
  const values = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let l = 0; l < k; l++) {
      const factor = left.values[i * k + l]!;
      for (let j = 0; j < n; j++) values[i * n + j]! += factor * right.values[l * n + j]!;
    }
  return { shape: [m, n], values };
}

/** `W + scale · B·A`, the LoRA update, as the engine's fast path knows it. */
export interface LowRankUpdate {
  readonly base: string;
  readonly source: number;
  readonly a: string;
  readonly b: string;
  readonly scale: number;
}

export function lowRankUpdate(parts: LowRankUpdate): Expr {
  const { base, source, a, b, scale } = parts;
  const product: Expr = {
    op: "matmul",
    left: { op: "source", source, tensor: b },
    right: { op: "source", source, tensor: a },
  };
  return { op: "add", left: { op: "base", tensor: base }, right: { op: "scale", by: scale, of: product } };
}

/** Recognises the form that `lowRankUpdate` builds; `null` for any other expression. */
export function asLowRankUpdate(expr: Expr): LowRankUpdate | null {
  if (expr.op !== "add" || expr.left.op !== "base" || expr.right.op !== "scale") return null;
  const product = expr.right.of;
  if (product.op !== "matmul" || product.left.op !== "source" || product.right.op !== "source") return null;
  if (product.left.source !== product.right.source) return null;
  return {
    base: expr.left.tensor,
    source: product.left.source,
    a: product.right.tensor,
    b: product.left.tensor,
    scale: expr.right.by,
  };
}
