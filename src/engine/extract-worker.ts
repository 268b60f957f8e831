import { parentPort } from "node:worker_threads";
import { DTYPE_BITS, type Dtype, type MergeableDtype, widen } from "../core/dtype.ts";
import type { ModuleLoss } from "../core/extraction.ts";
import { approximate, type Passes, residual } from "../core/low-rank.ts";
import { bitsToNumber, roundOnce } from "../core/numerics.ts";
import { OpenFiles, readExact, writeExact } from "../storage/tensor-io.ts";
import type { WorkerError } from "./pool.ts";
import { packError } from "./travel.ts";

interface Place {
  readonly path: string;
  readonly offset: number;
  readonly dtype: string;
}

export interface ExtractTask {
  readonly module: string;
  /** As stored. */
  readonly shape: readonly [rows: number, columns: number];
  readonly base: Place;
  readonly tuned: Place;
  /** Stored (in, out): the left factor is A, turned round, and the right one B. */
  readonly transposed: boolean;
  readonly rank: number;
  readonly seed: number;
  readonly dtype: MergeableDtype;
  /** First bytes of A and of B. */
  readonly output: { readonly path: string; readonly a: number; readonly b: number };
}

export type ExtractMessage = ModuleLoss | { readonly failed: WorkerError };

/** Bytes of rows that are read at once. */
const BLOCK_BYTES = 4 * 1024 * 1024;

const files = new OpenFiles();

/** The rows of F − W, block by block. */
function passesOf({ shape: [rows, columns], base, tuned }: ExtractTask): Passes {
  const step = Math.max(1, Math.floor(BLOCK_BYTES / (8 * columns)));
  const read = ({ path, offset, dtype }: Place, at: number, count: number) => {
    const width = (columns * DTYPE_BITS[dtype as Dtype]) / 8;
    const bytes = new Uint8Array(count * width);
    readExact(files.reading(path), path, bytes, offset + at * width);
    return widen(dtype as Dtype, bytes);
  };
  return function* () {
    for (let at = 0; at < rows; at += step) {
      const count = Math.min(step, rows - at);
      const values = read(tuned, at, count);
      const before = read(base, at, count);
      for (let i = 0; i < values.length; i++) values[i]! -= before[i]!;
      yield { at, rows: count, values };
    }
  };
}

function extract(task: ExtractTask): ModuleLoss {
  const { module, shape, rank, seed, dtype, output, transposed } = task;
  const [rows, columns] = shape;
  const passes = passesOf(task);
  const found = approximate(passes, { rows, columns, rank, seed });
  const left = stored(found.left, dtype);
  const right = stored(found.right, dtype);
  // W (out×in): B is left, A is right. W (in×out): the product is Aᵀ·Bᵀ.
  const a = transposed ? turned(left.bits, rows, rank) : right.bits;
  const b = transposed ? turned(right.bits, rank, columns) : left.bits;
  write(output.path, output.a, a, dtype);
  write(output.path, output.b, b, dtype);
  const lost =
    found.energy === 0 ? 0 : residual(passes, { left: left.values, right: right.values }, { columns, rank });
  return {
    module,
    changeNorm: Math.sqrt(found.energy),
    energyKept: found.energy === 0 ? 1 : 1 - lost / found.energy,
  };
}

/** Values as the file will hold them, with their bits. */
function stored(values: Float64Array, dtype: MergeableDtype) {
  const bits = Uint32Array.from(values, (value) => roundOnce(dtype, value));
  return { bits, values: Float64Array.from(bits, (word) => bitsToNumber(dtype, word)) };
}

function turned(bits: Uint32Array, rows: number, columns: number): Uint32Array {
  return Uint32Array.from(bits, (_, at) => bits[(at % rows) * columns + Math.floor(at / rows)]!);
}

function write(path: string, offset: number, bits: Uint32Array, dtype: MergeableDtype): void {
  const words = dtype === "F32" ? bits : Uint16Array.from(bits);
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  writeExact({ fd: files.writing(path), path }, bytes, offset);
}

parentPort!.on("message", (task: ExtractTask | null) => {
  if (task === null) {
    files.closeAll();
    return parentPort!.close();
  }
  try {
    parentPort!.postMessage(extract(task) satisfies ExtractMessage);
  } catch (error) {
    parentPort!.postMessage({ failed: packError(error) } satisfies ExtractMessage);
  }
});
