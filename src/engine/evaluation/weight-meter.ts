import { DTYPE_BITS, type MergeableDtype } from "../../core/dtype.ts";
import type { TensorDistance, WeightSums } from "../../core/evaluation/retention.ts";
import { HEAP_START, Kernels } from "../kernels.ts";

/** Elements that are measured at once: three of them as floats stay in the second-level cache. */
export const CHUNK = 32_768;

/** Where the sums of one call lie, and after them three lots of floats and the stored bytes that become floats. */
const OUT_AT = HEAP_START;
const LOTS_AT = HEAP_START + 128;
const LOT_BYTES = CHUNK * 4;
const RAW_AT = LOTS_AT + 3 * LOT_BYTES;

/** Unit in the last place of 1, and the smallest normal number as the bits of a float. */
const GRIDS: Readonly<Record<MergeableDtype, { place: number; least: number }>> = {
  BF16: { place: 2 ** -7, least: 0x00800000 },
  F16: { place: 2 ** -10, least: 0x38800000 },
  F32: { place: 2 ** -23, least: 0x00800000 },
};

/**
 * Sixteen units in the last place of a float32 as large as what is summed is on average: so much sums err in any order,
 * and where W and W′ are both far smaller than that, a unit of theirs says nothing.
 */
const SUM_ERROR = 2 ** -19;

/** One of the three inputs of a measurement. */
export type Lot = 0 | 1 | 2;

/** Measures stored weights, a chunk at a time, in memory of its own. Not shared between threads. */
export class WeightMeter {
  readonly #kernels: Kernels;
  #distance = { differing: 0, far: 0, maxUlp: 0 };
  #sums = new Float64Array(11);

  constructor(module: WebAssembly.Module) {
    this.#kernels = new Kernels(module);
    this.#kernels.reserve(RAW_AT + LOT_BYTES);
  }

  /** Begins another tensor. */
  start(): void {
    this.#distance = { differing: 0, far: 0, maxUlp: 0 };
    this.#sums.fill(0);
  }

  /** At most CHUNK stored elements become one of the inputs. */
  put(lot: Lot, dtype: MergeableDtype, bytes: Uint8Array): void {
    this.#kernels.bytes(RAW_AT, bytes.byteLength).set(bytes);
    this.#kernels.widen(dtype, RAW_AT, place(lot), bytes.byteLength / (DTYPE_BITS[dtype] / 8));
  }

  /** Zeros become one of the inputs. */
  clear(lot: Lot): void {
    this.#kernels.bytes(place(lot), LOT_BYTES).fill(0);
  }

  /** Lot 1 becomes the sum of the others, as the type stores it. */
  roundSum(dtype: MergeableDtype, elements: number): void {
    const { wasm } = this.#kernels;
    const row = elements * 4;
    wasm.addFloats(place(1), place(0), row, 1, place(2), row, 1, 1, elements);
    if (dtype === "BF16") wasm.throughBf16(place(1), place(1), elements);
    else if (dtype === "F16") wasm.throughF16(place(1), place(1), elements);
  }

  /** Finite elements among stored ones. */
  finite(dtype: MergeableDtype, bytes: Uint8Array): { finite: number; squares: number } {
    this.#kernels.bytes(RAW_AT, bytes.byteLength).set(bytes);
    return this.#kernels.stats(dtype, RAW_AT, bytes.byteLength / (DTYPE_BITS[dtype] / 8));
  }

  /**
   * Lot 0: base weights, lot 1: what is stored as `dtype`, lot 2: what should be.
   * @param summedRms root mean square of what is summed: the exact change, and the base where the change rotates it
   */
  addDistances(dtype: MergeableDtype, elements: number, summedRms: number): void {
    const { place: unit, least } = GRIDS[dtype];
    const out = this.#out();
    const floor = SUM_ERROR * summedRms;
    this.#kernels.wasm.distances(place(2), place(1), place(0), elements, OUT_AT, unit, least, floor);
    this.#distance.differing += out[0]!;
    this.#distance.far += out[1]!;
    this.#distance.maxUlp = Math.max(this.#distance.maxUlp, out[2]!);
  }

  /** Lot 0: base weights, lot 1: what is stored as `dtype`, lot 2: the exact change. */
  addSums(dtype: MergeableDtype, elements: number): void {
    const out = this.#out();
    const { wasm } = this.#kernels;
    const measure = dtype === "BF16" ? wasm.measureBf16 : dtype === "F16" ? wasm.measureF16 : wasm.measureF32;
    measure(place(0), place(1), place(2), elements, OUT_AT);
    for (const [i, value] of out.entries()) {
      if (i === MAX_ERROR) this.#sums[i] = Math.max(this.#sums[i]!, value);
      else this.#sums[i]! += value;
    }
  }

  get distance(): TensorDistance {
    return { ...this.#distance };
  }

  get sums(): WeightSums {
    const [
      weight,
      delta,
      stored,
      together,
      error,
      rightTogether,
      rightError,
      maxError,
      finite,
      moved,
      rightMoved,
    ] = this.#sums as unknown as readonly number[] & Record<number, number>;
    return {
      weight: weight!,
      delta: delta!,
      stored: stored!,
      together: together!,
      error: error!,
      rightTogether: rightTogether!,
      rightError: rightError!,
      maxError: maxError!,
      finite: finite!,
      moved: moved!,
      rightMoved: rightMoved!,
    };
  }

  /** The doubles that a kernel adds to, all zero. */
  #out(): Float64Array {
    const bytes = this.#kernels.bytes(OUT_AT, 88);
    bytes.fill(0);
    return new Float64Array(bytes.buffer, OUT_AT, 11);
  }
}

/** Position of the maximum among the sums. */
const MAX_ERROR = 7;

const place = (lot: Lot) => LOTS_AT + lot * LOT_BYTES;
