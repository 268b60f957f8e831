import type { Hash } from "node:crypto";
import { DTYPE_BITS, type MergeableDtype } from "../core/dtype.ts";
import type { Factor, FastUpdate } from "./fast-update.ts";
import { PANEL_COLUMNS, panelBytes } from "./kernels.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import type { Done, ProgramRun } from "./program-runner.ts";
import { packPanels } from "./program-values.ts";
import { checkInput, emptySum, finishHash, startHash, type TaskIo, TILE_AT, TILE_BYTES } from "./task-io.ts";

/** Room for the float32 rows of B that belong to one tile, and for A while it is packed. */
const FACTOR_BYTES = 512 * 1024;

/** Merges low-rank updates in place, tile by tile, in the task's storage type. */
export class FastRun {
  readonly #io: TaskIo;
  readonly #task: TensorTask;
  readonly #update: FastUpdate;
  readonly #run: ProgramRun;

  /** @param run prepares factors that are not used as they are stored, and keeps account of what was checked */
  constructor(io: TaskIo, task: TensorTask, update: FastUpdate, run: ProgramRun) {
    this.#io = io;
    this.#task = task;
    this.#update = update;
    this.#run = run;
  }

  /** @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, OUT_OF_MEMORY */
  run(): Done {
    return this.#run.machine.arena.scoped(() => {
      const { arena } = this.#run.machine;
      const rawAt = arena.take(FACTOR_BYTES);
      const factorAt = arena.take(FACTOR_BYTES);
      const { a, b } = this.#update;
      const panels = a.stored ? this.#packStored(a.stored, factorAt) : this.#packPrepared(a);
      const done = b.stored
        ? this.#tiles(panels, this.#storedRows(b.stored, rawAt, factorAt))
        : this.#tiles(panels, this.#preparedRows(b));
      checkInput(this.#task, done.inputDigest);
      // Once for all parts of a tensor.
      if ((this.#task.part?.start ?? 0) === 0) this.#run.leaves.checkRest();
      return done;
    });
  }

  #tiles(panels: number, rowsOfB: RowsOfB): Done {
    const { rows, cols, rank, scale, roundFirst } = this.#update;
    const { input, known, part } = this.#task;
    const io = this.#io;
    const dtype = this.#task.dtype as MergeableDtype;
    const width = DTYPE_BITS[dtype] / 8;
    const inputHash = known || part ? null : startHash(this.#task);
    const outputHash = part ? null : startHash(this.#task);
    const inputSum = emptySum();
    const outputSum = emptySum();
    let changed = 0;
    for (const tile of tiles({ rows, cols, rank, width, ...part })) {
      io.hooks.checkStopped();
      const at = (tile.row * cols + tile.col) * width;
      const elements = tile.rows * tile.cols;
      const bytes = elements * width;
      const factors = rowsOfB.at(tile);
      io.read(input!, at, TILE_AT, bytes);
      io.hash(inputHash, TILE_AT, bytes);
      if (!known && !part) io.count(inputSum, dtype, TILE_AT, elements);
      changed += io.computing(() =>
        io.kernels.merge({
          dtype,
          weights: TILE_AT,
          rows: tile.rows,
          cols: tile.cols,
          panels: panels + panelBytes(rank, tile.col),
          factors,
          rank,
          scale,
          roundFirst,
        }),
      );
      io.count(outputSum, dtype, TILE_AT, elements);
      io.hash(outputHash, TILE_AT, bytes);
      io.write(this.#task, at, TILE_AT, bytes);
      io.hooks.advance(bytes);
    }
    rowsOfB.end();
    const inputDigest = known?.digest ?? finishHash(inputHash);
    return { inputDigest, outputDigest: finishHash(outputHash), inputSum, outputSum, changed };
  }

  /** Reads all of A, checks its digest and packs it, row by row. */
  #packStored({ leaf, dtype }: Stored, factorAt: number): number {
    const { rank, cols } = this.#update;
    const width = DTYPE_BITS[dtype] / 8;
    const chunk = TILE_BYTES / 4;
    const panels = this.#run.machine.arena.take(panelBytes(rank, cols));
    const hash = startHash(this.#task);
    const deep = Math.max(1, Math.floor(chunk / cols));
    for (let k = 0; k < rank; k += deep) {
      const rows = Math.min(deep, rank - k);
      for (let col = 0; col < cols; col += chunk) {
        this.#io.hooks.checkStopped();
        const wide = Math.min(chunk, cols - col);
        const elements = rows * wide;
        this.#io.read(leaf, (k * cols + col) * width, TILE_AT, elements * width);
        this.#io.hash(hash, TILE_AT, elements * width);
        this.#io.kernels.widen(dtype, TILE_AT, factorAt, elements);
        const target = panels + panelBytes(rank, col);
        this.#io.kernels.packRows({ source: factorAt, target, rows, cols: wide, k, rank });
      }
    }
    this.#run.leaves.checked(leaf, finishHash(hash));
    return panels;
  }

  #packPrepared({ node }: Factor): number {
    const { kernels, arena } = this.#run.machine;
    return this.#io.computing(() => packPanels(this.#run.value(node), kernels, arena));
  }

  /** Reads the rows of B that belong to a tile; every row is read once, in order, so the digest comes along. */
  #storedRows({ leaf, dtype }: Stored, rawAt: number, factorAt: number): RowsOfB {
    const { rank } = this.#update;
    const width = DTYPE_BITS[dtype] / 8;
    const { part } = this.#task;
    const hash: Hash | null = part ? null : startHash(this.#task);
    return {
      at: ({ row, rows, col }) => {
        if (col > 0) return factorAt;
        const bytes = rows * rank * width;
        this.#io.read(leaf, row * rank * width, rawAt, bytes);
        this.#io.hash(hash, rawAt, bytes);
        this.#io.kernels.widen(dtype, rawAt, factorAt, rows * rank);
        return factorAt;
      },
      end: () => {
        if (!part) this.#run.leaves.checked(leaf, finishHash(hash));
      },
    };
  }

  #preparedRows({ node }: Factor): RowsOfB {
    const { kernels, arena } = this.#run.machine;
    const { rank } = this.#update;
    const { values } = this.#run.value(node);
    const at = arena.take(values.length * 4);
    kernels.view(at, values.length).set(values);
    return { at: ({ row }) => at + row * rank * 4, end: () => {} };
  }
}

interface Stored {
  readonly leaf: ProgramLeaf;
  readonly dtype: MergeableDtype;
}

interface TileCut {
  readonly row: number;
  readonly col: number;
  readonly rows: number;
  readonly cols: number;
}

interface RowsOfB {
  /** Where the rows of B for a tile lie, as floats. */
  at(tile: TileCut): number;
  /** All tiles are done. */
  end(): void;
}

/**
 * Cuts a matrix into tiles in the order of its bytes: as many whole rows as fit or, where a single row does not fit,
 * pieces of one row. The cut depends on the shape alone, so sums over tiles are the same on every machine.
 */
function* tiles(matrix: {
  rows: number;
  cols: number;
  rank: number;
  width: number;
  /** Rows to begin with, and to end before; all where absent. */
  start?: number;
  stop?: number;
}): Generator<TileCut> {
  const { cols, rank, width, start = 0, stop = matrix.rows } = matrix;
  const most = TILE_BYTES / width;
  const wide = Math.min(cols, most - (most % PANEL_COLUMNS));
  const fits = Math.min(Math.floor(most / cols), Math.floor(FACTOR_BYTES / 4 / rank));
  // Rows go through the kernel in pairs.
  const high = Math.max(1, fits > 1 ? fits - (fits % 2) : fits);
  for (let row = start; row < stop; row += high) {
    for (let col = 0; col < cols; col += wide) {
      yield { row, col, rows: Math.min(high, stop - row), cols: Math.min(wide, cols - col) };
    }
  }
}
