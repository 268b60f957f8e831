import { type Distance, ulpAt } from "../core/devices.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { bitsToNumber } from "../core/numerics.ts";
import { type OpenFiles, readExact, type WriteAt } from "../storage/tensor-io.ts";
import type { TensorTask } from "./pool.ts";

type Words = Uint16Array | Uint32Array;

/**
 * Takes the place of a disk while a tensor is computed in the canonical arithmetic: what would be written is compared
 * with what another device has written there. Each element's difference is measured in units in the last place at the
 * larger of |W| and |W′|, so that a small sum of large parts is held to what the parts allow.
 */
export class Nearness {
  readonly #task: TensorTask;
  readonly #dtype: MergeableDtype;
  readonly #files: OpenFiles;
  readonly #width: number;
  #differing = 0;
  #maxUlp = 0;
  #changed = 0;
  #elements = 0;

  /** @param files for the task's input, which stays open */
  constructor(task: TensorTask, files: OpenFiles) {
    if (!isMergeable(task.dtype))
      throw new Error(`${task.name}: ${task.dtype} is compared by its digest only`);
    this.#task = task;
    this.#dtype = task.dtype;
    this.#files = files;
    this.#width = DTYPE_BITS[task.dtype] / 8;
  }

  readonly write: WriteAt = (fd, bytes, position) => {
    const { path, offset } = this.#task.output!;
    const written = new Uint8Array(bytes.byteLength);
    readExact(fd, path, written, position);
    const start = (position - offset) / this.#width;
    const [canonical, found] = [this.#words(bytes), this.#words(written)];
    const before = this.#input(start, found.length);
    for (let i = 0; i < found.length; i++) {
      if (before?.bits?.[i] !== found[i]) this.#changed++;
      if (canonical[i] === found[i]) continue;
      this.#differing++;
      this.#maxUlp = Math.max(this.#maxUlp, this.#ulps(canonical[i]!, found[i]!, before?.value(i) ?? 0));
    }
    this.#elements += found.length;
    return bytes.byteLength;
  };

  /** `changed`: elements that the device left with other bits than the input's. */
  get found(): Distance & { readonly changed: number } {
    return {
      differing: this.#differing,
      elements: this.#elements,
      maxUlp: this.#maxUlp,
      changed: this.#changed,
    };
  }

  #ulps(canonical: number, found: number, before: number): number {
    const [expected, actual] = [bitsToNumber(this.#dtype, canonical), bitsToNumber(this.#dtype, found)];
    // Two zeros of other sign, and two NaN of other bits.
    if (Object.is(expected, actual) || expected === actual) return 0;
    const distance = Math.abs(expected - actual);
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
    const words = width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer);
    return { bits: from === dtype ? words : null, value: (i: number) => bitsToNumber(from, words[i]!) };
  }

  #words(bytes: Uint8Array): Words {
    const aligned = bytes.byteOffset % this.#width === 0 ? bytes : bytes.slice();
    const { buffer, byteOffset, byteLength } = aligned;
    return this.#width === 2
      ? new Uint16Array(buffer, byteOffset, byteLength / 2)
      : new Uint32Array(buffer, byteOffset, byteLength / 4);
  }
}
