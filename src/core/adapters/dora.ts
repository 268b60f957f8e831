import { div, type Expr, mul, norm, reshape } from "../expr.ts";

/** Which lines of a weight have a length of their own, and how many there are. */
export interface Lines {
  readonly lines: "rows" | "columns";
  readonly length: number;
}

/**
 * DoRA (Liu 2024): `W' = (m / ‖V‖)·V` with `V = W + s·B·A` and one trained length m for each row, or for each column of
 * weights that are stored transposed (Conv1D, embeddings). torch sums a contiguous row in eight lanes, and the row of a
 * transposed view in order.
 * @param total V, a matrix, not rounded to the base's type
 * @param magnitude as many elements as there are lines, in any shape
 */
export function doraScaled(total: Expr, magnitude: Expr, { lines, length }: Lines): Expr {
  const rows = lines === "rows";
  const lengths = norm(total, rows ? 1 : 0, rows ? "lanes" : "sequence");
  return mul(div(reshape(magnitude, rows ? [length, 1] : [1, length]), lengths), total);
}
