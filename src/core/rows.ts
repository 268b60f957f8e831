import { concat, type Expr, kron, permute, repeat, reshape, setRows, slice } from "./expr.ts";
import { FUNCTIONS } from "./functions.ts";
import { type ShapeLookup, shapeOf } from "./shapes.ts";

/**
 * The expression of rows start … stop-1 (axis 0) of another expression's value, with the cut moved down to the leaves
 * where the operations allow it; elsewhere the whole is computed and cut. Same values, bit for bit.
 */
export function rowsOf(expr: Expr, start: number, stop: number, shapes: ShapeLookup): Expr {
  const cut = (of: Expr) => rowsOf(of, start, stop, shapes);
  switch (expr.op) {
    case "matmul":
      return { ...expr, left: cut(expr.left) };
    case "add":
    case "sub":
    case "mul":
    case "div": {
      const rank = shapeOf(expr, shapes).length;
      // A row vector, or an operand that stretches along axis 0, serves every row.
      const operand = (of: Expr) => {
        const shape = shapeOf(of, shapes);
        return shape.length < rank || shape[0] === 1 ? of : cut(of);
      };
      if (shapeOf(expr, shapes)[0] === 1) return expr;
      return { ...expr, left: operand(expr.left), right: operand(expr.right) };
    }
    case "scale":
    case "over":
    case "round":
    case "relu":
      return { ...expr, of: cut(expr.of) };
    case "norm":
      return expr.axis === 1 ? { ...expr, of: cut(expr.of) } : expr;
    case "reshape": {
      const kept = shapeOf(expr.of, shapes)[0] === expr.shape[0];
      return kept ? reshape(cut(expr.of), [stop - start, ...expr.shape.slice(1)]) : whole(expr, start, stop);
    }
    case "permute":
      return permute(slice(expr.of, expr.axes[0]!, start, stop), expr.axes);
    case "slice":
      if (expr.axis !== 0) return { ...expr, of: cut(expr.of) };
      if (expr.step !== 1) return whole(expr, start, stop);
      return rowsOf(expr.of, expr.start + start, expr.start + stop, shapes);
    case "concat":
      return expr.axis === 0
        ? cutParts(expr.parts, { start, stop }, shapes)
        : concat(expr.axis, expr.parts.map(cut));
    case "repeat":
      return expr.axis === 0 ? whole(expr, start, stop) : repeat(cut(expr.of), expr.axis, expr.size);
    case "kron":
      return kronRows(expr, { start, stop }, shapes);
    case "set-rows": {
      const inside = expr.rows.flatMap((row, i) => (row >= start && row < stop ? [{ row, i }] : []));
      if (inside.length === 0) return cut(expr.of);
      const to = concat(
        0,
        inside.map(({ i }) => slice(expr.to, 0, i, i + 1)),
      );
      return setRows(
        cut(expr.of),
        inside.map(({ row }) => row - start),
        to,
      );
    }
    case "call": {
      const { rowwise = false, alongside = [], cut: cutParams } = FUNCTIONS[expr.name] ?? {};
      if (!rowwise && !cutParams) return whole(expr, start, stop);
      return {
        ...expr,
        args: expr.args.map((arg, i) => (rowwise && (i === 0 || alongside.includes(i)) ? cut(arg) : arg)),
        params: cutParams ? cutParams(expr.params, start, stop) : expr.params,
      };
    }
    default:
      return whole(expr, start, stop);
  }
}

const whole = (expr: Expr, start: number, stop: number) => slice(expr, 0, start, stop);

/** Row i·b+p of a Kronecker product is made of row i of the left operand and row p of the b rows of the right one. */
function kronRows(
  { left, right }: Expr & { op: "kron" },
  { start, stop }: { start: number; stop: number },
  shapes: ShapeLookup,
): Expr {
  const height = shapeOf(right, shapes)[0]!;
  const parts: Expr[] = [];
  for (let at = start; at < stop; ) {
    const row = Math.floor(at / height);
    const from = at - row * height;
    // Whole rows of the left operand at once, where their products are wanted from end to end.
    const rows = from === 0 ? Math.max(1, Math.floor((stop - at) / height)) : 1;
    const to = Math.min(height, from + stop - at);
    const some = to - from === height ? right : rowsOf(right, from, to, shapes);
    parts.push(kron(rowsOf(left, row, row + rows, shapes), some));
    at += rows === 1 ? to - from : rows * height;
  }
  return parts.length === 1 ? parts[0]! : concat(0, parts);
}

function cutParts(parts: readonly Expr[], range: { start: number; stop: number }, shapes: ShapeLookup): Expr {
  const kept: Expr[] = [];
  let at = 0;
  for (const part of parts) {
    const length = shapeOf(part, shapes)[0]!;
    const from = Math.max(range.start, at);
    const to = Math.min(range.stop, at + length);
    if (from < to) kept.push(rowsOf(part, from - at, to - at, shapes));
    at += length;
  }
  return kept.length === 1 ? kept[0]! : concat(0, kept);
}
