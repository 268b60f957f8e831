import type { NdArray } from "../core/evaluate.ts";
import { FUNCTIONS } from "../core/functions.ts";
import { exact, rankBlocks } from "../core/numerics.ts";
import type { Step } from "./program.ts";
import type { Arena } from "./program-arena.ts";
import type { Matrix, TileKernels } from "./program-kernels.ts";
import type { StepContext } from "./program-steps.ts";
import { packPanels, type Value, wide } from "./program-values.ts";

export type CallStep = Step & { op: "call" };

/** A call that is about to be computed for many tiles. */
export interface Call {
  readonly step: CallStep;
  readonly kernels: TileKernels;
  readonly arena: Arena;
  /** An argument that is prepared as a whole, by position. */
  whole(arg: number): Value;
  /** The tile's first row of the value. */
  firstRow(context: StepContext): number;
}

/** Computes the value for one tile. */
export type CallRun = (to: Matrix, context: StepContext) => void;

/**
 * The functions of core that have kernels: same names, same bits. Null where a call's shapes are not what the kernel
 * takes.
 */
export const FAST_CALLS: Readonly<Record<string, (call: Call) => CallRun | null>> = {
  turn,
  reflect,
  "turn-pairs": turnPairs,
  butterfly,
  "add-at": addAt,
  circulant,
};

function turn({ step, kernels, arena, whole }: Call): CallRun | null {
  const { shape, values } = whole(1);
  const [count, size] = shape as [number, number];
  const width = step.shapes[0]![1]!;
  const bytes = kernels.panelBytes(size, size);
  const all = arena.take(count * bytes);
  for (let n = 0; n < count; n++) {
    const block = values.subarray(n * size * size, (n + 1) * size * size);
    const transposed = block.map((_, i) => block[(i % size) * size + Math.floor(i / size)]!);
    arena.scoped(() => {
      const panels = packPanels({ shape: [size, size], values: transposed }, kernels, arena);
      kernels.kernels.bytes(all + n * bytes, bytes).set(kernels.kernels.bytes(panels, bytes));
    });
  }
  const limits = placeIndices(limitsOf(width), kernels, arena);
  const blocks = { panels: all, size, blockBytes: count === 1 ? 0 : bytes, limits };
  return (to, context) => kernels.turn(to, context.address(step.args[0]!), blocks);
}

/** Where the K-blocks of a sum over so many terms end. */
function limitsOf(terms: number): number[] {
  let at = 0;
  return rankBlocks(terms).map((length) => {
    at += length;
    return at;
  });
}

function placeIndices(indices: ArrayLike<number>, kernels: TileKernels, arena: Arena): number {
  const words = Uint32Array.from(indices);
  const at = arena.take(words.byteLength);
  kernels.kernels.bytes(at, words.byteLength).set(new Uint8Array(words.buffer));
  return at;
}

function reflect({ step, kernels, arena, whole }: Call): CallRun {
  const { shape, values } = whole(1);
  const [width, count] = shape as [number, number];
  const bytes = width * count * 8;
  const directions = arena.take(bytes);
  const doubles = new Float64Array(width * count);
  for (let n = 0; n < count; n++)
    for (let j = 0; j < width; j++) doubles[n * width + j] = values[j * count + n]!;
  kernels.kernels.bytes(directions, bytes).set(new Uint8Array(doubles.buffer));
  const work = arena.take(width * 64);
  return (to, context) => kernels.reflect(to, context.address(step.args[0]!), { directions, count, work });
}

function turnPairs({ step, kernels, firstRow }: Call): CallRun {
  const { half, rows } = step.params as { half: number; rows: number };
  const limits = limitsOf(rows);
  const blockOf = (row: number) => limits.findIndex((limit) => row < limit);
  return (to, context) => {
    const [own, partner, cosines, sines] = step.args.map((arg) => context.address(arg)) as [
      number,
      number,
      number,
      number,
    ];
    const cosine = kernels.view(cosines, to.rows);
    const sine = kernels.view(sines, to.rows);
    const rowBytes = to.cols * kernels.width;
    for (let i = 0; i < to.rows; i++) {
      const row = step.params.first! + firstRow(context) + i;
      const upper = row % (2 * half) < half;
      const other = upper ? row + half : row - half;
      const order = to.cols > 1 && blockOf(row) === blockOf(other) ? "fused" : "unfused";
      const mine = [cosine[i]!, own + i * rowBytes] as const;
      const theirs = [sine[i]!, partner + i * rowBytes] as const;
      const [first, second] = upper ? [mine, theirs] : [theirs, mine];
      kernels.pair(to.at + i * rowBytes, first, second, { count: to.cols, order });
    }
  };
}

function butterfly({ step, kernels, arena }: Call): CallRun {
  const width = step.shapes[0]![1]!;
  const columns: NdArray = { shape: [1, width], values: Float64Array.from({ length: width }, (_, i) => i) };
  const { values } = FUNCTIONS.butterfly!.value([columns], step.params, exact);
  const map = placeIndices(values, kernels, arena);
  return (to, context) =>
    kernels.gather({ at: context.address(step.args[0]!), rows: to.rows, cols: width }, to, map);
}

/** Values by rows, sorted once; those of one row stay in the order of the file. */
function addAt({ step, kernels, whole, firstRow }: Call): CallRun {
  const [added, places] = [whole(1), whole(2)];
  const { rows, columns, first } = step.params as { rows: number; columns: number; first: number };
  // To no rows: nothing but the check of all places.
  const nothing = { shape: [0, columns], values: new Float64Array(0) };
  FUNCTIONS["add-at"]!.value([nothing, wide(added), wide(places)], step.params, exact);
  const count = added.values.length;
  const isPair = places.shape.length === 2;
  const rowOf = (i: number) => (isPair ? places.values[i]! : Math.floor(places.values[i]! / columns));
  const columnOf = (i: number) => (isPair ? places.values[count + i]! : places.values[i]! % columns);
  const starts = new Uint32Array(rows + 1);
  for (let i = 0; i < count; i++) starts[rowOf(i) + 1]!++;
  for (let row = 0; row < rows; row++) starts[row + 1]! += starts[row]!;
  const next = starts.slice();
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[next[rowOf(i)]!++] = i;
  return (to, context) => {
    kernels.copy(context.address(step.args[0]!), to.at, to.rows * to.cols);
    const target = kernels.view(to.at, to.rows * to.cols);
    const top = first + firstRow(context);
    for (let at = starts[top]!; at < starts[top + to.rows]!; at++) {
      const i = order[at]!;
      target[(rowOf(i) - top) * columns + columnOf(i)]! += added.values[i]!;
    }
  };
}

function circulant({ step, kernels, arena, whole, firstRow }: Call): CallRun {
  const { shape, values } = whole(0);
  const [, across, size] = shape as [number, number, number];
  const { width } = kernels;
  const kernel = arena.take(values.length * width);
  kernels.view(kernel, values.length).set(values);
  return (to, context) => {
    for (let i = 0; i < to.rows; i++) {
      const row = step.params.first! + firstRow(context) + i;
      const shift = row % size;
      const from = kernel + Math.floor(row / size) * across * size * width;
      const into = to.at + i * to.cols * width;
      const runs = (at: number) => ({ at, rows: across, cols: size });
      kernels.copyColumns(runs(from), runs(into + shift * width), size - shift);
      if (shift > 0) kernels.copyColumns(runs(from + (size - shift) * width), runs(into), shift);
    }
  };
}
