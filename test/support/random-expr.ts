import type { MergeableDtype } from "../../src/core/dtype.ts";
import {
  add,
  base,
  call,
  concat,
  div,
  type Expr,
  kron,
  matmul,
  mul,
  norm,
  over,
  permute,
  relu,
  repeat,
  reshape,
  round,
  scale,
  setRows,
  slice,
  source,
  sub,
} from "../../src/core/expr.ts";
import { type Example, stored, type Tensors } from "./programs.ts";

const DTYPES: readonly MergeableDtype[] = ["BF16", "F16", "F32"];
const RANKS = [1, 2, 3, 5, 8, 24, 193];

/** Random expressions of a shape, with the tensors that they read. */
export class ExprMaker {
  readonly tensors: Tensors = new Map();
  readonly #random: () => number;
  /** Share of stored elements that are zeros of either sign, infinities or NaN. */
  readonly #special: number;
  /** Sub-expressions that may be used again, as an object. */
  readonly #shared: { expr: Expr; shape: readonly number[] }[] = [];

  constructor(random: () => number, special: number) {
    this.#random = random;
    this.#special = special;
  }

  pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.#random() * of.length)]!;
  }

  int(below: number): number {
    return Math.floor(this.#random() * below);
  }

  tensor(shape: readonly number[], dtype = this.pick(DTYPES)) {
    return stored(dtype, shape, () => this.#number());
  }

  #number(): number {
    if (this.#random() < this.#special) return this.pick([0, -0, Number.NaN, 1e39, -1e39, 2 ** -149, -1]);
    const normal = this.#random() + this.#random() + this.#random() - 1.5;
    return Math.fround(normal * 2 ** (this.int(6) - 4));
  }

  leaf(shape: readonly number[], fromBase = this.#random() < 0.3): Expr {
    const name = `t${this.tensors.size}`;
    const leaf = fromBase ? base(name) : source(0, name);
    this.tensors.set(fromBase ? `base ${name}` : `source 0 ${name}`, this.tensor(shape));
    return leaf;
  }

  of(shape: readonly number[], depth: number): Expr {
    const again = this.#shared.filter((part) => String(part.shape) === String(shape));
    if (again.length > 0 && this.#random() < 0.2) return this.pick(again).expr;
    const expr = this.#make(shape, depth);
    this.#shared.push({ expr, shape });
    return expr;
  }

  #make(shape: readonly number[], depth: number): Expr {
    if (this.#random() < 0.35 && this.tensors.has("base w")) {
      if (String(this.tensors.get("base w")!.shape) === String(shape)) return base("w");
    }
    if (depth === 0) return this.leaf(shape);
    const below = (of: readonly number[]) => this.of(of, depth - 1);
    const choices: (() => Expr)[] = [
      ...[add, add, sub, mul, mul, div].map((f) => () => this.#binary(f, shape, depth)),
      () => scale(this.pick([0.3, -2, 1, 0.1]), below(shape)),
      () => over(this.pick([3, 0.7]), below(shape)),
      () => round(below(shape)),
      () => relu(below(shape)),
      () => this.#reshaped(shape, depth),
    ];
    if (shape.length > 0 && shape.every((dim) => dim > 0)) choices.push(...this.#moves(shape, depth));
    if (shape.length === 2) choices.push(...this.#products([shape[0]!, shape[1]!], depth));
    return this.pick(choices)();
  }

  #binary(f: (left: Expr, right: Expr) => Expr, shape: readonly number[], depth: number): Expr {
    const stretched = () => {
      const kind = this.int(5);
      if (kind === 0) return shape.map(() => 1);
      if (kind === 1) return shape.slice(this.int(shape.length + 1));
      if (kind === 2) return shape.map((dim, i) => (i === 0 ? dim : 1));
      return shape.map((dim) => (this.#random() < 0.4 ? 1 : dim));
    };
    const full = this.of(shape, depth - 1);
    const other = this.of(this.#random() < 0.5 ? shape : stretched(), depth - 1);
    return this.#random() < 0.5 ? f(full, other) : f(other, full);
  }

  #reshaped(shape: readonly number[], depth: number): Expr {
    const count = shape.reduce((product, dim) => product * dim, 1);
    const rows = this.pick([1, 2, 3, 4].filter((n) => count % n === 0));
    return reshape(this.of(count === 0 ? [0] : [rows, count / rows], depth - 1), shape);
  }

  #moves(shape: readonly number[], depth: number): (() => Expr)[] {
    const axis = this.int(shape.length);
    const length = shape[axis]!;
    const withAxis = (dim: number) => shape.map((old, i) => (i === axis ? dim : old));
    const below = (dim: number) => this.of(withAxis(dim), depth - 1);
    return [
      () => {
        const [start, more] = [this.int(3), this.int(3)];
        return slice(below(start + length + more), axis, start, start + length);
      },
      () => slice(below(2 * length + 1), axis, 1, 2 * length, 2),
      () => {
        const first = 1 + this.int(length);
        return length === first
          ? below(length)
          : concat(axis, [this.of(withAxis(first), depth - 1), this.of(withAxis(length - first), depth - 1)]);
      },
      () => repeat(below(1 + this.int(length)), axis, length),
      () => {
        const axes = shape.map((_, i) => i).sort(() => this.#random() - 0.5);
        const from = shape.map((_, i) => shape[axes.indexOf(i)]!);
        return permute(this.of(from, depth - 1), axes);
      },
      () => {
        const rows = Array.from({ length: 1 + this.int(3) }, () => this.int(shape[0]!));
        return setRows(this.of(shape, depth - 1), rows, this.of([rows.length, ...shape.slice(1)], depth - 1));
      },
      () => {
        const parts = shape.map((dim) => this.pick([1, 2, 3, 4, dim].filter((n) => dim % n === 0)));
        const rest = shape.map((dim, i) => dim / parts[i]!);
        return kron(this.of(parts, depth - 1), this.of(rest, depth - 1));
      },
      () => call("at-least", [this.of(shape, depth - 1)], { least: 0.25 }),
    ];
  }

  #products([rows, cols]: [number, number], depth: number): (() => Expr)[] {
    const below = (shape: readonly number[]) => this.of(shape, depth - 1);
    const inner = this.pick(RANKS);
    const order = this.#random() < 0.8 ? "fused" : "unfused";
    const product = () => matmul(below([rows, inner]), below([inner, cols]), order);
    const choices = [product, product, product];
    const lengths = this.pick(["lanes", "sequence", "double"] as const);
    if (cols === 1) choices.push(() => norm(below([rows, this.pick([1, 7, 8, 21])]), 1, lengths));
    if (rows === 1) choices.push(() => norm(below([this.pick([1, 9, 40]), cols]), 0, lengths));
    if (rows * cols > 0 && cols % 3 === 0) {
      choices.push(() => call("turn", [below([rows, cols]), this.leaf([cols / 3, 3, 3], false)]));
      choices.push(() => call("reflect", [below([rows, cols]), this.leaf([cols, 2], false)]));
    }
    return choices;
  }
}

/** An example that goes with a seed: an expression over an input `w`, which it may or may not read. */
export function randomExample(random: () => number, shape: readonly number[], depth: number): Example {
  const maker = new ExprMaker(random, random() < 0.3 ? 0.02 : 0);
  const dtype = maker.pick(DTYPES);
  maker.tensors.set("base w", maker.tensor(shape, random() < 0.8 ? dtype : maker.pick(DTYPES)));
  const change = maker.of(shape, depth);
  const expr = random() < 0.7 ? add(base("w"), change) : change;
  return { expr, shape, dtype, tensors: maker.tensors, numerics: random() < 0.25 ? "exact-1" : "peft-1" };
}
