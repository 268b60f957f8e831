import { children, type Expr, type Leaf } from "./expr.ts";
import { FUNCTIONS } from "./functions.ts";
import { type Cut, leafPart } from "./leaf-part.ts";

/** Row-major values with their shape. float64, or float32 values where the arithmetic rounds to them. */
export interface NdArray {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Where the values of leaves come from. */
export interface TensorLookup {
  whole(leaf: Leaf): NdArray;
  /** A part alone, where that is cheaper than all of it: one cut after the other. */
  part?(leaf: Leaf, cuts: readonly Cut[]): NdArray;
}

/**
 * How numbers are rounded on the way: `exact` (float64, no rounding: the oracle) or `canonical(dtype)` (every step
 * rounded to float32, sums in MKL's order), both in `numerics.ts`.
 */
export interface Arithmetic {
  /** One float32 step: of a product, a sum, a quotient. */
  step(value: number): number;
  /** Into the storage type of the output and back. */
  store(value: number): number;
  /** (m×k)·(k×n) */
  matmul(left: NdArray, right: NdArray, order: "fused" | "unfused"): NdArray;
  /** Length of `count` values from `at` on, `stride` apart. */
  norm(values: Float64Array, run: { at: number; count: number; stride: number }, order: string): number;
}

/** Computes an expression as a whole: slow, obvious, in memory. Shared sub-expressions (same object) are computed once. */
export function evaluate(expr: Expr, lookup: TensorLookup, arithmetic: Arithmetic): NdArray {
  const known = new Map<Expr, NdArray>();
  const visit = (node: Expr): NdArray => {
    const before = known.get(node);
    if (before) return before;
    const value = read(node, lookup) ?? apply(node as Inner, children(node).map(visit), arithmetic);
    known.set(node, value);
    return value;
  };
  return visit(expr);
}

/** The value of a leaf, or of a part of one. */
function read(node: Expr, lookup: TensorLookup): NdArray | undefined {
  const part = leafPart(node);
  if (!part) return undefined;
  return part.cuts.length === 0 ? lookup.whole(part.leaf) : lookup.part?.(part.leaf, part.cuts);
}

type Inner = Exclude<Expr, Leaf>;

/** Computes one node from the values of its children. */
export function apply(node: Inner, args: readonly NdArray[], arithmetic: Arithmetic): NdArray {
  const [first, second] = args as [NdArray, NdArray];
  const { step } = arithmetic;
  switch (node.op) {
    case "matmul":
      return arithmetic.matmul(first, second, node.order ?? "fused");
    case "add":
      return broadcast(first, second, (a, b) => step(a + b));
    case "sub":
      return broadcast(first, second, (a, b) => step(a - b));
    case "mul":
      return broadcast(first, second, (a, b) => step(a * b));
    case "div":
      return broadcast(first, second, (a, b) => step(a / b));
    case "scale": {
      const by = step(node.by);
      return map(first, (value) => step(value * by));
    }
    case "over": {
      const by = step(node.by);
      return map(first, (value) => step(value / by));
    }
    case "round":
      return map(first, arithmetic.store);
    case "relu":
      return map(first, (value) => (value > 0 || Number.isNaN(value) ? value : 0));
    case "norm":
      return lengths(first, node, arithmetic);
    case "reshape":
      requireCount(node.shape, first.values.length);
      return { shape: node.shape, values: first.values };
    case "permute":
      return permuted(first, node.axes);
    case "slice":
      return sliced(first, node);
    case "concat":
      return concatenated(args, node.axis);
    case "repeat":
      return repeated(first, node.axis, node.size);
    case "kron":
      return kronecker(first, second, step);
    case "set-rows":
      return withRows(first, node.rows, second);
    case "call": {
      const known = FUNCTIONS[node.name];
      if (!known) throw new Error(`no function ${node.name}`);
      return known.value(args, node.params, arithmetic);
    }
  }
}

export function map(of: NdArray, f: (value: number) => number): NdArray {
  return { shape: of.shape, values: of.values.map((value) => f(value)) };
}

function requireCount(shape: readonly number[], count: number): void {
  if (size(shape) !== count) throw new Error(`${count} values do not fill [${shape}]`);
}

const size = (shape: readonly number[]) => shape.reduce((product, dim) => product * dim, 1);

/** How far apart neighbours along each axis lie, row-major. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  return strides;
}

/** numpy's rule for shapes of two operands. */
export function broadcastShape(left: readonly number[], right: readonly number[]): number[] {
  const rank = Math.max(left.length, right.length);
  return Array.from({ length: rank }, (_, i) => {
    const a = left[i - rank + left.length] ?? 1;
    const b = right[i - rank + right.length] ?? 1;
    if (a !== b && a !== 1 && b !== 1) throw new Error(`[${left}] and [${right}] do not fit together`);
    return a === 1 ? b : a;
  });
}

function broadcast(left: NdArray, right: NdArray, f: (a: number, b: number) => number): NdArray {
  const shape = broadcastShape(left.shape, right.shape);
  const values = new Float64Array(size(shape));
  const a = stretched(left, shape);
  const b = stretched(right, shape);
  forEachIndex(shape, (index, at) => {
    values[at] = f(left.values[dot(index, a)]!, right.values[dot(index, b)]!);
  });
  return { shape, values };
}

/** Strides of an operand within the common shape: 0 along stretched axes. */
function stretched(of: NdArray, shape: readonly number[]): number[] {
  const own = stridesOf(of.shape);
  const missing = shape.length - of.shape.length;
  return shape.map((_, i) => (i < missing || of.shape[i - missing] === 1 ? 0 : own[i - missing]!));
}

const dot = (index: readonly number[], strides: readonly number[]) => {
  let at = 0;
  for (let i = 0; i < index.length; i++) at += index[i]! * strides[i]!;
  return at;
};

/** Calls back with every index of a shape in row-major order; the index array is reused. */
function forEachIndex(shape: readonly number[], visit: (index: readonly number[], at: number) => void): void {
  const index = new Array<number>(shape.length).fill(0);
  const count = size(shape);
  for (let at = 0; at < count; at++) {
    visit(index, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      if (++index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
}

function lengths(
  of: NdArray,
  { axis, order }: { axis: 0 | 1; order: string },
  arithmetic: Arithmetic,
): NdArray {
  const [rows, columns] = of.shape as [number, number];
  if (of.shape.length !== 2) throw new Error(`the norm of [${of.shape}] is not one of a matrix`);
  if (axis === 1) {
    const values = Float64Array.from({ length: rows }, (_, i) =>
      arithmetic.norm(of.values, { at: i * columns, count: columns, stride: 1 }, order),
    );
    return { shape: [rows, 1], values };
  }
  const values = Float64Array.from({ length: columns }, (_, j) =>
    arithmetic.norm(of.values, { at: j, count: rows, stride: columns }, order),
  );
  return { shape: [1, columns], values };
}

export function permuted(of: NdArray, axes: readonly number[]): NdArray {
  const shape = axes.map((axis) => of.shape[axis]!);
  const own = stridesOf(of.shape);
  const strides = axes.map((axis) => own[axis]!);
  const values = new Float64Array(of.values.length);
  forEachIndex(shape, (index, at) => {
    values[at] = of.values[dot(index, strides)]!;
  });
  return { shape, values };
}

/** Splits a shape around an axis: how many blocks, how long the axis, how many values lie together. */
function around(shape: readonly number[], axis: number) {
  return { outer: size(shape.slice(0, axis)), length: shape[axis]!, inner: size(shape.slice(axis + 1)) };
}

/** Entries of an axis by position. */
export function taken(of: NdArray, axis: number, positions: readonly number[]): NdArray {
  const { outer, length, inner } = around(of.shape, axis);
  const values = new Float64Array(outer * positions.length * inner);
  let at = 0;
  for (let o = 0; o < outer; o++)
    for (const position of positions) {
      const from = (o * length + position) * inner;
      values.set(of.values.subarray(from, from + inner), at);
      at += inner;
    }
  return { shape: of.shape.map((dim, i) => (i === axis ? positions.length : dim)), values };
}

function sliced(of: NdArray, s: { axis: number; start: number; stop: number; step: number }): NdArray {
  const positions: number[] = [];
  for (let i = s.start; i < s.stop; i += s.step) positions.push(i);
  if (s.stop > of.shape[s.axis]!) throw new Error(`slice to ${s.stop} of [${of.shape}], axis ${s.axis}`);
  return taken(of, s.axis, positions);
}

function repeated(of: NdArray, axis: number, length: number): NdArray {
  const own = of.shape[axis]!;
  return taken(
    of,
    axis,
    Array.from({ length }, (_, i) => i % own),
  );
}

function concatenated(parts: readonly NdArray[], axis: number): NdArray {
  const [first] = parts as [NdArray];
  const total = parts.reduce((sum, part) => sum + part.shape[axis]!, 0);
  const shape = first.shape.map((dim, i) => (i === axis ? total : dim));
  const { outer, inner } = around(shape, axis);
  const values = new Float64Array(outer * total * inner);
  let at = 0;
  for (let o = 0; o < outer; o++)
    for (const part of parts) {
      const run = part.shape[axis]! * inner;
      values.set(part.values.subarray(o * run, (o + 1) * run), at);
      at += run;
    }
  return { shape, values };
}

function kronecker(left: NdArray, right: NdArray, step: (value: number) => number): NdArray {
  const shape = left.shape.map((dim, i) => dim * right.shape[i]!);
  const values = new Float64Array(size(shape));
  const a = stridesOf(left.shape);
  const b = stridesOf(right.shape);
  forEachIndex(shape, (index, at) => {
    let i = 0;
    let j = 0;
    for (const [axis, position] of index.entries()) {
      const dim = right.shape[axis]!;
      i += Math.floor(position / dim) * a[axis]!;
      j += (position % dim) * b[axis]!;
    }
    values[at] = step(left.values[i]! * right.values[j]!);
  });
  return { shape, values };
}

function withRows(of: NdArray, rows: readonly number[], to: NdArray): NdArray {
  const width = size(of.shape.slice(1));
  const values = of.values.slice();
  for (const [i, row] of rows.entries()) {
    if (row < 0 || row >= of.shape[0]!) throw new Error(`row ${row} of [${of.shape}]`);
    values.set(to.values.subarray(i * width, (i + 1) * width), row * width);
  }
  return { shape: of.shape, values };
}
