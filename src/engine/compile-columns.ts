import { elementCount } from "../core/dtype.ts";
import { stridesOf } from "../core/evaluate.ts";
import type { Expr } from "../core/expr.ts";
import type { Node } from "./compile-graph.ts";

/** A longer map of columns takes more memory than is well spent. */
const MAX_COLUMNS = 2 ** 22;

/** Rows of a tensor seen as a matrix whose columns begin with this axis. */
export function leadingRows(shape: readonly number[], axis: number): number {
  return elementCount(shape.slice(0, axis));
}

/** A move of elements within rows: column j of the result is column map[j] of `inner` columns. */
export interface Gather {
  readonly rows: number;
  readonly inner: number;
  readonly map: Uint32Array;
}

/** The move that a slice, repetition or permutation makes where it leaves the leading axes alone; else null. */
export function gatherOf({ expr, args, shape, count }: Node): Gather | null {
  const of = args[0]!;
  const axis = firstMoved(expr);
  const rows = leadingRows(shape, axis);
  const columns = count / rows;
  if (axis === 0 || rows === 0 || columns > MAX_COLUMNS) return null;
  const own = of.shape.slice(axis);
  const strides = stridesOf(own);
  // Along each axis of the result, where its positions lie in a row of the source.
  const offsets = shape.slice(axis).map((dim, i) => {
    if (expr.op === "permute") return steps(dim, 0, strides[expr.axes[axis + i]! - axis]!);
    if (i > 0) return steps(dim, 0, strides[i]!);
    if (expr.op === "slice") return steps(dim, expr.start * strides[0]!, expr.step * strides[0]!);
    return Array.from({ length: dim }, (_, j) => (j % own[0]!) * strides[0]!);
  });
  const map = new Uint32Array(columns);
  let filled = 1;
  for (const along of offsets.toReversed()) {
    const block = map.slice(0, filled);
    for (const [j, offset] of along.entries())
      for (let i = 0; i < filled; i++) map[j * filled + i] = block[i]! + offset;
    filled *= along.length;
  }
  return { rows, inner: elementCount(own), map };
}

const steps = (count: number, start: number, step: number) =>
  Array.from({ length: count }, (_, i) => start + i * step);

function firstMoved(expr: Expr): number {
  if (expr.op === "permute") return expr.axes.findIndex((axis, i) => axis !== i);
  return expr.op === "slice" || expr.op === "repeat" ? expr.axis : 0;
}

/** Whether each row of a Kronecker product is a row of the left times all of a row of the right, element by element. */
export function isColumnKron(left: readonly number[], right: readonly number[]): boolean {
  if (left.length === 0) return false;
  const split = right.findIndex((dim, i) => i > 0 && dim !== 1);
  return split < 0 || left.slice(split + 1).every((dim) => dim === 1);
}
