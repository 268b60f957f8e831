import { cutOf, workOf } from "../core/cuts.ts";
import { DTYPE_BITS, elementCount, isMergeable, widen } from "../core/dtype.ts";
import { evaluate, type NdArray } from "../core/evaluate.ts";
import { type Expr, type Leaf, leafKey } from "../core/expr.ts";
import type { Cut } from "../core/leaf-part.ts";
import { arithmeticOf, bitsToNumber, storedBits } from "../core/numerics.ts";
import type { SampledRows } from "../core/parity.ts";
import { type OpenFiles, readExact } from "../storage/tensor-io.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";

/** Pieces taken of each tensor: at its start, at its end, and some between. */
const PIECES = 4;
/** Elements of a piece: a second opinion, not a second merge. */
const PIECE_ELEMENTS = 256;
/** Numbers that may be read and computed for one piece. */
const MAX_WORK = 4_000_000;

/** A written tensor that is to be looked at again. */
export interface SampleTask {
  /** How it came about. */
  readonly task: TensorTask;
  readonly written: { readonly path: string; readonly offset: number };
}

export interface SampledTensor {
  readonly name: string;
  readonly pieces: number;
  readonly elements: number;
  /** An element is not what it must be. */
  readonly differs: boolean;
  /** Not looked at: even one piece takes too much to compute a second way. */
  readonly skipped: boolean;
}

/**
 * Reads pieces of a written tensor back and compares them with the same pieces made a second way, with the slow
 * implementation in core: a wrong offset, shard, factor or kernel shows as a differing element. Of the operands only
 * what the pieces need is read. A copied tensor is compared with its input.
 */
export function sampleTensor({ task, written }: SampleTask, files: OpenFiles): SampledTensor {
  const result = { name: task.name, pieces: 0, elements: 0, differs: false, skipped: false };
  const width = DTYPE_BITS[task.dtype] / 8;
  // Two or more elements a byte: such tensors are only ever copied, and a piece need not begin at a byte.
  if (!Number.isInteger(width)) return result;
  for (const cuts of piecesOf(task.shape)) {
    const { offset, elements } = placeOf(task.shape, cuts);
    const actual = new Uint8Array(elements * width);
    readExact(files.reading(written.path), written.path, actual, written.offset + offset * width);
    const expected = task.program ? computed(task, cuts, files) : copied(task, { cuts, files });
    if (expected === null) return { ...result, skipped: true };
    result.pieces++;
    result.elements += elements;
    result.differs ||= !same(task, expected, actual);
  }
  return result;
}

/** What all samples say together. */
export function sampledRows(samples: readonly SampledTensor[]): SampledRows {
  const sum = (of: (sample: SampledTensor) => number) =>
    samples.reduce((total, sample) => total + of(sample), 0);
  const names = (which: (sample: SampledTensor) => boolean) => samples.filter(which).map(({ name }) => name);
  return {
    rows: sum(({ pieces }) => pieces),
    elements: sum(({ elements }) => elements),
    differing: names(({ differs }) => differs),
    skipped: names(({ skipped }) => skipped),
  };
}

/** Cuts that lead to pieces of neighbouring elements, spread from the first to the last. */
function piecesOf(shape: readonly number[]): Cut[][] {
  if (elementCount(shape) === 0) return [];
  const pieces = Array.from({ length: PIECES }, (_, i) => pieceAt(shape, i / (PIECES - 1)));
  const known = new Set<string>();
  return pieces.filter((cuts) => {
    const key = JSON.stringify(cuts);
    return !known.has(key) && known.add(key);
  });
}

/** One piece of at most `most` elements, `where` (0 … 1) along every axis that has to be cut. */
export function pieceAt(shape: readonly number[], where: number, most = PIECE_ELEMENTS): Cut[] {
  const cuts: Cut[] = [];
  let left = elementCount(shape);
  for (const [axis, dim] of shape.entries()) {
    if (left <= most) break;
    const below = left / dim;
    const length = Math.min(dim, Math.max(1, Math.floor(most / below)));
    const start = Math.round(where * (dim - length));
    if (length < dim) cuts.push({ axis, start, stop: start + length });
    left = below * length;
  }
  return cuts;
}

/** Where the piece begins in the tensor, and how many elements it has; they are neighbours. */
export function placeOf(
  shape: readonly number[],
  cuts: readonly Cut[],
): { offset: number; elements: number } {
  let offset = 0;
  let elements = elementCount(shape);
  for (const { axis, start, stop } of cuts) {
    offset += start * elementCount(shape.slice(axis + 1));
    elements = (elements / shape[axis]!) * (stop - start);
  }
  return { offset, elements };
}

/** The piece by its expression; null where that takes too much. */
export function computed(task: TensorTask, cuts: readonly Cut[], files: OpenFiles): Float64Array | null {
  const { expr, leaves, numerics } = task.program!;
  const stored = new Map([...leaves, ...(task.input ? [task.input] : [])].map((leaf) => [leaf.key, leaf]));
  const find = (leaf: Leaf) => stored.get(leafKey(leaf))!;
  const shapes = (leaf: Leaf) => find(leaf).shape;
  const piece = cuts.reduce((of: Expr, cut) => cutOf(of, cut, shapes), expr);
  if (workOf(piece, shapes) > MAX_WORK) return null;
  const lookup = {
    whole: (leaf: Leaf) => readPart(find(leaf), [], files),
    part: (leaf: Leaf, parts: readonly Cut[]) => readPart(find(leaf), parts, files),
  };
  return evaluate(piece, lookup, arithmeticOf(numerics, isMergeable(task.dtype) ? task.dtype : "F32")).values;
}

function copied(task: TensorTask, of: { cuts: readonly Cut[]; files: OpenFiles }): Uint8Array {
  const input = task.input!;
  const { offset, elements } = placeOf(task.shape, of.cuts);
  const width = DTYPE_BITS[task.dtype] / 8;
  const bytes = new Uint8Array(elements * width);
  readExact(of.files.reading(input.path), input.path, bytes, input.offset + offset * width);
  return bytes;
}

function same(task: TensorTask, expected: Float64Array | Uint8Array, actual: Uint8Array): boolean {
  if (expected instanceof Uint8Array) return Buffer.compare(expected, actual) === 0;
  const { dtype } = task;
  const { numerics } = task.program!;
  const stored = widen(dtype, actual);
  // 8-bit floats come rounded already.
  if (!isMergeable(dtype)) return expected.every((value, i) => Object.is(value, stored[i]));
  return expected.every((value, i) =>
    Object.is(bitsToNumber(dtype, storedBits(numerics, dtype, value)), stored[i]),
  );
}

/** Part of a stored tensor: one run of bytes for each index of the axes above the last one that is cut. */
function readPart(leaf: ProgramLeaf, cuts: readonly Cut[], files: OpenFiles): NdArray {
  const ranges = leaf.shape.map((dim) => ({ start: 0, stop: dim }));
  for (const { axis, start, stop } of cuts) {
    const { start: from } = ranges[axis]!;
    ranges[axis] = { start: from + start, stop: from + stop };
  }
  const shape = ranges.map(({ start, stop }) => stop - start);
  const width = DTYPE_BITS[leaf.dtype] / 8;
  const bytes = new Uint8Array(elementCount(shape) * width);
  const last = ranges.findLastIndex((_, axis) => shape[axis] !== leaf.shape[axis]);
  const run = elementCount(shape.slice(Math.max(0, last))) * width;
  const fd = files.reading(leaf.path);
  let at = 0;
  const visit = (axis: number, element: number) => {
    if (axis >= last) {
      const first = last < 0 ? 0 : ranges[axis]!.start * elementCount(leaf.shape.slice(axis + 1));
      readExact(fd, leaf.path, bytes.subarray(at, at + run), leaf.offset + (element + first) * width);
      at += run;
      return;
    }
    const { start, stop } = ranges[axis]!;
    const below = elementCount(leaf.shape.slice(axis + 1));
    for (let i = start; i < stop; i++) visit(axis + 1, element + i * below);
  };
  if (bytes.byteLength > 0) visit(0, 0);
  return { shape, values: widen(leaf.dtype, bytes) };
}
