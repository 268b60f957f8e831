/** Bytes that live somewhere: a file, a blob store, the Hub, memory. Parsers do not know where. */
export interface ByteSource {
  /** What to call it in an error message, e.g. `model-00001-of-00002.safetensors`. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Bytes `start` (inclusive) to `end` (exclusive). Throws BAD_FILE when the source is shorter than it said. */
  read(start: number, end: number): Promise<Uint8Array>;
}

/** A source over bytes in memory that counts what was read, so that "streams, does not slurp" can be a test. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly size: number;
  bytesRead = 0;
  readonly #bytes: Uint8Array;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.size = bytes.byteLength;
    this.#bytes = bytes;
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    this.bytesRead += end - start;
    return this.#bytes.subarray(start, end);
  }
}
