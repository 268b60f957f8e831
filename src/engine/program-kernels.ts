import type { MergeableDtype } from "../core/dtype.ts";
import type { NormOrder, SumOrder } from "../core/expr.ts";
import type { Exports } from "./kernel-exports.ts";
import { type Kernels, PANEL_COLUMNS, panelBytes } from "./kernels.ts";

/** Rounded to float32 at every step (`dtype`: where values are rounded on the way), or float64 throughout. */
export interface TileArithmetic {
  readonly exact: boolean;
  readonly dtype: MergeableDtype;
}

/** An operand in memory: bytes from one row to the next, and whether it has all columns or one element for all. */
export interface Place {
  readonly at: number;
  readonly rowBytes: number;
  readonly columns: boolean;
}

export interface Matrix {
  readonly at: number;
  readonly rows: number;
  readonly cols: number;
}

/** The kernels of one arithmetic. Elements in memory are float32, or float64 in exact arithmetic. */
export class TileKernels {
  /** Bytes of one element. */
  readonly width: 4 | 8;
  readonly kernels: Kernels;
  readonly #wasm: Exports;
  readonly #exact: boolean;
  readonly #dtype: MergeableDtype;

  constructor(kernels: Kernels, { exact, dtype }: TileArithmetic) {
    this.kernels = kernels;
    this.#wasm = kernels.wasm;
    this.#exact = exact;
    this.#dtype = dtype;
    this.width = exact ? 8 : 4;
  }

  /** The elements at a position, until memory grows. */
  view(at: number, count: number): Float32Array | Float64Array {
    const { buffer } = this.kernels.bytes(at, count * this.width);
    return this.#exact ? new Float64Array(buffer, at, count) : new Float32Array(buffer, at, count);
  }

  /** A new array of elements of this arithmetic. */
  array(count: number): Float32Array | Float64Array {
    return this.#exact ? new Float64Array(count) : new Float32Array(count);
  }

  widen(dtype: MergeableDtype, source: number, target: number, count: number): void {
    const { widenDoubleBf16, widenDoubleF16, widenDoubleF32 } = this.#wasm;
    const doubles = { BF16: widenDoubleBf16, F16: widenDoubleF16, F32: widenDoubleF32 };
    if (this.#exact) doubles[dtype](source, target, count);
    else this.kernels.widen(dtype, source, target, count);
  }

  /** Into the output's storage type, rounded once. */
  store(source: number, target: number, count: number): void {
    const { roundDoubleBf16, roundDoubleF16, roundDoubleF32 } = this.#wasm;
    const doubles = { BF16: roundDoubleBf16, F16: roundDoubleF16, F32: roundDoubleF32 };
    if (this.#exact) doubles[this.#dtype](source, target, count);
    else this.kernels.round(this.#dtype, source, target, count);
  }

  /** How many elements of the output's storage type have other bits. */
  differing(stored: number, other: number, count: number): number {
    return this.#dtype === "F32"
      ? this.#wasm.differing32(stored, other, count)
      : this.#wasm.differing16(stored, other, count);
  }

  binary(op: "add" | "sub" | "mul" | "div", a: Place, b: Place, to: Matrix): void {
    const run = this.#wasm[this.#exact ? (`${op}Doubles` as const) : (`${op}Floats` as const)];
    run(to.at, a.at, a.rowBytes, Number(a.columns), b.at, b.rowBytes, Number(b.columns), to.rows, to.cols);
  }

  /** Through the storage type and back; in exact arithmetic, and for F32, the elements as they are. */
  through(source: number, target: number, count: number): void {
    if (this.#exact || this.#dtype === "F32") this.copy(source, target, count);
    else if (this.#dtype === "BF16") this.#wasm.throughBf16(source, target, count);
    else this.#wasm.throughF16(source, target, count);
  }

  copy(source: number, target: number, count: number): void {
    if (source !== target) this.#wasm.copyRuns(source, target, 1, count * this.width, 0, 0);
  }

  /** Columns of a matrix into, or from, a wider one: `cols` elements a row, of rows so many elements apart. */
  copyColumns(source: Matrix, target: Matrix, cols: number): void {
    const { width } = this;
    this.#wasm.copyRuns(
      source.at,
      target.at,
      source.rows,
      cols * width,
      source.cols * width,
      target.cols * width,
    );
  }

  relu(source: number, target: number, count: number): void {
    if (this.#exact) this.#wasm.reluDoubles(source, target, count);
    else this.#wasm.reluFloats(source, target, count);
  }

  /** Length of each row. */
  norms(of: Matrix, target: number, order: NormOrder): void {
    const { laneNormsFused, laneNormsEmulated, sequenceNorms, doubleNorms, exactNorms } = this.#wasm;
    const lanes = this.kernels.fused ? laneNormsFused : laneNormsEmulated;
    const run = this.#exact ? exactNorms : { lanes, sequence: sequenceNorms, double: doubleNorms }[order];
    run(of.at, target, of.rows, of.cols);
  }

  /** Bytes of one of the sums that `addSquares` keeps. */
  squareBytes(order: NormOrder): number {
    return this.#exact || order === "double" ? 8 : 4;
  }

  /** Adds the squares of each row to one sum a column, row after row. */
  addSquares(sums: number, of: Matrix, order: NormOrder): void {
    const { addSquaresFloats, addSquaresMixed, addSquaresDoubles } = this.#wasm;
    const run = this.#exact ? addSquaresDoubles : order === "double" ? addSquaresMixed : addSquaresFloats;
    run(sums, of.at, of.rows, of.cols);
  }

  roots(sums: number, target: number, count: number, order: NormOrder): void {
    const { rootsFloats, rootsMixed, rootsDoubles } = this.#wasm;
    const run = this.#exact ? rootsDoubles : order === "double" ? rootsMixed : rootsFloats;
    run(sums, target, count);
  }

  /** `map`: position of 32-bit column numbers, one for each column of the target. */
  gather(of: Matrix, target: Matrix, map: number): void {
    const run = this.#exact ? this.#wasm.gatherDoubles : this.#wasm.gatherFloats;
    run(of.at, target.at, map, of.rows, of.cols, target.cols);
  }

  /** Rows from `first` on of a Kronecker product. */
  kron(target: { at: number; rows: number }, left: Matrix, right: Matrix, first: number): void {
    const run = this.#exact ? this.#wasm.kronDoubles : this.#wasm.kronFloats;
    run(target.at, left.at, left.cols, right.at, right.rows, right.cols, first, target.rows);
  }

  /** Bytes of the packed right side of a product. */
  panelBytes(inner: number, cols: number): number {
    return panelBytes(inner, cols) * (this.#exact ? 2 : 1);
  }

  /** Columns of one panel; a panel row takes 64 bytes. */
  get panelColumns(): number {
    return this.#exact ? PANEL_COLUMNS / 2 : PANEL_COLUMNS;
  }

  packRow(source: number, target: number, cols: number, row: { k: number; inner: number }): void {
    const run = this.#exact ? this.#wasm.packDoubles : this.#wasm.packRow;
    run(source, target, cols, row.k, row.inner);
  }

  /** target := left (rows × inner) · panels */
  multiply(
    target: Matrix,
    left: number,
    panels: number,
    { inner, order }: { inner: number; order: SumOrder },
  ): void {
    const { multiply, multiplyEmulated, multiplyUnfused, multiplyDoubles } = this.#wasm;
    const fused = this.kernels.fused ? multiply : multiplyEmulated;
    const run = this.#exact ? multiplyDoubles : order === "fused" ? fused : multiplyUnfused;
    run(target.at, target.rows, target.cols, panels, left, inner);
  }

  /** sums (m × cols) += left (m rows, so many bytes apart) · tile, row after row of the tile. */
  accumulate(
    sums: { at: number; m: number },
    left: { at: number; rowBytes: number },
    tile: Matrix,
    order: SumOrder,
  ): void {
    const { accumulateFused, accumulateEmulated, accumulateUnfused, accumulateDoubles } = this.#wasm;
    const fused = this.kernels.fused ? accumulateFused : accumulateEmulated;
    const run = this.#exact ? accumulateDoubles : order === "fused" ? fused : accumulateUnfused;
    run(sums.at, left.at, left.rowBytes, sums.m, tile.at, tile.rows, tile.cols);
  }

  /** Rows times blocks on a diagonal, transposed, as core's `turn`; `limits`: position of where sums are cut. */
  turn(
    target: Matrix,
    source: number,
    blocks: { panels: number; size: number; blockBytes: number; limits: number },
  ): void {
    const { turnFused, turnEmulated, turnDoubles } = this.#wasm;
    const run = this.#exact ? turnDoubles : this.kernels.fused ? turnFused : turnEmulated;
    const { panels, size, blockBytes, limits } = blocks;
    run(target.at, source, target.rows, target.cols, size, panels, blockBytes, limits);
  }

  /** Rows reflected at directions (doubles), as core's `reflect`; `work`: room for 8 doubles a column. */
  reflect(
    target: Matrix,
    source: number,
    { directions, count, work }: { directions: number; count: number; work: number },
  ): void {
    const run = this.#exact ? this.#wasm.reflectDoubles : this.#wasm.reflectFloats;
    run(target.at, source, target.rows, target.cols, directions, count, work);
  }

  /** A row f·x + g·y, as a product with two terms. */
  pair(
    target: number,
    [f, x]: Term,
    [g, y]: Term,
    { count, order }: { count: number; order: SumOrder },
  ): void {
    const { pairFused, pairEmulated, pairUnfused, pairDoubles } = this.#wasm;
    const fused = this.kernels.fused ? pairFused : pairEmulated;
    const run = this.#exact ? pairDoubles : order === "fused" ? fused : pairUnfused;
    run(target, f, x, g, y, count);
  }
}

/** A factor, and where the row lies that it multiplies. */
type Term = readonly [factor: number, row: number];
