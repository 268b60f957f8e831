import type { ProgramLeaf } from "./pool.ts";

/** Bytes of numbers that a thread keeps from one tensor to the next. */
const MAX_BYTES = 48 * 2 ** 20;

type Numbers = Float32Array | Float64Array;

/**
 * Adapter tensors that several outputs share (all experts of a layer, VeRA's matrices), read and checked once. Only those
 * with a digest are kept, and found by it.
 */
export class LeafCache {
  /** The one used longest ago first. */
  readonly #kept = new Map<string, Numbers>();
  #bytes = 0;

  get(leaf: ProgramLeaf, width: number): Numbers | undefined {
    const key = keyOf(leaf, width);
    const values = this.#kept.get(key);
    if (!values) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, values);
    return values;
  }

  /** @param values must not be changed afterwards */
  put(leaf: ProgramLeaf, width: number, values: Numbers): void {
    if (leaf.digest === undefined || values.byteLength > MAX_BYTES) return;
    this.#kept.set(keyOf(leaf, width), values);
    this.#bytes += values.byteLength;
    for (const [key, oldest] of this.#kept) {
      if (this.#bytes <= MAX_BYTES) break;
      this.#kept.delete(key);
      this.#bytes -= oldest.byteLength;
    }
  }
}

/** @param width bytes of one number */
function keyOf({ path, offset, bytes, dtype, digest }: ProgramLeaf, width: number): string {
  return JSON.stringify([path, offset, bytes, dtype, digest, width]);
}
