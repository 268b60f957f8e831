import { broadcastShape } from "./evaluate.ts";
import { children, type Expr, type Leaf } from "./expr.ts";
import { FUNCTIONS } from "./functions.ts";

export type ShapeLookup = (leaf: Leaf) => readonly number[];

/**
 * Shape of an expression's value.
 * @throws Error where operands do not fit: a kind checks its tensors, with messages for people, before it builds one
 */
export function shapeOf(expr: Expr, lookup: ShapeLookup): readonly number[] {
  if (expr.op === "base" || expr.op === "source") return lookup(expr);
  const shapes = children(expr).map((child) => shapeOf(child, lookup));
  const [first, second] = shapes as [readonly number[], readonly number[]];
  switch (expr.op) {
    case "matmul":
      if (first.length !== 2 || second.length !== 2 || first[1] !== second[0]) {
        throw new Error(`cannot multiply [${first}] by [${second}]`);
      }
      return [first[0]!, second[1]!];
    case "add":
    case "sub":
    case "mul":
    case "div":
      return broadcastShape(first, second);
    case "norm":
      return expr.axis === 1 ? [first[0]!, 1] : [1, first[1]!];
    case "reshape":
      if (count(first) !== count(expr.shape)) throw new Error(`[${first}] does not fill [${expr.shape}]`);
      return expr.shape;
    case "permute":
      return expr.axes.map((axis) => first[axis]!);
    case "slice":
      return withAxis(first, expr.axis, Math.max(0, Math.ceil((expr.stop - expr.start) / expr.step)));
    case "concat":
      return withAxis(
        first,
        expr.axis,
        shapes.reduce((sum, shape) => sum + shape[expr.axis]!, 0),
      );
    case "repeat":
      return withAxis(first, expr.axis, expr.size);
    case "kron":
      return first.map((dim, i) => dim * second[i]!);
    case "call": {
      const known = FUNCTIONS[expr.name];
      if (!known) throw new Error(`no function ${expr.name}`);
      return known.shape(shapes, expr.params);
    }
    default:
      return first;
  }
}

const count = (shape: readonly number[]) => shape.reduce((product, dim) => product * dim, 1);

const withAxis = (shape: readonly number[], axis: number, dim: number) =>
  shape.map((old, i) => (i === axis ? dim : old));
