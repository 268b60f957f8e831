import { elementCount } from "../core/dtype.ts";
import { type Node, padded } from "./compile-graph.ts";
import type { Form } from "./program.ts";

/** How an operand of an element-by-element step meets its result, and how many elements it then has. */
export interface Meeting {
  readonly form: Form;
  readonly length: number;
  /** Where neither all nor one element a row or column: the shape it is stretched to first. */
  readonly stretched: readonly number[] | null;
}

const isOne = (dim: number) => dim === 1;

/** numpy's stretching of an operand to the shape of the result, seen as rows and columns. */
export function formOf(arg: Node, shape: readonly number[]): Meeting {
  const own = padded(arg.shape, shape.length);
  if (arg.count === elementCount(shape)) return { form: "tile", length: arg.count, stretched: null };
  if (arg.count === 1) return { form: "one", length: 1, stretched: null };
  const rows = own.findIndex((dim, i) => dim !== shape[i]);
  if (own.slice(rows).every(isOne)) return { form: "column", length: arg.count, stretched: null };
  const first = own.findIndex((dim) => dim !== 1);
  if (shape.slice(0, first).every(isOne))
    return { form: "tile", length: elementCount(shape), stretched: shape };
  const columns = shape.slice(first);
  const same = own.slice(first).every((dim, i) => dim === columns[i]);
  return { form: "row", length: elementCount(columns), stretched: same ? null : columns };
}
