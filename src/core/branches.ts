import {
  add,
  type Expr,
  type Leaf,
  mapChildren,
  matmul,
  mul,
  readsBase,
  scale,
  slice,
  transpose,
} from "./expr.ts";
import { type ShapeLookup, shapeOf } from "./shapes.ts";

/*
 * How an adapted weight is run without merging it: as the stored matrix with branches beside it, as PEFT runs LoRA. On
 * this side nothing is rounded to a storage type. Rounding is what a merge adds, and what it costs is the question: the
 * `round` nodes of a plan's expressions are dropped.
 */

/** scale · left·right, with left [rows, k] and right [k, columns] of the stored matrix; neither reads a base tensor. */
export interface BranchTerm {
  readonly left: Expr;
  readonly right: Expr;
  readonly scale: number;
}

/** factor ⊙ (W + Σ scale·left·right) */
export interface Branches {
  /** W: a stored matrix of the base, or the adapter's own copy of one. */
  readonly base: Leaf;
  /** May be empty where there is a factor (IA3). */
  readonly terms: readonly BranchTerm[];
  /** One number for each row or each column of the stored matrix (DoRA: m/‖V‖). */
  readonly factor: BranchFactor | null;
}

export interface BranchFactor {
  readonly along: "rows" | "columns";
  /** [rows, 1] or [1, columns], or as many numbers in one dimension. */
  readonly expr: Expr;
}

/** How a tensor is run beside others that are not merged either. */
export type UnmergedForm =
  /** The values of a stored tensor: a whole module out of the adapter's file, say. */
  | { readonly kind: "stored"; readonly leaf: Leaf }
  | ({ readonly kind: "branches" } & Branches)
  /** A stored matrix in which some rows are others: token rows. The last one of a row wins. */
  | { readonly kind: "rows"; readonly base: Leaf; readonly rows: readonly number[]; readonly to: Expr }
  /** No branch form: the expression, to be computed in float32. */
  | { readonly kind: "computed"; readonly expr: Expr };

/** What branches compute, as an expression. */
export function branchesExpr({ base, terms, factor }: Branches): Expr {
  const sum = withTerms(base, terms);
  return factor ? mul(factor.expr, sum) : sum;
}

/** of + Σ scale·left·right */
export function withTerms(of: Expr, terms: readonly BranchTerm[]): Expr {
  return terms.reduce((sum, { left, right, scale: by }) => add(sum, scale(by, matmul(left, right))), of);
}

/** The form in which an expression of a plan is run un-merged. `shapes` are those of its leaves. */
export function unmergedForm(expr: Expr, shapes: ShapeLookup): UnmergedForm {
  const plain = withoutRounding(expr);
  const leaf = asStored(plain);
  if (leaf) return { kind: "stored", leaf };
  const kept = plain.op === "set-rows" ? asStored(plain.of) : null;
  if (plain.op === "set-rows" && kept) return { kind: "rows", base: kept, rows: plain.rows, to: plain.to };
  const branches = asBranches(plain, shapes);
  return branches ? { kind: "branches", ...branches } : { kind: "computed", expr: plain };
}

/** An expression without its roundings to the output's storage type; shared sub-expressions stay shared. */
export function withoutRounding(expr: Expr): Expr {
  const known = new Map<Expr, Expr>();
  const visit = (node: Expr): Expr => {
    const before = known.get(node);
    if (before) return before;
    const after =
      node.op === "base" || node.op === "source"
        ? node
        : node.op === "round"
          ? visit(node.of)
          : mapChildren(node, visit);
    known.set(node, after);
    return after;
  };
  return visit(expr);
}

/** The leaf whose values, in their order, are the expression's; null where it computes anything. */
export function asStored(expr: Expr): Leaf | null {
  if (expr.op === "base" || expr.op === "source") return expr;
  return expr.op === "round" || expr.op === "reshape" ? asStored(expr.of) : null;
}

/**
 * Recognises a matrix with low-rank terms beside it: W + s·L·R as `lowRankUpdate` builds it (either way of storing W),
 * sums and multiples of such terms, terms with scaled rows or columns, and all of it times one number a row or column.
 * @returns null for every other expression, for products whose factors read the base, and for what is no matrix
 */
export function asBranches(expr: Expr, shapes: ShapeLookup): Branches | null {
  const whole = peeled(withoutRounding(expr), shapes);
  const shape = shapeOf(whole, shapes);
  if (shape.length !== 2) return null;
  const plain = sumOf(whole, shapes);
  if (plain?.base) return { base: plain.base, terms: plain.terms, factor: null };
  if (whole.op !== "mul") return null;
  for (const [factor, of] of [
    [whole.left, whole.right],
    [whole.right, whole.left],
  ] as const) {
    const along = lineOf(shapeOf(factor, shapes), shape);
    const sum = along && sumOf(peeled(of, shapes), shapes);
    if (along && sum?.base && shapeOf(of, shapes).join() === shape.join()) {
      return { base: sum.base, terms: sum.terms, factor: { along, expr: factor } };
    }
  }
  return null;
}

/** The expression below reshapes that change nothing. */
function peeled(expr: Expr, shapes: ShapeLookup): Expr {
  if (expr.op !== "reshape") return expr;
  const same = shapeOf(expr.of, shapes).join() === expr.shape.join();
  return same ? peeled(expr.of, shapes) : expr;
}

/** Which lines of a matrix an operand has one number for; null for another operand. */
function lineOf(own: readonly number[], matrix: readonly number[]): BranchFactor["along"] | null {
  if (own.length > 2 || matrix.length !== 2) return null;
  const [rows, columns] = matrix;
  const [high, wide] = own.length === 1 ? [1, own[0]] : own;
  if (high === rows && wide === 1) return "rows";
  return high === 1 && wide === columns ? "columns" : null;
}

/** One stored matrix, or none, and terms beside it. */
interface Sum {
  readonly base: Leaf | null;
  readonly terms: readonly BranchTerm[];
}

function sumOf(expr: Expr, shapes: ShapeLookup): Sum | null {
  switch (expr.op) {
    case "base":
    case "source":
      return shapes(expr).length === 2 ? { base: expr, terms: [] } : null;
    case "matmul": {
      const { left, right } = expr;
      return readsBase(left) || readsBase(right) ? null : { base: null, terms: [{ left, right, scale: 1 }] };
    }
    case "add":
    case "sub": {
      const { left, right } = expr;
      // A stretched operand is no sum of matrices.
      if (shapeOf(left, shapes).join() !== shapeOf(right, shapes).join()) return null;
      return joined(sumOf(left, shapes), scaled(sumOf(right, shapes), expr.op === "sub" ? -1 : 1));
    }
    case "scale":
      return scaled(sumOf(expr.of, shapes), expr.by);
    case "over":
      return scaled(sumOf(expr.of, shapes), 1 / expr.by);
    case "mul":
      return spread(expr.left, expr.right, shapes) ?? spread(expr.right, expr.left, shapes);
    case "reshape": {
      const of = peeled(expr, shapes);
      return of === expr ? null : sumOf(of, shapes);
    }
    case "permute":
      return expr.axes.join() === "1,0" ? transposed(sumOf(expr.of, shapes)) : null;
    case "slice": {
      const { axis, start, stop, step } = expr;
      return eachTerm(sumOf(expr.of, shapes), (term) =>
        axis === 0
          ? { ...term, left: slice(term.left, 0, start, stop, step) }
          : { ...term, right: slice(term.right, 1, start, stop, step) },
      );
    }
    default:
      return null;
  }
}

function joined(first: Sum | null, second: Sum | null): Sum | null {
  if (!first || !second || (first.base && second.base)) return null;
  return { base: first.base ?? second.base, terms: [...first.terms, ...second.terms] };
}

function scaled(sum: Sum | null, by: number): Sum | null {
  if (!sum || by === 1) return sum;
  return eachTerm(sum, (term) => ({ ...term, scale: term.scale * by }));
}

/** Terms times one number a row or column, which their factors take (DeLoRA). */
function spread(of: Expr, factor: Expr, shapes: ShapeLookup): Sum | null {
  const along = lineOf(shapeOf(factor, shapes), shapeOf(of, shapes));
  if (!along || readsBase(factor)) return null;
  return eachTerm(sumOf(of, shapes), (term) =>
    along === "rows"
      ? { ...term, left: mul(factor, term.left) }
      : { ...term, right: mul(term.right, factor) },
  );
}

const transposed = (sum: Sum | null) =>
  eachTerm(sum, (term) => ({ ...term, left: transpose(term.right), right: transpose(term.left) }));

/** Changes the terms of a sum that has no stored matrix in it. */
function eachTerm(sum: Sum | null, to: (term: BranchTerm) => BranchTerm): Sum | null {
  return sum && sum.base === null ? { base: null, terms: sum.terms.map(to) } : null;
}
