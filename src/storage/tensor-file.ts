import { type FileHandle, open, rename } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { byteLength, type Dtype } from "../core/dtype.ts";
import { buildSafetensorsHeader } from "../core/safetensors.ts";
import { discardAbandoned, stagingBeside } from "./beside.ts";
import { fileError } from "./file.ts";
import { makeFolders } from "./make-folders.ts";
import { createShard, discard, exists, outputExists, requireFreeDisk } from "./staging.ts";

export interface PlannedTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** @throws OUTPUT_EXISTS, so that a long run does not find out at its end */
export async function requireNew(output: string): Promise<void> {
  if (await exists(resolve(output))) throw outputExists(resolve(output));
}

/**
 * A safetensors file whose tensors are known by name and shape before their values are: it is written piece by piece, in
 * any order, and appears under its name when it is complete. What is never written is zero.
 */
export class TensorFile {
  /** Bytes of the whole file. */
  readonly size: number;
  readonly #output: string;
  readonly #staging: string;
  readonly #handle: FileHandle;
  /** First byte and one past the last, by name. */
  readonly #places: ReadonlyMap<string, readonly [number, number]>;

  private constructor(opened: Opened) {
    this.size = opened.size;
    this.#output = opened.output;
    this.#staging = opened.staging;
    this.#handle = opened.handle;
    this.#places = opened.places;
  }

  /** @throws OUTPUT_EXISTS, NOT_ENOUGH_DISK before a byte is written, DISK_FULL, … */
  static async create(
    path: string,
    tensors: readonly PlannedTensor[],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<TensorFile> {
    const output = resolve(path);
    await requireNew(output);
    let at = 0;
    const placed = tensors.map((tensor) => {
      const bytes = byteLength(tensor.dtype, tensor.shape);
      if (bytes === null) throw new Error(`${tensor.name} has no whole number of bytes`);
      at += bytes;
      return { ...tensor, begin: at - bytes, end: at };
    });
    const header = buildSafetensorsHeader(metadata, placed);
    const size = header.byteLength + at;
    await makeFolders(dirname(output)).catch((error) => {
      throw fileError(error, dirname(output));
    });
    await discardAbandoned(output);
    await requireFreeDisk(dirname(output), size);
    const staging = await stagingBeside(output);
    await createShard(staging, header, size);
    const handle = await open(staging, "r+").catch((error) => {
      throw fileError(error, staging);
    });
    const places = new Map(
      placed.map(({ name, begin, end }) => [name, [header.byteLength + begin, header.byteLength + end]]),
    ) as ReadonlyMap<string, readonly [number, number]>;
    return new TensorFile({ size, output, staging, handle, places });
  }

  /** Writes bytes of a tensor, from byte `at` of it on. */
  async write(name: string, at: number, bytes: ArrayBufferView): Promise<void> {
    const [begin, end] = this.#places.get(name) ?? [0, -1];
    if (at < 0 || begin + at + bytes.byteLength > end) {
      throw new Error(`${name} of ${basename(this.#output)} has no place for bytes from ${at} on`);
    }
    const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let done = 0; done < view.byteLength; ) {
      const left = view.byteLength - done;
      const written = await this.#handle.write(view, done, left, begin + at + done).catch((error) => {
        throw fileError(error, this.#output);
      });
      done += written.bytesWritten;
    }
  }

  /** Makes the file visible, safely on the disk. @throws OUTPUT_EXISTS where somebody made one of its name meanwhile */
  async publish(): Promise<void> {
    await this.#handle.sync().catch((error) => {
      throw fileError(error, this.#output);
    });
    await requireNew(this.#output);
    await rename(this.#staging, this.#output).catch((error) => {
      throw fileError(error, this.#output);
    });
  }

  /** Closes the file, and removes it where it was not published. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
    await discard(this.#staging);
  }
}

interface Opened {
  readonly size: number;
  readonly output: string;
  readonly staging: string;
  readonly handle: FileHandle;
  readonly places: ReadonlyMap<string, readonly [number, number]>;
}
