import { elementCount } from "../core/dtype.ts";
import type { Expr, Leaf } from "../core/expr.ts";
import { type Attribute, type Constant, encodeModel, type GraphNode, type GraphValue } from "./onnx-model.ts";

/** An inner expression that has nodes in ONNX. */
export type GraphExpr = Exclude<Expr, Leaf | { op: "round" } | { op: "set-rows" } | { op: "call" }>;

/** A value inside a graph. */
export interface Ref {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * Collects the nodes of one graph. Equal nodes are made once, and names are counted, so that graphs of the same
 * structure and shapes have the same bytes: those are the key of their session.
 */
export class GraphBuilder {
  readonly #inputs = new Map<string, Ref>();
  readonly #constants: Constant[] = [];
  readonly #nodes: GraphNode[] = [];
  readonly #known = new Map<string, string>();

  /** What the inputs stand for, in the order in which they are fed. */
  get inputs(): readonly string[] {
    return [...this.#inputs.keys()];
  }

  input(of: string, shape: readonly number[]): Ref {
    const known = this.#inputs.get(of);
    if (known) return known;
    const ref = { name: `x${this.#inputs.size}`, shape };
    this.#inputs.set(of, ref);
    return ref;
  }

  /** The whole model with one output, `y`. An input that is the output itself passes through a node. */
  encode(result: Ref): Uint8Array<ArrayBuffer> {
    const node: GraphNode = { op: "Identity", inputs: [result.name], output: "y", attributes: [] };
    const last = this.#nodes.at(-1);
    const nodes =
      last?.output === result.name
        ? [...this.#nodes.slice(0, -1), { ...last, output: "y" }]
        : [...this.#nodes, node];
    const inputs: GraphValue[] = [...this.#inputs.values()];
    const output = { name: "y", shape: result.shape };
    return encodeModel({ inputs, constants: this.#constants, nodes, output });
  }

  node(
    op: string,
    inputs: readonly Ref[],
    shape: readonly number[],
    attributes: readonly Attribute[] = [],
  ): Ref {
    const names = inputs.map(({ name }) => name);
    const key = JSON.stringify([op, names, attributes, shape]);
    const known = this.#known.get(key);
    if (known) return { name: known, shape };
    const output = `n${this.#nodes.length}`;
    this.#nodes.push({ op, inputs: names, output, attributes });
    this.#known.set(key, output);
    return { name: output, shape };
  }

  float(value: number): Ref {
    return this.#constant(`float ${value}`, (name) => ({ name, float: value }), []);
  }

  ints(values: readonly number[]): Ref {
    return this.#constant(`ints ${values}`, (name) => ({ name, ints: values }), [values.length]);
  }

  #constant(key: string, make: (name: string) => Constant, shape: readonly number[]): Ref {
    const known = this.#known.get(key);
    if (known) return { name: known, shape };
    const name = `c${this.#constants.length}`;
    this.#constants.push(make(name));
    this.#known.set(key, name);
    return { name, shape };
  }
}

const ELEMENTWISE = { add: "Add", sub: "Sub", mul: "Mul", div: "Div" } as const;

/** Adds the nodes of one expression whose operands are in the graph already. `shape`: of its value. */
export function addNodes(
  g: GraphBuilder,
  expr: GraphExpr,
  args: readonly Ref[],
  shape: readonly number[],
): Ref {
  const [first, second] = args as [Ref, Ref];
  switch (expr.op) {
    case "matmul":
      return g.node("MatMul", args, shape);
    case "add":
    case "sub":
    case "mul":
    case "div":
      return g.node(ELEMENTWISE[expr.op], args, shape);
    case "scale":
      return g.node("Mul", [first, g.float(Math.fround(expr.by))], shape);
    case "over":
      return g.node("Div", [first, g.float(Math.fround(expr.by))], shape);
    case "relu":
      return g.node("Relu", args, shape);
    case "norm":
      return g.node("ReduceL2", args, shape, [
        { name: "axes", ints: [expr.axis] },
        { name: "keepdims", int: 1 },
      ]);
    case "reshape":
      return reshaped(g, first, shape);
    case "permute":
      return g.node("Transpose", args, shape, [{ name: "perm", ints: expr.axes }]);
    case "slice":
      return sliced(g, first, expr, shape);
    case "concat":
      return g.node("Concat", args, shape, [{ name: "axis", int: expr.axis }]);
    case "repeat":
      return repeated(g, first, expr.axis, shape);
    case "kron":
      return kronecker(g, first, second, shape);
  }
}

/** `x + scale · l·r` in one node: the form of most updates, for which every provider has its fastest kernel. */
export function addGemm(g: GraphBuilder, update: { left: Ref; right: Ref; to: Ref; scale: number }): Ref {
  const { left, right, to, scale } = update;
  return g.node("Gemm", [left, right, to], to.shape, [{ name: "alpha", float: Math.fround(scale) }]);
}

function reshaped(g: GraphBuilder, of: Ref, shape: readonly number[]): Ref {
  return g.node("Reshape", [of, g.ints(shape)], shape);
}

function sliced(
  g: GraphBuilder,
  of: Ref,
  { axis, start, stop, step }: { axis: number; start: number; stop: number; step: number },
  shape: readonly number[],
): Ref {
  return g.node("Slice", [of, g.ints([start]), g.ints([stop]), g.ints([axis]), g.ints([step])], shape);
}

function repeated(g: GraphBuilder, of: Ref, axis: number, shape: readonly number[]): Ref {
  const own = of.shape[axis]!;
  const size = shape[axis]!;
  const copies = Math.ceil(size / own);
  if (copies <= 1) return sliced(g, of, { axis, start: 0, stop: size, step: 1 }, shape);
  const long = of.shape.map((dim, i) => (i === axis ? dim * copies : dim));
  const whole = g.node("Concat", new Array<Ref>(copies).fill(of), long, [{ name: "axis", int: axis }]);
  return long[axis] === size ? whole : sliced(g, whole, { axis, start: 0, stop: size, step: 1 }, shape);
}

/** Every dimension of the left operand beside one of the right: [a,1,b,1] · [1,c,1,d] = [a,c,b,d]. */
function kronecker(g: GraphBuilder, left: Ref, right: Ref, shape: readonly number[]): Ref {
  const apart = left.shape.flatMap((dim, i) => [dim, right.shape[i]!]);
  const a = reshaped(
    g,
    left,
    left.shape.flatMap((dim) => [dim, 1]),
  );
  const b = reshaped(
    g,
    right,
    right.shape.flatMap((dim) => [1, dim]),
  );
  return reshaped(g, g.node("Mul", [a, b], apart), shape);
}

/** Multiplications that an expression's own step takes; 0 where values are only moved. */
export function workOf(expr: Expr, shape: readonly number[], args: readonly (readonly number[])[]): number {
  switch (expr.op) {
    case "matmul":
      return elementCount(shape) * args[0]![1]!;
    case "norm":
      return elementCount(args[0]!);
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "scale":
    case "over":
    case "kron":
    case "relu":
    case "round":
    case "call":
      return elementCount(shape);
    default:
      return 0;
  }
}
