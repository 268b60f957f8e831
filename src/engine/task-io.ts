import { createHash, type Hash } from "node:crypto";
import type { TensorStats } from "../core/checkpoint.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { OpenFiles, readExact, type WriteAt, writeExact } from "../storage/tensor-io.ts";
import { HEAP_START, type Kernels } from "./kernels.ts";
import type { ProgramLeaf, TensorRange, TensorTask } from "./pool.ts";

/** A tile is read, hashed, computed, hashed and written while it sits in the second-level cache. */
export const TILE_BYTES = 256 * 1024;
/** Where tiles that are only read, hashed and written lie. */
export const TILE_AT = HEAP_START;

/** Milliseconds of one thread, by what it did. */
export interface Timings {
  read: number;
  hash: number;
  compute: number;
  write: number;
}

/** Thrown between two tiles when the pool was told to stop; never leaves the worker. */
export class Stopped extends Error {}

export interface RunnerHooks {
  /** Throws `Stopped` when the work is no longer wanted. */
  readonly checkStopped: () => void;
  /** So many more bytes of `input` or `compare` are done. */
  readonly advance: (bytes: number) => void;
  /** After each tile that was written. */
  readonly wrote: () => void;
  readonly write?: WriteAt | undefined;
  /** Takes computed bytes of a task whose `near` they are to be compared with, from byte `at` of the tensor on. */
  readonly near?: (task: TensorTask, at: number, bytes: Uint8Array) => void;
  /** Takes what was computed or copied, from byte `at` of the tensor on; the bytes are gone when it returns. */
  readonly computed?: (at: number, bytes: Uint8Array) => void;
  /** For tests: output elements of a tile of a program, where whole rows fit. */
  readonly tileElements?: number | undefined;
}

export interface Sum {
  absmax: number;
  squares: number;
  finite: number;
}

/** Reads, hashes, counts and writes what lies in WASM memory, and keeps the time of each. */
export class TaskIo {
  readonly timings: Timings = { read: 0, hash: 0, compute: 0, write: 0 };
  readonly kernels: Kernels;
  readonly hooks: RunnerHooks;
  readonly #files = new OpenFiles();

  constructor(kernels: Kernels, hooks: RunnerHooks) {
    this.kernels = kernels;
    this.hooks = hooks;
    kernels.reserve(TILE_AT + TILE_BYTES);
  }

  close(): void {
    this.#files.closeAll();
  }

  read(range: TensorRange, at: number, to: number, bytes: number): void {
    const start = performance.now();
    readExact(this.#files.reading(range.path), range.path, this.kernels.bytes(to, bytes), range.offset + at);
    this.timings.read += performance.now() - start;
  }

  /** Writes bytes from memory at a position of the task's output; nothing where it has none. */
  write(task: TensorTask, at: number, from: number, bytes: number): void {
    if (task.near) this.hooks.near?.(task, at, this.kernels.bytes(from, bytes));
    this.hooks.computed?.(at, this.kernels.bytes(from, bytes));
    const { output } = task;
    if (!output) return;
    const start = performance.now();
    const file = { fd: this.#files.writing(output.path), path: output.path, write: this.hooks.write };
    writeExact(file, this.kernels.bytes(from, bytes), output.offset + at);
    this.timings.write += performance.now() - start;
    this.hooks.wrote();
  }

  hash(hash: Hash | null, at: number, bytes: number): void {
    if (!hash) return;
    const start = performance.now();
    hash.update(this.kernels.bytes(at, bytes));
    this.timings.hash += performance.now() - start;
  }

  count(sum: Sum, dtype: MergeableDtype, at: number, elements: number): void {
    this.computing(() => {
      const tile = this.kernels.stats(dtype, at, elements);
      sum.absmax = Math.max(sum.absmax, tile.absmax);
      sum.squares += tile.squares;
      sum.finite += tile.finite;
    });
  }

  /** Counts the time of `work` as computing, less what it spends on files and hashes. */
  computing<T>(work: () => T): T {
    const other = () => this.timings.read + this.timings.hash + this.timings.write;
    const before = other();
    const start = performance.now();
    const result = work();
    this.timings.compute += performance.now() - start - (other() - before);
    return result;
  }

  /**
   * Reads a stored tensor once, tile by tile, for its digest and statistics; each tile lies at TILE_AT for `each`.
   * Where it is the task's input, its bytes count as progress and what is `known` of it is not learnt again.
   */
  readThrough(
    tensor: ProgramLeaf,
    task: Pick<TensorTask, "name" | "input" | "known" | "digests">,
    each: (at: number, bytes: number) => void = () => {},
  ) {
    const isInput = tensor === task.input;
    const known = isInput ? task.known : undefined;
    const hash = known ? null : startHash(task);
    const { dtype } = tensor;
    const sum = isInput && isMergeable(dtype) && !known ? emptySum() : null;
    checkBytes(task, tensor);
    for (let at = 0; at < tensor.bytes; at += TILE_BYTES) {
      const bytes = Math.min(TILE_BYTES, tensor.bytes - at);
      this.hooks.checkStopped();
      this.read(tensor, at, TILE_AT, bytes);
      this.hash(hash, TILE_AT, bytes);
      if (sum && isMergeable(dtype)) this.count(sum, dtype, TILE_AT, (bytes * 8) / DTYPE_BITS[dtype]);
      each(at, bytes);
      if (isInput) this.hooks.advance(bytes);
    }
    return { digest: known?.digest ?? finishHash(hash), sum };
  }

  /** Digest of any bytes, which count as progress. */
  digest(range: TensorRange): string {
    const hash = createHash("sha256");
    for (let at = 0; at < range.bytes; at += TILE_BYTES) {
      this.hooks.checkStopped();
      const bytes = Math.min(TILE_BYTES, range.bytes - at);
      this.read(range, at, TILE_AT, bytes);
      this.hash(hash, TILE_AT, bytes);
      this.hooks.advance(bytes);
    }
    return finishHash(hash)!;
  }
}

export function emptySum(): Sum {
  return { absmax: 0, squares: 0, finite: 0 };
}

export function summary(sum: Sum | null, elements: number): TensorStats {
  if (!sum) return { absmax: null, rms: null, nonFinite: 0 };
  const nonFinite = elements - sum.finite;
  if (sum.finite === 0) return { absmax: null, rms: null, nonFinite };
  return { absmax: sum.absmax, rms: Math.sqrt(sum.squares / sum.finite), nonFinite };
}

export function startHash({ digests }: Pick<TensorTask, "digests">): Hash | null {
  return digests === "none" ? null : createHash("sha256");
}

export function finishHash(hash: Hash | null): string | null {
  return hash && `sha256:${hash.digest("hex")}`;
}

/** @throws INPUT_CHANGED */
export function checkInput(task: TensorTask, digest: string | null): void {
  if (digest === null || task.expectDigest === undefined || task.expectDigest === digest) return;
  throw changed(`Tensor "${task.name}"`, task.input!.path, { expected: task.expectDigest, actual: digest });
}

/** @throws INPUT_CHANGED */
export function checkFactor(task: TensorTask, leaf: ProgramLeaf, digest: string | null): void {
  if (digest === null || leaf.digest === undefined || leaf.digest === digest) return;
  throw changed(`A factor of tensor "${task.name}" (${leaf.key})`, leaf.path, {
    expected: leaf.digest,
    actual: digest,
  });
}

function changed(what: string, file: string, digests: { expected: string; actual: string }): AppError {
  return new AppError(
    "INPUT_CHANGED",
    `${what} in ${file} is not what was imported: its bytes have the digest ${digests.actual}, expected ${digests.expected}. Restore the file, or import it again as a new version.`,
    { details: { file, ...digests } },
  );
}

/** The plan has checked this with messages for people; here a mismatch would read beside the tensor. */
export function checkBytes(task: Pick<TensorTask, "name">, { key, dtype, shape, bytes }: ProgramLeaf): void {
  if (!isMergeable(dtype) || bytes * 8 === elementCount(shape) * DTYPE_BITS[dtype]) return;
  throw new Error(`${task.name}: ${key} has ${bytes} bytes for the shape [${shape}]`);
}
