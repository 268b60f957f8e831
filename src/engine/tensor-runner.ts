import { createHash, type Hash } from "node:crypto";
import type { TensorStats } from "../core/checkpoint.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { OpenFiles, readExact, type WriteAt, writeExact } from "../storage/tensor-io.ts";
import { type Factor, type FastUpdate, fastUpdate } from "./fast-update.ts";
import { HEAP_START, type Kernels, PANEL_COLUMNS, panelBytes } from "./kernels.ts";
import type { ProgramLeaf, TensorRange, TensorResult, TensorTask } from "./pool.ts";
import { computeWhole } from "./whole.ts";

/** A tile is read, hashed, merged, hashed and written while it sits in the second-level cache. */
const TILE_BYTES = 256 * 1024;
/** Room for the float32 rows of B that belong to one tile, and for A while it is packed. */
const FACTOR_BYTES = 512 * 1024;

const TILE_AT = HEAP_START;
/** Stored rows of B, before they are widened. */
const RAW_AT = TILE_AT + TILE_BYTES;
const FACTOR_AT = RAW_AT + FACTOR_BYTES;
const PANELS_AT = FACTOR_AT + FACTOR_BYTES;

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
}

interface Sum {
  absmax: number;
  squares: number;
  finite: number;
}

/** Runs tensor tasks on the calling thread, one after another, in the memory of one set of kernels. */
export class TensorRunner {
  readonly timings: Timings = { read: 0, hash: 0, compute: 0, write: 0 };
  readonly #kernels: Kernels;
  readonly #hooks: RunnerHooks;
  readonly #files = new OpenFiles();

  constructor(kernels: Kernels, hooks: RunnerHooks) {
    this.#kernels = kernels;
    this.#hooks = hooks;
    kernels.reserve(PANELS_AT);
  }

  close(): void {
    this.#files.closeAll();
  }

  /** @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, OUT_OF_MEMORY, and what opening a file may throw */
  run(task: TensorTask): TensorResult {
    const update = fastUpdate(task);
    const done = update ? this.#merge(task, update) : task.program ? this.#whole(task) : this.#copy(task);
    const compareDigest = task.compare ? this.#digest(task.compare) : null;
    const elements = elementCount(task.shape);
    return {
      name: task.name,
      inputDigest: done.inputDigest,
      outputDigest: done.outputDigest,
      compareDigest,
      inputStats: task.known?.stats ?? summary(done.inputSum, elementCount(task.input?.shape ?? [0])),
      outputStats: isCopy(task) && task.known ? task.known.stats : summary(done.outputSum, elements),
      changed: done.changed,
      elements,
    };
  }

  #copy(task: TensorTask) {
    const { input } = task;
    if (!input) throw new Error(`${task.name} has neither an input nor a program`);
    const { digest, sum } = this.#readThrough(
      input,
      (at, bytes) => {
        if (task.output) this.#write(task.output, at, bytes);
      },
      task,
    );
    checkInput(task, digest);
    return { inputDigest: digest, outputDigest: digest, inputSum: sum, outputSum: sum, changed: 0 };
  }

  /** Reads a stored tensor once, tile by tile, for its digest and statistics; each tile lies at TILE_AT for `each`. */
  #readThrough(
    tensor: ProgramLeaf,
    each: (at: number, bytes: number) => void,
    { known, digests }: Pick<TensorTask, "known" | "digests"> = {},
  ) {
    const hash = known || digests === "none" ? null : createHash("sha256");
    const { dtype } = tensor;
    const sum = isMergeable(dtype) && !known ? emptySum() : null;
    const width = DTYPE_BITS[dtype] / 8;
    if (sum && tensor.bytes !== elementCount(tensor.shape) * width) throw badShape(tensor.key, tensor.shape);
    for (let at = 0; at < tensor.bytes; at += TILE_BYTES) {
      const bytes = Math.min(TILE_BYTES, tensor.bytes - at);
      this.#hooks.checkStopped();
      this.#read(tensor, at, TILE_AT, bytes);
      this.#hash(hash, TILE_AT, bytes);
      if (sum && isMergeable(dtype)) this.#count(sum, dtype, TILE_AT, bytes / width);
      each(at, bytes);
      this.#hooks.advance(bytes);
    }
    return { digest: known?.digest ?? finish(hash), sum };
  }

  /** Computes the whole tensor at once, in memory: for expressions that no kernel streams. */
  #whole(task: TensorTask) {
    const { dtype } = task;
    if (!isMergeable(dtype)) throw new Error(`${task.name}: a ${dtype} tensor cannot be computed`);
    const { digests } = task;
    const load = (
      leaf: ProgramLeaf,
      of: Pick<TensorTask, "known" | "digests"> = { digests: digests ?? "all" },
    ) => {
      const bytes = new Uint8Array(leaf.bytes);
      const keep = (at: number, count: number) => bytes.set(this.#kernels.bytes(TILE_AT, count), at);
      const { digest, sum } = this.#readThrough(leaf, keep, of);
      return { bytes, digest, sum };
    };
    const read = task.input && load(task.input, task);
    if (read) checkInput(task, read.digest);
    const start = performance.now();
    const output = computeWhole(task, read?.bytes ?? null, (leaf) => {
      const { bytes, digest } = load(leaf);
      checkFactor(task, leaf, digest);
      return bytes;
    });
    this.timings.compute += performance.now() - start;
    const outputSum = emptySum();
    const hash = startHash(task);
    for (let at = 0; at < output.bytes.byteLength; at += TILE_BYTES) {
      const tile = output.bytes.subarray(at, at + TILE_BYTES);
      this.#hooks.checkStopped();
      this.#kernels.bytes(TILE_AT, tile.byteLength).set(tile);
      this.#hash(hash, TILE_AT, tile.byteLength);
      this.#count(outputSum, dtype, TILE_AT, tile.byteLength / (DTYPE_BITS[dtype] / 8));
      if (task.output) this.#write(task.output, at, tile.byteLength);
    }
    return {
      inputDigest: read?.digest ?? null,
      outputDigest: finish(hash),
      inputSum: read?.sum ?? null,
      outputSum,
      changed: output.changed,
    };
  }

  #merge(task: TensorTask, lora: FastUpdate) {
    const { dtype, input: source } = task;
    if (!source) throw new Error(`${task.name}: an update needs an input`);
    const [rows, cols] = task.shape as [number, number];
    const rank = lora.a.rows;
    if (!isMergeable(dtype)) throw new Error(`${task.name}: a ${dtype} tensor cannot take a LoRA update`);
    checkShapes(task, lora);
    const width = DTYPE_BITS[dtype] / 8;
    const input = task.known ? null : startHash(task);
    const output = startHash(task);
    const factor = startHash(task);
    const inputSum = emptySum();
    const outputSum = emptySum();
    let changed = 0;
    this.#packA(task, lora.a);
    for (const tile of tiles({ rows, cols, rank, width })) {
      this.#hooks.checkStopped();
      const at = (tile.row * cols + tile.col) * width;
      const elements = tile.rows * tile.cols;
      const bytes = elements * width;
      if (tile.col === 0) this.#loadB(lora.b, factor, tile.row, tile.rows);
      this.#read(source, at, TILE_AT, bytes);
      this.#hash(input, TILE_AT, bytes);
      if (!task.known) this.#count(inputSum, dtype, TILE_AT, elements);
      const start = performance.now();
      changed += this.#kernels.merge({
        dtype,
        weights: TILE_AT,
        rows: tile.rows,
        cols: tile.cols,
        panels: PANELS_AT + panelBytes(rank, tile.col),
        factors: FACTOR_AT,
        rank,
        scale: lora.scale,
      });
      this.timings.compute += performance.now() - start;
      this.#count(outputSum, dtype, TILE_AT, elements);
      this.#hash(output, TILE_AT, bytes);
      if (task.output) this.#write(task.output, at, bytes);
      this.#hooks.advance(bytes);
    }
    const inputDigest = task.known?.digest ?? finish(input);
    checkInput(task, inputDigest);
    checkFactor(task, lora.b.leaf, finish(factor));
    return { inputDigest, outputDigest: finish(output), inputSum, outputSum, changed };
  }

  /** Reads all of A, checks its digest and leaves it packed at PANELS_AT, where it stays for the whole tensor. */
  #packA(task: TensorTask, a: Factor): void {
    const { rows: rank, cols, dtype, leaf } = a;
    const width = DTYPE_BITS[dtype] / 8;
    const chunk = TILE_BYTES / 4;
    this.#kernels.reserve(PANELS_AT + panelBytes(rank, cols));
    const hash = startHash(task);
    const deep = Math.max(1, Math.floor(chunk / Math.max(1, cols)));
    for (let k = 0; k < rank; k += deep) {
      const rows = Math.min(deep, rank - k);
      for (let col = 0; col < cols; col += chunk) {
        this.#hooks.checkStopped();
        const wide = Math.min(chunk, cols - col);
        const elements = rows * wide;
        this.#read(leaf, (k * cols + col) * width, TILE_AT, elements * width);
        this.#hash(hash, TILE_AT, elements * width);
        this.#kernels.widen(dtype, TILE_AT, FACTOR_AT, elements);
        const target = PANELS_AT + panelBytes(rank, col);
        this.#kernels.packRows({ source: FACTOR_AT, target, rows, cols: wide, k, rank });
      }
    }
    checkFactor(task, a.leaf, finish(hash));
  }

  /** Reads the rows of B that belong to a tile; every row is read once, in order, so the digest comes along. */
  #loadB(b: Factor, hash: Hash | null, row: number, rows: number): void {
    const width = DTYPE_BITS[b.dtype] / 8;
    const bytes = rows * b.cols * width;
    this.#read(b.leaf, row * b.cols * width, RAW_AT, bytes);
    this.#hash(hash, RAW_AT, bytes);
    this.#kernels.widen(b.dtype, RAW_AT, FACTOR_AT, rows * b.cols);
  }

  #digest(range: TensorRange): string {
    const hash = createHash("sha256");
    for (let at = 0; at < range.bytes; at += TILE_BYTES) {
      this.#hooks.checkStopped();
      const bytes = Math.min(TILE_BYTES, range.bytes - at);
      this.#read(range, at, TILE_AT, bytes);
      this.#hash(hash, TILE_AT, bytes);
      this.#hooks.advance(bytes);
    }
    return finish(hash)!;
  }

  #read(range: TensorRange, at: number, to: number, bytes: number): void {
    const start = performance.now();
    readExact(this.#files.reading(range.path), range.path, this.#kernels.bytes(to, bytes), range.offset + at);
    this.timings.read += performance.now() - start;
  }

  #write(output: { path: string; offset: number }, at: number, bytes: number): void {
    const start = performance.now();
    const file = { fd: this.#files.writing(output.path), path: output.path, write: this.#hooks.write };
    writeExact(file, this.#kernels.bytes(TILE_AT, bytes), output.offset + at);
    this.timings.write += performance.now() - start;
    this.#hooks.wrote();
  }

  #hash(hash: Hash | null, at: number, bytes: number): void {
    if (!hash) return;
    const start = performance.now();
    hash.update(this.#kernels.bytes(at, bytes));
    this.timings.hash += performance.now() - start;
  }

  #count(sum: Sum, dtype: MergeableDtype, at: number, elements: number): void {
    const start = performance.now();
    const tile = this.#kernels.stats(dtype, at, elements);
    sum.absmax = Math.max(sum.absmax, tile.absmax);
    sum.squares += tile.squares;
    sum.finite += tile.finite;
    this.timings.compute += performance.now() - start;
  }
}

/**
 * Cuts a matrix into tiles in the order of its bytes: as many whole rows as fit or, where a single row does not fit,
 * pieces of one row. The cut depends on the shape alone, so sums over tiles are the same on every machine.
 */
function* tiles(matrix: { rows: number; cols: number; rank: number; width: number }) {
  const { rows, cols, rank, width } = matrix;
  const most = TILE_BYTES / width;
  const wide = Math.min(cols, most - (most % PANEL_COLUMNS));
  const fits = Math.min(Math.floor(most / Math.max(1, cols)), Math.floor(FACTOR_BYTES / 4 / rank));
  // Rows go through the kernel in pairs.
  const high = Math.max(1, fits > 1 ? fits - (fits % 2) : fits);
  for (let row = 0; row < rows; row += high) {
    let col = 0;
    // At least once: with no columns there is still B to be read and checked.
    do {
      yield { row, col, rows: Math.min(high, rows - row), cols: Math.min(wide, cols - col) };
      col += wide;
    } while (col < cols);
  }
}

function emptySum(): Sum {
  return { absmax: 0, squares: 0, finite: 0 };
}

function summary(sum: Sum | null, elements: number): TensorStats {
  if (!sum) return { absmax: null, rms: null, nonFinite: 0 };
  const nonFinite = elements - sum.finite;
  if (sum.finite === 0) return { absmax: null, rms: null, nonFinite };
  return { absmax: sum.absmax, rms: Math.sqrt(sum.squares / sum.finite), nonFinite };
}

function isCopy(task: TensorTask): boolean {
  return task.program === undefined;
}

function startHash({ digests }: TensorTask): Hash | null {
  return digests === "none" ? null : createHash("sha256");
}

function finish(hash: Hash | null): string | null {
  return hash && `sha256:${hash.digest("hex")}`;
}

function checkInput(task: TensorTask, digest: string | null): void {
  if (digest === null || task.expectDigest === undefined || task.expectDigest === digest) return;
  throw changed(`Tensor "${task.name}"`, task.input!.path, { expected: task.expectDigest, actual: digest });
}

function checkFactor(task: TensorTask, leaf: ProgramLeaf, digest: string | null): void {
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

/** The plan has checked all this with messages for people; here a mismatch would write past a buffer. */
function checkShapes(task: TensorTask, lora: FastUpdate): void {
  const { a, b } = lora;
  const [rows, cols] = task.shape;
  const width = DTYPE_BITS[task.dtype] / 8;
  const fits =
    task.shape.length === 2 &&
    a.rows === b.cols &&
    a.rows >= 1 &&
    a.rows * 4 <= FACTOR_BYTES &&
    a.cols === cols &&
    b.rows === rows &&
    task.input?.bytes === elementCount(task.shape) * width &&
    [a, b].every((f) => f.leaf.bytes === (f.rows * f.cols * DTYPE_BITS[f.dtype]) / 8);
  if (!fits) throw badShape(task.name, task.shape);
}

function badShape(name: string, shape: readonly number[]): Error {
  return new Error(`${name}: shape [${shape}], byte ranges and factors do not fit each other`);
}
