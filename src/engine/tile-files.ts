import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype, widen } from "../core/dtype.ts";
import { OpenFiles, readExact, type WriteAt, writeExact } from "../storage/tensor-io.ts";
import { HEAP_START, type Kernels, type TileStats } from "./kernels.ts";
import type { ProgramLeaf } from "./pool.ts";

/** Elements that pass through WASM memory at once. */
const CHUNK = 2 ** 18;
const STORED_AT = HEAP_START;
const FLOATS_AT = STORED_AT + CHUNK * 4;

/** Elements `start` … `start + count - 1` of a stored tensor. */
export interface Load {
  readonly leaf: ProgramLeaf;
  readonly start: number;
  readonly count: number;
}

export interface Store {
  readonly dtype: MergeableDtype;
  readonly output: { readonly path: string; readonly offset: number };
  /** Position of the first value in the tensor, in elements. */
  readonly start: number;
}

/** Tensors in files ↔ float32 arrays, through the kernels: exact on the way in, rounded once on the way out. */
export class TileFiles {
  readonly #kernels: Kernels;
  readonly #files = new OpenFiles();
  readonly #write: WriteAt | undefined;

  /** @param write a writer that a test made to fail */
  constructor(kernels: Kernels, write?: WriteAt) {
    this.#kernels = kernels;
    this.#write = write;
    kernels.reserve(FLOATS_AT + CHUNK * 4);
  }

  /** @throws BAD_FILE, NOT_FOUND, NOT_READABLE */
  read({ leaf, start, count }: Load, into: Float32Array): void {
    const { dtype } = leaf;
    const width = DTYPE_BITS[dtype] / 8;
    if (!Number.isInteger(width) || leaf.bytes !== elementCount(leaf.shape) * width) {
      throw new Error(`${leaf.key}: ${leaf.bytes} bytes are not ${dtype} [${leaf.shape}]`);
    }
    const fd = this.#files.reading(leaf.path);
    for (let done = 0; done < count; done += CHUNK) {
      const elements = Math.min(CHUNK, count - done);
      const position = leaf.offset + (start + done) * width;
      if (isMergeable(dtype)) {
        readExact(fd, leaf.path, this.#kernels.bytes(STORED_AT, elements * width), position);
        this.#kernels.widen(dtype, STORED_AT, FLOATS_AT, elements);
        into.set(this.#floats(elements), done);
      } else {
        const bytes = new Uint8Array(elements * width);
        readExact(fd, leaf.path, bytes, position);
        into.set(widen(dtype, bytes), done);
      }
    }
  }

  /**
   * Rounds values to a storage type and writes them.
   * @param each told of every piece before it is written: its bytes (valid during the call), and its first element
   * @throws DISK_FULL
   */
  write(
    { dtype, output, start }: Store,
    values: Float32Array,
    each: (stored: Uint8Array, start: number, stats: TileStats) => void,
  ): void {
    const width = DTYPE_BITS[dtype] / 8;
    const file = { fd: this.#files.writing(output.path), path: output.path, write: this.#write };
    this.#eachRounded(dtype, values, (done, elements) => {
      const stored = this.#kernels.bytes(STORED_AT, elements * width);
      each(stored, start + done, this.#kernels.stats(dtype, STORED_AT, elements));
      writeExact(file, stored, output.offset + (start + done) * width);
    });
  }

  /** Rounds values to a storage type, and widens them again, in place. */
  round(dtype: MergeableDtype, values: Float32Array): void {
    this.#eachRounded(dtype, values, (done, elements) => {
      this.#kernels.widen(dtype, STORED_AT, FLOATS_AT, elements);
      values.set(this.#floats(elements), done);
    });
  }

  close(): void {
    this.#files.closeAll();
  }

  #eachRounded(
    dtype: MergeableDtype,
    values: Float32Array,
    each: (done: number, elements: number) => void,
  ): void {
    for (let done = 0; done < values.length; done += CHUNK) {
      const elements = Math.min(CHUNK, values.length - done);
      this.#floats(elements).set(values.subarray(done, done + elements));
      this.#kernels.round(dtype, FLOATS_AT, STORED_AT, elements);
      each(done, elements);
    }
  }

  #floats(elements: number): Float32Array {
    const { buffer, byteOffset } = this.#kernels.bytes(FLOATS_AT, elements * 4);
    return new Float32Array(buffer, byteOffset, elements);
  }
}
