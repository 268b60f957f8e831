import { children, type Expr, type Leaf, leafKey, type Slice } from "../core/expr.ts";
import { type ShapeLookup, shapeOf } from "../core/shapes.ts";
import { addGemm, addNodes, GraphBuilder, type GraphExpr, type Ref } from "./onnx-graph.ts";

/*
 * A tile of an output tensor as a list of values, each computed from earlier ones: what is read, what was computed
 * once for the whole tensor, and what a graph or the CPU makes of them. Only these kinds of values exist, so what runs
 * on a device and what does not can be read off a program.
 */
export type Value = { readonly shape: readonly number[] } /** Some rows of a stored tensor. */ & (
  | { readonly kind: "rows"; readonly leaf: Leaf; readonly start: number; readonly stop: number }
  /** The same for all tiles: computed once a tensor. `cut`: only those entries along an axis. */
  | { readonly kind: "whole"; readonly expr: Expr; readonly cut: Cut | null }
  | { readonly kind: "graph"; readonly model: Uint8Array<ArrayBuffer>; readonly inputs: readonly number[] }
  /** Through the output's storage type and back, by the kernels. */
  | { readonly kind: "round"; readonly of: number }
  | { readonly kind: "set-rows"; readonly of: number; readonly rows: readonly number[]; readonly to: Expr }
);

export interface Cut {
  readonly axis: number;
  readonly start: number;
  readonly stop: number;
}

/** The last value is the result. */
export interface DeviceProgram {
  readonly values: readonly Value[];
}

/** What no device computes; the message says what it is. */
export class NotOnDevice extends Error {}

export interface Compilation {
  readonly expr: Expr;
  /** Nodes that are the same for all tiles (by identity); leaves always are. */
  readonly whole: ReadonlySet<Expr>;
  readonly shapes: ShapeLookup;
}

/** @throws NotOnDevice for a special function of what differs from tile to tile */
export function compileProgram(compilation: Compilation): DeviceProgram {
  const compiler = new Compiler(compilation);
  compiler.value(compilation.expr);
  return { values: compiler.values };
}

class Compiler {
  readonly values: Value[] = [];
  readonly #of: Compilation;
  readonly #known = new Map<string, number>();
  /** Expressions get numbers by identity, for the keys of values. */
  readonly #numbers = new Map<Expr, number>();

  constructor(compilation: Compilation) {
    this.#of = compilation;
  }

  /** Position of an expression's value. */
  value(expr: Expr): number {
    const given = this.#given(expr);
    if (given !== null) return given;
    if (expr.op === "round") {
      const of = this.value(expr.of);
      return this.#add(`round ${of}`, { kind: "round", of, shape: this.values[of]!.shape });
    }
    if (expr.op === "set-rows") {
      const of = this.value(expr.of);
      const { rows, to } = expr;
      const shape = this.values[of]!.shape;
      return this.#add(`rows ${of} ${rows} ${this.#number(to)}`, { kind: "set-rows", of, rows, to, shape });
    }
    if (expr.op === "call") throw new NotOnDevice(`the function ${expr.name}`);
    const g = new GraphBuilder();
    const result = this.#build(expr, g);
    const inputs = g.inputs.map(Number);
    const model = g.encode(result);
    const key = `graph ${inputs} ${Buffer.from(model).toString("latin1")}`;
    return this.#add(key, { kind: "graph", model, inputs, shape: result.shape });
  }

  /** What is not computed in this program: read, or computed once. */
  #given(expr: Expr): number | null {
    const { whole } = this.#of;
    if (isLeaf(expr) || whole.has(expr)) return this.#whole(expr, null);
    if (expr.op !== "slice" || expr.step !== 1) return null;
    if (isLeaf(expr.of) && expr.axis === 0) return this.#rows(expr, expr.of);
    // Cut on the CPU: with the tile's own bounds inside, each tile would need a session of its own.
    if (isLeaf(expr.of) || whole.has(expr.of)) return this.#whole(expr.of, expr);
    return null;
  }

  #rows({ start, stop }: Slice, leaf: Leaf): number {
    const shape = [stop - start, ...this.#of.shapes(leaf).slice(1)];
    return this.#add(`leaf ${leafKey(leaf)} ${start} ${stop}`, { kind: "rows", leaf, start, stop, shape });
  }

  #whole(expr: Expr, slice: Slice | null): number {
    const full = shapeOf(expr, this.#of.shapes);
    const cut = slice && { axis: slice.axis, start: slice.start, stop: slice.stop };
    const shape = cut ? full.map((dim, i) => (i === cut.axis ? cut.stop - cut.start : dim)) : full;
    const of = isLeaf(expr) ? leafKey(expr) : this.#number(expr);
    const key = `whole ${of} ${cut ? [cut.axis, cut.start, cut.stop] : ""}`;
    return this.#add(key, { kind: "whole", expr, cut, shape });
  }

  #build(expr: Expr, g: GraphBuilder): Ref {
    if (!isGraphExpr(expr) || this.#given(expr) !== null) {
      const at = this.value(expr);
      // Providers may crash on these, and ONNX Runtime lets them.
      if (this.values[at]!.shape.includes(0)) throw new NotOnDevice("an empty factor");
      return g.input(String(at), this.values[at]!.shape);
    }
    const shape = shapeOf(expr, this.#of.shapes);
    const update = expr.op === "add" ? gemmOf(expr.right) : null;
    if (expr.op === "add" && update) {
      const to = this.#build(expr.left, g);
      const [left, right] = [this.#build(update.left, g), this.#build(update.right, g)];
      if (to.shape.join() === shape.join() && left.shape[0] === shape[0] && right.shape[1] === shape[1]) {
        return addGemm(g, { left, right, to, scale: update.scale });
      }
    }
    const args = children(expr).map((child) => this.#build(child, g));
    return addNodes(g, expr, args, shape);
  }

  #number(expr: Expr): number {
    const number = this.#numbers.get(expr) ?? this.#numbers.size;
    this.#numbers.set(expr, number);
    return number;
  }

  #add(key: string, value: Value): number {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    this.values.push(value);
    this.#known.set(key, this.values.length - 1);
    return this.values.length - 1;
  }
}

export function isLeaf(expr: Expr): expr is Leaf {
  return expr.op === "base" || expr.op === "source";
}

function isGraphExpr(expr: Expr): expr is GraphExpr {
  return !isLeaf(expr) && expr.op !== "round" && expr.op !== "set-rows" && expr.op !== "call";
}

function gemmOf(expr: Expr): { left: Expr; right: Expr; scale: number } | null {
  if (expr.op !== "scale" || expr.of.op !== "matmul") return null;
  return { left: expr.of.left, right: expr.of.right, scale: expr.by };
}
