import type { NormOrder, SumOrder } from "../core/expr.ts";
import { addLargest, type ScaleParams, scalesFrom } from "../core/functions-float8.ts";
import { rankBlocks } from "../core/numerics.ts";
import { isWhole } from "./compile.ts";
import type { Node } from "./compile-graph.ts";
import type { TileProgram } from "./program.ts";
import { type Machine, runTiles, type Tile } from "./program-tiles.ts";
import type { Value } from "./program-values.ts";

export interface Reduction {
  /** The program of a matrix whose tiles are whole rows. */
  compile(root: Node): TileProgram;
  readonly exact: boolean;
  checkStopped(): void;
}

/**
 * Values that are sums over the rows of a large matrix, from one pass over its tiles: the lengths of its columns, or its
 * product with a small matrix on the left. Null for anything else, and where the matrix has no tiles.
 */
export function reduce(node: Node, machine: Machine, reduction: Reduction): Value | null {
  const { expr, args } = node;
  const { exact } = reduction;
  if (expr.op === "norm" && expr.axis === 0 && (exact || expr.order !== "lanes")) {
    const program = reduction.compile(args[0]!);
    return isWhole(program) ? null : columnLengths(node, { program, order: expr.order }, machine, reduction);
  }
  if (expr.op === "call" && expr.name === "float8-scales") {
    const program = reduction.compile(args[0]!);
    const params = expr.params as unknown as ScaleParams;
    return isWhole(program) ? null : blockScales(node, { program, params }, machine, reduction);
  }
  if (expr.op === "matmul" && !args[0]!.readsBase) {
    const program = reduction.compile(args[1]!);
    const order = expr.order ?? "fused";
    return isWhole(program) ? null : productFromLeft(node, { program, order }, machine, reduction);
  }
  return null;
}

function columnLengths(
  { shape, args }: Node,
  { program, order }: { program: TileProgram; order: NormOrder },
  machine: Machine,
  { checkStopped }: Reduction,
): Value {
  const { kernels, arena } = machine;
  const cols = args[0]!.shape[1]!;
  return arena.scoped(() => {
    const bytes = cols * kernels.squareBytes(order);
    const sums = arena.take(bytes);
    kernels.kernels.bytes(sums, bytes).fill(0);
    runTiles(program, machine, {
      begin: checkStopped,
      end: ({ start, stop, at }) =>
        kernels.addSquares(sums, { at, rows: (stop - start) / cols, cols }, order),
    });
    const lengths = arena.take(cols * kernels.width);
    kernels.roots(sums, lengths, cols, order);
    return { shape, values: kernels.view(lengths, cols).slice() };
  });
}

/** Scales of a matrix that is quantised again: the largest magnitude of each block, from one pass. */
function blockScales(
  { shape, args }: Node,
  { program, params }: { program: TileProgram; params: ScaleParams },
  machine: Machine,
  { exact, checkStopped }: Reduction,
): Value {
  const { kernels } = machine;
  const cols = args[0]!.shape[1]!;
  const largest = new Float64Array(params.rows * params.columns);
  runTiles(program, machine, {
    begin: checkStopped,
    end: ({ start, stop, at }) =>
      addLargest(largest, kernels.view(at, stop - start), { at: start / cols, n: cols }, params),
  });
  const scales = scalesFrom(largest, params, exact ? (value) => value : Math.fround);
  const values = kernels.array(scales.length);
  values.set(scales);
  return { shape, values };
}

function productFromLeft(
  { shape, args }: Node,
  { program, order }: { program: TileProgram; order: SumOrder },
  machine: Machine,
  { exact, checkStopped }: Reduction,
): Value {
  const { kernels, arena } = machine;
  const [m, cols] = shape as [number, number];
  const inner = args[1]!.shape[0]!;
  const left = machine.values.of(args[0]!).values;
  return arena.scoped(() => {
    const leftAt = arena.take(left.length * kernels.width);
    kernels.view(leftAt, left.length).set(left);
    const sums = new BlockSums(machine, {
      m,
      cols,
      blocks: exact || order === "unfused" ? [inner] : rankBlocks(inner),
    });
    const add = (row: number, rows: number, at: number) => {
      const from = { at: leftAt + row * kernels.width, rowBytes: inner * kernels.width };
      kernels.accumulate({ at: sums.at, m }, from, { at, rows, cols }, order);
    };
    runTiles(program, machine, {
      begin: checkStopped,
      end: ({ start, stop, at }: Tile) => {
        let row = start / cols;
        while (row * cols < stop) {
          const rows = Math.min(stop / cols - row, sums.left);
          add(row, rows, at + (row * cols - start) * kernels.width);
          sums.advance(rows);
          row += rows;
        }
      },
    });
    return { shape, values: kernels.view(sums.total, m * cols).slice() };
  });
}

/** Sums of K-blocks: each from zero, and added to the total when it is full. */
class BlockSums {
  readonly at: number;
  readonly total: number;
  /** Terms that the block still takes. */
  left: number;
  readonly #machine: Machine;
  readonly #count: number;
  readonly #blocks: number[];
  #first = true;

  constructor(machine: Machine, { m, cols, blocks }: { m: number; cols: number; blocks: readonly number[] }) {
    this.#machine = machine;
    this.#count = m * cols;
    const bytes = this.#count * machine.kernels.width;
    this.at = machine.arena.take(bytes);
    this.total = machine.arena.take(bytes);
    this.#blocks = blocks.slice(1);
    this.left = blocks[0]!;
    this.#clear(this.at);
    this.#clear(this.total);
  }

  advance(terms: number): void {
    this.left -= terms;
    if (this.left > 0) return;
    const { kernels } = this.#machine;
    const whole = (at: number) => ({ at, rowBytes: 0, columns: true });
    const target = { at: this.total, rows: 1, cols: this.#count };
    if (this.#first) kernels.copy(this.at, this.total, this.#count);
    else kernels.binary("add", whole(this.total), whole(this.at), target);
    this.#first = false;
    this.left = this.#blocks.shift() ?? 0;
    this.#clear(this.at);
  }

  #clear(at: number): void {
    this.#machine.kernels.kernels.bytes(at, this.#count * this.#machine.kernels.width).fill(0);
  }
}
