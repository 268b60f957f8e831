import { elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { evaluate, type NdArray } from "../core/evaluate.ts";
import { type Expr, type Leaf, leafKey, leaves } from "../core/expr.ts";
import { arithmeticOf } from "../core/numerics.ts";
import { type ShapeLookup, shapeOf } from "../core/shapes.ts";
import { type Cut, type DeviceProgram, isLeaf, type Value } from "./onnx-program.ts";
import type { Fed, Sessions } from "./onnx-session.ts";
import { type DeviceTile, shapesOf, wholeProgram } from "./onnx-tiles.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import type { Load, TileFiles } from "./tile-files.ts";

export interface RunnerParts {
  readonly sessions: Sessions;
  /** For rounding between two graphs. */
  readonly files: TileFiles;
  /** Reads of whole tensors. */
  readonly read: (loads: readonly Load[]) => Promise<readonly Float32Array[]>;
  readonly buffers: Buffers;
}

/** Arrays of one length that are kept. */
const MAX_FREE = 4;

/** Arrays that are used again: a fresh one of a few MB costs more than what is computed into it. */
export class Buffers {
  readonly #free = new Map<number, Float32Array[]>();

  take(length: number): Float32Array {
    return this.#free.get(length)?.pop() ?? new Float32Array(length);
  }

  give(values: Float32Array): void {
    const free = this.#free.get(values.length);
    if (free && free.length < MAX_FREE) free.push(values);
    else if (!free) this.#free.set(values.length, [values]);
  }

  /** Tensors of other shapes follow. */
  clear(): void {
    this.#free.clear();
  }
}

/** Computes the tiles of one tensor; what serves all of them is computed at the first. */
export class TensorOnDevice {
  readonly #task: TensorTask;
  readonly #parts: RunnerParts;
  readonly #shapes: ShapeLookup;
  readonly #leaves: ReadonlyMap<string, ProgramLeaf>;
  readonly #known = new Map<Expr | string, Float32Array>();

  constructor(task: TensorTask, parts: RunnerParts) {
    this.#task = task;
    this.#parts = parts;
    this.#shapes = shapesOf(task);
    this.#leaves = new Map(
      [...task.program!.leaves, ...(task.input ? [task.input] : [])].map((l) => [l.key, l]),
    );
  }

  /** What has to be read for a tile alone. */
  loads({ program }: DeviceTile): Load[] {
    return program.values.flatMap((value) => {
      if (value.kind !== "rows") return [];
      const leaf = this.#leaves.get(leafKey(value.leaf))!;
      const row = elementCount(leaf.shape.slice(1));
      return [{ leaf, start: value.start * row, count: (value.stop - value.start) * row }];
    });
  }

  /** The values of a tile, in a buffer that the caller owns. @param read what `loads` asked for; taken over */
  async compute({ program }: DeviceTile, read: readonly Float32Array[]): Promise<Float32Array> {
    const rows = [...read];
    return await this.#run(program, () => rows.shift()!);
  }

  async #run(program: DeviceProgram, nextRows: () => Float32Array): Promise<Float32Array> {
    const found: { fed: Fed; own: boolean }[] = [];
    for (const value of program.values) {
      const { values, own } = await this.#value(value, found, nextRows);
      found.push({ fed: { values, shape: value.shape }, own });
    }
    const last = found.pop()!;
    for (const { fed, own } of found)
      if (own && fed.values !== last.fed.values) this.#parts.buffers.give(fed.values);
    return last.own ? last.fed.values : this.#copied(last.fed.values);
  }

  /** `own`: nobody else holds the array. */
  async #value(
    value: Value,
    found: readonly { fed: Fed; own: boolean }[],
    nextRows: () => Float32Array,
  ): Promise<{ values: Float32Array; own: boolean }> {
    switch (value.kind) {
      case "rows":
        return { values: nextRows(), own: true };
      case "whole": {
        const values = await this.#whole(value.expr);
        if (!value.cut) return { values, own: false };
        return { values: cutOut(values, shapeOf(value.expr, this.#shapes), value.cut), own: false };
      }
      case "graph": {
        const values = this.#parts.buffers.take(elementCount(value.shape));
        const feeds = value.inputs.map((at) => found[at]!.fed);
        await this.#parts.sessions.run(value.model, feeds, { values, shape: value.shape });
        return { values, own: true };
      }
      case "round": {
        const values = this.#copied(found[value.of]!.fed.values);
        this.#parts.files.round(this.#task.dtype as MergeableDtype, values);
        return { values, own: true };
      }
      case "set-rows": {
        const values = this.#copied(found[value.of]!.fed.values);
        const width = elementCount(value.shape.slice(1));
        const to = await this.#interpreted(value.to);
        for (const [i, row] of value.rows.entries()) {
          values.set(to.subarray(i * width, (i + 1) * width), row * width);
        }
        return { values, own: true };
      }
    }
  }

  #copied(values: Float32Array): Float32Array {
    const copy = this.#parts.buffers.take(values.length);
    copy.set(values);
    return copy;
  }

  async #whole(expr: Expr): Promise<Float32Array> {
    if (isLeaf(expr)) return await this.#leaf(expr);
    const known = this.#known.get(expr);
    if (known) return known;
    const program = wholeProgram(expr, this.#shapes);
    const values = program
      ? await this.#run(program, () => {
          throw new Error("a program for all tiles reads rows");
        })
      : await this.#interpreted(expr);
    this.#known.set(expr, values);
    return values;
  }

  async #leaf(leaf: Leaf): Promise<Float32Array> {
    const key = leafKey(leaf);
    const known = this.#known.get(key);
    if (known) return known;
    const stored = this.#leaves.get(key)!;
    const [values] = await this.#parts.read([{ leaf: stored, start: 0, count: elementCount(stored.shape) }]);
    this.#known.set(key, values!);
    return values!;
  }

  /** By core's interpreter, in the canonical arithmetic. */
  async #interpreted(expr: Expr): Promise<Float32Array> {
    const read = new Map<string, NdArray>();
    for (const leaf of leaves(expr)) {
      const values = Float64Array.from(await this.#leaf(leaf));
      read.set(leafKey(leaf), { shape: this.#shapes(leaf), values });
    }
    const { dtype, program } = this.#task;
    if (!isMergeable(dtype)) throw new Error(`${this.#task.name}: ${dtype} is not computed`);
    const lookup = { whole: (leaf: Leaf) => read.get(leafKey(leaf))! };
    return Float32Array.from(evaluate(expr, lookup, arithmeticOf(program!.numerics, dtype)).values);
  }
}

/** Entries start … stop-1 along an axis. */
function cutOut(values: Float32Array, shape: readonly number[], { axis, start, stop }: Cut): Float32Array {
  const outer = elementCount(shape.slice(0, axis));
  const inner = elementCount(shape.slice(axis + 1));
  const [from, run] = [start * inner, (stop - start) * inner];
  if (outer === 1) return values.subarray(from, from + run);
  const cut = new Float32Array(outer * run);
  const length = shape[axis]! * inner;
  for (let o = 0; o < outer; o++)
    cut.set(values.subarray(o * length + from, o * length + from + run), o * run);
  return cut;
}
