/** Free memory that is kept for the next use. */
const MAX_FREE_BYTES = 256 * 2 ** 20;

/**
 * Float32 buffers that are used again and again: fresh ones of tens of megabytes, layer after layer, would wait for the
 * garbage collector.
 */
export class Scratch {
  readonly #free = new Map<number, Float32Array<ArrayBuffer>[]>();
  #bytes = 0;

  /** What lies in it is left from its last use. */
  take(length: number): Float32Array<ArrayBuffer> {
    const found = this.#free.get(length)?.pop();
    if (!found) return new Float32Array(length);
    this.#bytes -= found.byteLength;
    return found;
  }

  /** Only what `take` gave, and only once: whole buffers. */
  give(buffer: Float32Array): void {
    if (buffer.byteLength !== buffer.buffer.byteLength || buffer.byteLength > MAX_FREE_BYTES) return;
    // Other sizes than those needed now would stay for ever.
    if (this.#bytes + buffer.byteLength > MAX_FREE_BYTES) this.clear();
    this.#bytes += buffer.byteLength;
    const list = this.#free.get(buffer.length) ?? [];
    list.push(buffer as Float32Array<ArrayBuffer>);
    this.#free.set(buffer.length, list);
  }

  clear(): void {
    this.#free.clear();
    this.#bytes = 0;
  }
}
