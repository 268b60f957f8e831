import { type Distance, ulpAt } from "../core/devices.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { bitsToNumber } from "../core/numerics.ts";
import { type OpenFiles, readExact } from "../storage/tensor-io.ts";
import type { TensorTask } from "./pool.ts";

type Words = Uint16Array | Uint32Array;

/** What came out of comparing a tensor that a device computed with its canonical value. */
export interface Nearness extends Distance {
  /** Elements that the device left with other bits than the input's. */
  readonly changed: number;
  /**
   * How much of the canonical change is in the computed one: ⟨M−W, C−W⟩ / ‖C−W‖². 1 where it is all there, 0 where
   * nothing was changed, 2 where it was applied twice; null without a change or an input to compare with, and where
   * nobody asked.
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

  readonly #projects: boolean;

  /** @param files for the task's input, which is read again; @param projects whether to find out the projection */
  constructor(task: TensorTask, files: OpenFiles, { projects = false } = {}) {
    if (!isMergeable(task.dtype))
      throw new Error(`${task.name}: ${task.dtype} is compared by its digest only`);
    this.#task = task;
    this.#dtype = task.dtype;
    this.#files = files;
    this.#projects = projects;
  }

  /** Stored bytes of the same elements, from `start` (in elements) on. */
  compare(canonical: Uint8Array, computed: Uint8Array, start: number): void {
    const [expected, found] = [wordsOf(this.#dtype, canonical), wordsOf(this.#dtype, computed)];
    const before = this.#input(start, found.length);
    const same = before && before.dtype === this.#dtype ? before.words : null;
    this.#changed += same ? differing(same, found) : found.length;
    if (this.#projects && before) this.#project(before, expected, found);
    this.#elements += found.length;
    for (let i = 0; i < found.length; i++) {
      if (expected[i] === found[i]) continue;
      this.#differing++;
      const was = before ? storedValue(before.dtype, before.words[i]!) : 0;
      this.#maxUlp = Math.max(this.#maxUlp, this.#ulps(expected[i]!, found[i]!, was));
    }
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

  #project(before: { words: Words; dtype: MergeableDtype }, expected: Words, found: Words): void {
    for (let i = 0; i < found.length; i++) {
      const was = storedValue(before.dtype, before.words[i]!);
      const change = storedValue(this.#dtype, expected[i]!) - was;
      if (change === 0) continue;
      this.#together += change * (storedValue(this.#dtype, found[i]!) - was);
      this.#squares += change * change;
    }
  }

  #ulps(canonical: number, computed: number, before: number): number {
    const [expected, found] = [storedValue(this.#dtype, canonical), storedValue(this.#dtype, computed)];
    // Two zeros of other sign, and two NaN of other bits.
    if (expected === found || Object.is(expected, found)) return 0;
    const distance = Math.abs(expected - found);
    if (!Number.isFinite(distance)) return Number.POSITIVE_INFINITY;
    const at = Math.max(Math.abs(expected), Number.isFinite(before) ? Math.abs(before) : 0);
    return distance / ulpAt(this.#dtype, at);
  }

  /** The input's elements at the same positions; null where it has another number of them. */
  #input(start: number, count: number) {
    const { input, shape } = this.#task;
    if (!input || !isMergeable(input.dtype) || elementCount(input.shape) !== elementCount(shape)) return null;
    const from = input.dtype;
    const width = DTYPE_BITS[from] / 8;
    const bytes = new Uint8Array(count * width);
    readExact(this.#files.reading(input.path), input.path, bytes, input.offset + start * width);
    return { words: wordsOf(from, bytes), dtype: from };
  }
}

function differing(left: Words, right: Words): number {
  let count = 0;
  for (let i = 0; i < right.length; i++) if (left[i] !== right[i]) count++;
  return count;
}

/** Values of all bit patterns of the types that have few. */
const VALUES: Partial<Record<MergeableDtype, Float64Array>> = {};

function storedValue(dtype: MergeableDtype, bits: number): number {
  if (dtype === "F32") return bitsToNumber(dtype, bits);
  VALUES[dtype] ??= Float64Array.from({ length: 65_536 }, (_, i) => bitsToNumber(dtype, i));
  return VALUES[dtype][bits]!;
}

function wordsOf(dtype: MergeableDtype, bytes: Uint8Array): Words {
  const width = DTYPE_BITS[dtype] / 8;
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  return width === 2
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Uint32Array(buffer, byteOffset, byteLength / 4);
}
