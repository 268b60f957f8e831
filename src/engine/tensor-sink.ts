import { createHash } from "node:crypto";
import type { TensorStats } from "../core/checkpoint.ts";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { type OpenFiles, readExact } from "../storage/tensor-io.ts";
import { type Nearness, NearnessMeter } from "./nearness.ts";
import type { TensorTask } from "./pool.ts";
import type { TileFiles } from "./tile-files.ts";

/** A tensor that a device computed, as it was written. */
export interface WrittenTensor {
  readonly digest: string;
  readonly stats: TensorStats;
  /** How near it is to what stood there before; null where that was not asked for. */
  readonly near: Nearness | null;
}

/** Takes the values of one tensor in the order of its elements: rounds, compares, hashes and writes them. */
export class TensorSink {
  readonly #dtype: MergeableDtype;
  readonly #output: { readonly path: string; readonly offset: number };
  readonly #elements: number;
  readonly #files: TileFiles;
  readonly #hash = createHash("sha256");
  readonly #meter: NearnessMeter | null;
  readonly #open: OpenFiles;
  #absmax = 0;
  #squares = 0;
  #finite = 0;

  /** @param compare the output holds the canonical value: it is compared before it is overwritten */
  constructor(
    task: TensorTask,
    { files, open, compare }: { files: TileFiles; open: OpenFiles; compare: boolean },
  ) {
    const { dtype, output, name } = task;
    if (!isMergeable(dtype) || !output) throw new Error(`${name} cannot be written`);
    this.#dtype = dtype;
    this.#output = output;
    this.#elements = elementCount(task.shape);
    this.#files = files;
    this.#open = open;
    this.#meter = compare ? new NearnessMeter(task, open) : null;
  }

  /** @throws DISK_FULL, BAD_FILE */
  write(start: number, values: Float32Array): void {
    const { path, offset } = this.#output;
    const width = DTYPE_BITS[this.#dtype] / 8;
    this.#files.write({ dtype: this.#dtype, output: this.#output, start }, values, (stored, at, stats) => {
      this.#absmax = Math.max(this.#absmax, stats.absmax);
      this.#squares += stats.squares;
      this.#finite += stats.finite;
      this.#hash.update(stored);
      if (!this.#meter) return;
      const canonical = new Uint8Array(stored.byteLength);
      readExact(this.#open.reading(path), path, canonical, offset + at * width);
      this.#meter.compare(canonical, stored, at);
    });
  }

  /** Once every value was written. */
  finish(): WrittenTensor {
    const nonFinite = this.#elements - this.#finite;
    const some = this.#finite > 0;
    const stats = {
      absmax: some ? this.#absmax : null,
      rms: some ? Math.sqrt(this.#squares / this.#finite) : null,
      nonFinite,
    };
    return { digest: `sha256:${this.#hash.digest("hex")}`, stats, near: this.#meter?.found ?? null };
  }
}
