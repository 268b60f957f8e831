import { children, concat, type Expr, permute, repeat, reshape, setRows, slice } from "./expr.ts";
import { type Cut, leafPart } from "./leaf-part.ts";
import { rowsOf } from "./rows.ts";
import { type ShapeLookup, shapeOf } from "./shapes.ts";

/**
 * The expression of a part of another expression's value, with the cut moved down to the leaves where the operations
 * allow it; elsewhere the whole is computed and cut. Same values, bit for bit. `rowsOf` for any axis.
 */
export function cutOf(expr: Expr, cut: Cut, shapes: ShapeLookup): Expr {
  const { axis, start, stop } = cut;
  if (axis === 0) return rowsOf(expr, start, stop, shapes);
  const push = (of: Expr) => cutOf(of, cut, shapes);
  const whole = () => slice(expr, axis, start, stop);
  switch (expr.op) {
    case "matmul":
      return { ...expr, right: push(expr.right) };
    case "add":
    case "sub":
    case "mul":
    case "div": {
      const rank = shapeOf(expr, shapes).length;
      const operand = (of: Expr) => {
        const shape = shapeOf(of, shapes);
        const own = axis - (rank - shape.length);
        // An operand that stretches along the axis, or lacks it, serves every part.
        return own < 0 || shape[own] === 1 ? of : cutOf(of, { axis: own, start, stop }, shapes);
      };
      if (shapeOf(expr, shapes)[axis] === 1) return expr;
      return { ...expr, left: operand(expr.left), right: operand(expr.right) };
    }
    case "scale":
    case "over":
    case "round":
    case "relu":
      return { ...expr, of: push(expr.of) };
    case "norm":
      return expr.axis === 0 ? { ...expr, of: push(expr.of) } : whole();
    case "reshape":
      return cutReshape(expr, cut, shapes) ?? whole();
    case "permute":
      return permute(cutOf(expr.of, { ...cut, axis: expr.axes[axis]! }, shapes), expr.axes);
    case "slice":
      if (expr.axis !== axis) return { ...expr, of: push(expr.of) };
      if (expr.step !== 1) return whole();
      return cutOf(expr.of, { axis, start: expr.start + start, stop: expr.start + stop }, shapes);
    case "concat":
      return expr.axis === axis ? whole() : concat(expr.axis, expr.parts.map(push));
    case "repeat":
      return expr.axis === axis ? whole() : repeat(push(expr.of), expr.axis, expr.size);
    case "set-rows":
      return setRows(push(expr.of), expr.rows, push(expr.to));
    default:
      return whole();
  }
}

/** A reshape that only adds or removes axes of length 1 keeps the others where they are. */
function cutReshape(expr: Expr & { op: "reshape" }, cut: Cut, shapes: ShapeLookup): Expr | null {
  const before = shapeOf(expr.of, shapes);
  const long = (shape: readonly number[]) => shape.flatMap((dim, i) => (dim === 1 ? [] : [i]));
  const [from, to] = [long(before), long(expr.shape)];
  const same = from.length === to.length && from.every((axis, i) => before[axis] === expr.shape[to[i]!]);
  const at = to.indexOf(cut.axis);
  if (!same || at < 0) return null;
  const shape = expr.shape.map((dim, i) => (i === cut.axis ? cut.stop - cut.start : dim));
  return reshape(cutOf(expr.of, { ...cut, axis: from[at]! }, shapes), shape);
}

/**
 * Roughly how many numbers are read and computed for an expression: every node's elements, and a product's terms.
 * What is cut from a leaf is read alone.
 */
export function workOf(expr: Expr, shapes: ShapeLookup): number {
  const size = (of: Expr) => shapeOf(of, shapes).reduce((product, dim) => product * dim, 1);
  if (leafPart(expr)) return size(expr);
  const own = expr.op === "matmul" ? size(expr) * shapeOf(expr.left, shapes)[1]! : size(expr);
  return children(expr).reduce((sum, child) => sum + workOf(child, shapes), own);
}
