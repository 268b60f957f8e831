import { AppError } from "../core/errors.ts";
import { type Arithmetic, apply, type NdArray, stridesOf } from "../core/evaluate.ts";
import { type Expr, type Leaf, leafKey } from "../core/expr.ts";
import { formOf } from "./compile-forms.ts";
import type { Node } from "./compile-graph.ts";
import type { Arena } from "./program-arena.ts";
import type { TileKernels } from "./program-kernels.ts";

/** Values that read no base tensor may have so many elements: 512 MiB of floats. */
const MAX_ELEMENTS = 2 ** 27;
/** Values that read a base tensor and are computed in memory as a whole. */
const MAX_WHOLE_ELEMENTS = 2 ** 25;
/** Elements that go through WASM memory at a time, for products. */
const CHUNK = 2 ** 20;

/** A value in memory. Float64Array in float32 arithmetic: stored numbers that are no float32, such as positions. */
export interface Value {
  readonly shape: readonly number[];
  readonly values: Float32Array | Float64Array;
}

export interface ValueSource {
  readonly kernels: TileKernels;
  readonly arena: Arena;
  readonly arithmetic: Arithmetic;
  /** For messages. */
  readonly name: string;
  load(key: string): Value;
  /** The value of a sum over the rows of what a base tensor goes into, tile by tile; null where it is none. */
  reduce(node: Node): Value | null;
}

/** Computes the prepared values of one tensor, each once. */
export class Values {
  readonly #of: ValueSource;
  readonly #known = new Map<Node, Value>();

  constructor(source: ValueSource) {
    this.#of = source;
  }

  /** @throws TENSOR_TOO_LARGE */
  of(node: Node): Value {
    const known = this.#known.get(node);
    if (known) return known;
    const value = this.#compute(node);
    this.#known.set(node, value);
    return value;
  }

  #compute(node: Node): Value {
    const { expr, args } = node;
    const reduced = node.readsBase ? this.#of.reduce(node) : null;
    if (reduced) return reduced;
    this.#checkSize(node);
    if (expr.op === "base" || expr.op === "source") return this.#of.load(leafKey(expr));
    return this.#apply(
      node,
      expr,
      args.map((arg) => this.of(arg)),
    );
  }

  #checkSize({ count, readsBase }: Node): void {
    const limit = readsBase ? MAX_WHOLE_ELEMENTS : MAX_ELEMENTS;
    if (count <= limit) return;
    throw new AppError(
      "TENSOR_TOO_LARGE",
      `Tensor "${this.#of.name}": its kind of change needs a matrix of ${count} elements in memory as a whole, and the limit is ${limit}. Merge it with PEFT and import the result.`,
    );
  }

  #apply(node: Node, expr: Exclude<Expr, Leaf>, args: readonly Value[]): Value {
    const { shape } = node;
    const { step, store } = this.#of.arithmetic;
    const [first, second] = args as [Value, Value];
    switch (expr.op) {
      case "matmul":
        return this.#product(node, first, second);
      case "add":
      case "sub":
      case "mul":
      case "div":
        return this.#binary(node, first, second);
      case "scale":
      case "over": {
        const by = step(expr.by);
        return this.#map(first, expr.op === "scale" ? (value) => value * by : (value) => value / by);
      }
      case "round":
        return this.#map(first, store);
      case "reshape":
        return { shape, values: first.values };
      case "permute": {
        const own = stridesOf(first.shape);
        return moved(
          first,
          shape,
          shape.map((dim, i) => runOf(dim, 0, own[expr.axes[i]!]!)),
        );
      }
      case "slice":
      case "repeat":
        return moved(first, shape, alongAxis(expr, first.shape, shape));
      default:
        return this.#byCore(expr, args);
    }
  }

  /** Each result is rounded to the arithmetic's element type when it is put into the array. */
  #map({ shape, values }: Value, f: (value: number) => number): Value {
    const result = this.#of.kernels.array(values.length);
    for (let i = 0; i < values.length; i++) result[i] = f(values[i]!);
    return { shape, values: result };
  }

  #binary(node: Node, left: Value, right: Value): Value {
    const { expr, args, shape, count } = node;
    const values = this.#of.kernels.array(count);
    const f = OPERATIONS[expr.op as keyof typeof OPERATIONS];
    const [a, b] = [left, right].map(({ values: of }, i) => {
      const { form, length, stretched } = formOf(args[i]!, shape);
      if (stretched)
        return { of: stretch({ shape: args[i]!.shape, values: of }, shape), each: 1, period: count };
      if (form === "tile") return { of, each: 1, period: count };
      if (form === "column") return { of, each: count / length, period: length };
      return { of, each: 1, period: form === "one" ? 1 : length };
    }) as [Strided, Strided];
    let [i, iLeft] = [0, a.each];
    let [j, jLeft] = [0, b.each];
    for (let at = 0; at < count; at++) {
      values[at] = f(a.of[i]!, b.of[j]!);
      if (--iLeft === 0) {
        iLeft = a.each;
        if (++i === a.period) i = 0;
      }
      if (--jLeft === 0) {
        jLeft = b.each;
        if (++j === b.period) j = 0;
      }
    }
    return { shape, values };
  }

  #product({ expr, shape }: Node, left: Value, right: Value): Value {
    const { kernels, arena } = this.#of;
    const order = (expr.op === "matmul" && expr.order) || "fused";
    const type = kernels.width === 8 ? Float64Array : Float32Array;
    if (!(left.values instanceof type) || !(right.values instanceof type)) {
      return this.#narrowed(this.#of.arithmetic.matmul(wide(left), wide(right), order));
    }
    const [rows, cols] = shape as [number, number];
    const inner = right.shape[0]!;
    const values = kernels.array(rows * cols);
    if (values.length === 0) return { shape, values };
    const high = Math.max(1, Math.min(rows, Math.floor(CHUNK / Math.max(inner, cols))));
    arena.scoped(() => {
      const panels = packPanels(right, kernels, arena);
      const from = arena.take(high * inner * kernels.width);
      const to = arena.take(high * cols * kernels.width);
      for (let row = 0; row < rows; row += high) {
        const count = Math.min(high, rows - row);
        kernels.view(from, count * inner).set(left.values.subarray(row * inner, (row + count) * inner));
        kernels.multiply({ at: to, rows: count, cols }, from, panels, { inner, order });
        values.set(kernels.view(to, count * cols), row * cols);
      }
    });
    return { shape, values };
  }

  #byCore(expr: Exclude<Expr, Leaf>, args: readonly Value[]): Value {
    return this.#narrowed(apply(expr, args.map(wide), this.#of.arithmetic));
  }

  /** As elements of the arithmetic, where every value is one. */
  #narrowed({ shape, values }: NdArray): Value {
    if (this.#of.kernels.width === 8) return { shape, values };
    const floats = Float32Array.from(values);
    const same = floats.every((value, i) => value === values[i] || Number.isNaN(value));
    return { shape, values: same ? floats : values };
  }
}

/** An operand that has each element so many times in a row, and starts again after a period. */
interface Strided {
  readonly of: Float32Array | Float64Array;
  readonly each: number;
  readonly period: number;
}

const OPERATIONS = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
};

/** As core's functions take it. */
export function wide({ shape, values }: Value): NdArray {
  return { shape, values: values instanceof Float64Array ? values : Float64Array.from(values) };
}

/** Packs the right side of a product; position of its panels. */
export function packPanels({ shape, values }: Value, kernels: TileKernels, arena: Arena): number {
  const [inner, cols] = shape as [number, number];
  const panels = arena.take(kernels.panelBytes(inner, cols));
  arena.scoped(() => {
    const row = arena.take(cols * kernels.width);
    for (let k = 0; k < inner; k++) {
      kernels.view(row, cols).set(values.subarray(k * cols, (k + 1) * cols));
      kernels.packRow(row, panels, cols, { k, inner });
    }
  });
  return panels;
}

/** A value stretched to a shape, as numpy's `broadcast_to`. */
export function stretch(of: Value, shape: readonly number[]): Float32Array | Float64Array {
  const own = stridesOf(of.shape);
  const missing = shape.length - of.shape.length;
  const offsets = shape.map((dim, i) => {
    const stays = i < missing || of.shape[i - missing] === 1;
    return runOf(dim, 0, stays ? 0 : own[i - missing]!);
  });
  return moved(of, shape, offsets).values;
}

const runOf = (count: number, start: number, step: number) =>
  Array.from({ length: count }, (_, i) => start + i * step);

/** For a slice or repetition: where the positions along each axis of the result lie in the source. */
function alongAxis(
  expr: Expr & { op: "slice" | "repeat" },
  from: readonly number[],
  shape: readonly number[],
): number[][] {
  const own = stridesOf(from);
  return shape.map((dim, i) => {
    const stride = own[i]!;
    if (i !== expr.axis) return runOf(dim, 0, stride);
    if (expr.op === "slice") return runOf(dim, expr.start * stride, expr.step * stride);
    return Array.from({ length: dim }, (_, j) => (j % from[i]!) * stride);
  });
}

/** Elements in another order: `offsets` are summed over the axes. */
function moved({ values }: Value, shape: readonly number[], offsets: readonly (readonly number[])[]): Value {
  const count = shape.reduce((product, dim) => product * dim, 1);
  const result = values instanceof Float64Array ? new Float64Array(count) : new Float32Array(count);
  const last = offsets.at(-1) ?? [0];
  const outer = offsets.slice(0, -1);
  const index = new Array<number>(outer.length).fill(0);
  for (let at = 0; at < count; ) {
    let base = 0;
    for (let i = 0; i < outer.length; i++) base += outer[i]![index[i]!]!;
    for (let j = 0; j < last.length; j++) result[at++] = values[base + last[j]!]!;
    for (let i = outer.length - 1; i >= 0; i--) {
      if (++index[i]! < outer[i]!.length) break;
      index[i] = 0;
    }
  }
  return { shape, values: result };
}
