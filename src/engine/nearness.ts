import { type Distance, ulpAt } from "../core/devices.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { bitsToNumber } from "../core/numerics.ts";
import { type OpenFiles, readExact } from "../storage/tensor-io.ts";
import type { TensorTask } from "./pool.ts";

/** What came out of comparing a tensor that a device computed with its canonical value. */
export interface Nearness extends Distance {
  /** Elements that the device left with other bits than the input's. */
  readonly changed: number;
  /**
   * How much of the canonical change is in the computed one: ⟨M−W, C−W⟩ / ‖C−W‖². 1 where it is all there, 0 where
   * nothing was changed, 2 where it was applied twice; null without a change or an input to compare with.
   */
  readonly projection: number | null;
}

/**
 * Compares what a device computed with the canonical value, element by element. A difference is measured in units in
 * the last place at the larger of |W| and |W′|, so that a small sum of large parts is held to what its parts allow.
 */
export class NearnessMeter {
  readonly #task: TensorTask;
  readonly #dtype: MergeableDtype;
  readonly #files: OpenFiles;
  #differing = 0;
  #maxUlp = 0;
  #changed = 0;
  #elements = 0;
  #together = 0;
  #squares = 0;

  /** @param files for the task's input */
  constructor(task: TensorTask, files: OpenFiles) {
    if (!isMergeable(task.dtype))
      throw new Error(`${task.name}: ${task.dtype} is compared by its digest only`);
    this.#task = task;
    this.#dtype = task.dtype;
    this.#files = files;
  }

  /** Stored bytes of the same elements, from `start` (in elements) on. */
  compare(canonical: Uint8Array, computed: Uint8Array, start: number): void {
    const [expected, found] = [wordsOf(this.#dtype, canonical), wordsOf(this.#dtype, computed)];
    const before = this.#input(start, found.length);
    for (let i = 0; i < found.length; i++) {
      if (before?.bits?.[i] !== found[i]) this.#changed++;
      if (before) this.#project(before.value(i), expected[i]!, found[i]!);
      if (expected[i] === found[i]) continue;
      this.#differing++;
      this.#maxUlp = Math.max(this.#maxUlp, this.#ulps(expected[i]!, found[i]!, before?.value(i) ?? 0));
    }
    this.#elements += found.length;
  }

  get found(): Nearness {
    return {
      differing: this.#differing,
      elements: this.#elements,
      maxUlp: this.#maxUlp,
      changed: this.#changed,
      projection: this.#squares > 0 ? this.#together / this.#squares : null,
    };
  }

  #project(before: number, canonical: number, computed: number): void {
    const change = bitsToNumber(this.#dtype, canonical) - before;
    if (change === 0) return;
    this.#together += change * (bitsToNumber(this.#dtype, computed) - before);
    this.#squares += change * change;
  }

  #ulps(canonical: number, computed: number, before: number): number {
    const [expected, found] = [bitsToNumber(this.#dtype, canonical), bitsToNumber(this.#dtype, computed)];
    // Two zeros of other sign, and two NaN of other bits.
    if (expected === found || Object.is(expected, found)) return 0;
    const distance = Math.abs(expected - found);
    if (!Number.isFinite(distance)) return Number.POSITIVE_INFINITY;
    const at = Math.max(Math.abs(expected), Number.isFinite(before) ? Math.abs(before) : 0);
    return distance / ulpAt(this.#dtype, at);
  }

  /** The input's elements at the same positions; null where it has another number of them. */
  #input(start: number, count: number) {
    const { input, shape, dtype } = this.#task;
    if (!input || !isMergeable(input.dtype) || elementCount(input.shape) !== elementCount(shape)) return null;
    const from = input.dtype;
    const width = DTYPE_BITS[from] / 8;
    const bytes = new Uint8Array(count * width);
    readExact(this.#files.reading(input.path), input.path, bytes, input.offset + start * width);
    const words = wordsOf(from, bytes);
    return { bits: from === dtype ? words : null, value: (i: number) => bitsToNumber(from, words[i]!) };
  }
}

function wordsOf(dtype: MergeableDtype, bytes: Uint8Array): Uint16Array | Uint32Array {
  const width = DTYPE_BITS[dtype] / 8;
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  return width === 2
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Uint32Array(buffer, byteOffset, byteLength / 4);
}
