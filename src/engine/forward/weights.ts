import { DTYPE_BITS, elementCount, halfTable, isMergeable, type MergeableDtype } from "../../core/dtype.ts";
import { AppError } from "../../core/errors.ts";
import { type OpenFiles, readExact } from "../../storage/tensor-io.ts";
import type { Materialiser } from "../materialise.ts";
import type { StoredTensor, TensorTask } from "../pool.ts";
import type { Scratch } from "./scratch.ts";
import type { LowRankTerm, WeightForm } from "./side.ts";

/** A weight matrix that is read in blocks of stored rows, widened to float32. */
export interface Source {
  /** Sides whose sources have the same key share what is read. */
  readonly key: string;
  readonly rows: number;
  readonly cols: number;
  /** Rows start … stop−1; given back with `done`. */
  read(start: number, stop: number): Float32Array;
  done(block: Float32Array): void;
}

export interface LoadedTerm {
  readonly rank: number;
  /** [rows, rank], the scale included. */
  readonly left: Float32Array;
  /** [rank, cols] */
  readonly right: Float32Array;
}

/** Reads tensors for a forward pass: stored ones from their files, computed ones by their programs. */
export class Weights {
  readonly #files: OpenFiles;
  readonly #materialiser: Materialiser;
  readonly #scratch: Scratch;
  /** Whole tensors that stay, as far as the budget goes: for small models, and for one token after another. */
  readonly #kept = new Map<string, Float32Array>();
  #budget: number;
  #raw = new Uint8Array(0);

  constructor(parts: { files: OpenFiles; materialiser: Materialiser; scratch: Scratch; cacheBytes: number }) {
    this.#files = parts.files;
    this.#materialiser = parts.materialiser;
    this.#scratch = parts.scratch;
    this.#budget = parts.cacheBytes;
  }

  /** A whole tensor, such as a norm's weight; branches are added. */
  whole(form: WeightForm, side: string): Float32Array {
    if (form.kind === "stored")
      return this.#keep(keyOf(form, side), () =>
        this.#stored(form.tensor, 0, elementCount(form.tensor.shape)),
      );
    if (form.kind === "computed") return this.#keep(keyOf(form, side), () => this.#computed(form.task));
    throw new Error(`${form.tensor.path}: a vector has no branches`);
  }

  source(form: WeightForm, side: string): Source {
    const shape = form.kind === "computed" ? form.task.shape : form.tensor.shape;
    if (shape.length !== 2) throw new Error(`a weight of shape [${shape}] is no matrix`);
    const [rows, cols] = shape as [number, number];
    const key = keyOf(form, side);
    let held: Float32Array | null = null;
    let others: Float32Array | null = null;
    const read = (start: number, stop: number) => {
      const kept = this.#kept.get(key) ?? held;
      if (kept) return kept.subarray(start * cols, stop * cols);
      if (form.kind === "computed") {
        held = this.#keep(key, () => this.#computed(form.task));
        return held.subarray(start * cols, stop * cols);
      }
      const all = start === 0 && stop === rows;
      const load = () => {
        const block = this.#stored(form.tensor, start * cols, stop * cols);
        if (form.kind !== "rows") return block;
        others ??= this.#computed(form.values);
        return withRows(block, others, { rows: form.rows, start, stop });
      };
      return all ? this.#keep(key, load) : load();
    };
    return {
      key,
      rows,
      cols,
      read,
      done: (block) => {
        if (!this.#kept.has(key) && held === null) this.#scratch.give(block);
      },
    };
  }

  terms(terms: readonly LowRankTerm[], side: string): LoadedTerm[] {
    return terms.map(({ left, right, scale }) => {
      const [, rank] = left.shape as [number, number];
      return {
        rank,
        left: this.#keep(`${side} left ${left.name} ${scale}`, () => scaledBy(this.#computed(left), scale)),
        right: this.#keep(`${side} right ${right.name}`, () => this.#computed(right)),
      };
    });
  }

  /** Rows of an embedding by their numbers, as a matrix's data. */
  gather(form: WeightForm, side: string, rows: Int32Array): Float32Array {
    const source = this.source(form, side);
    const { cols } = source;
    const found = new Float32Array(rows.length * cols);
    rows.forEach((row, i) => {
      if (row < 0 || row >= source.rows) {
        throw new AppError(
          "TOKEN_OUT_OF_RANGE",
          `token id ${row} has no row in an embedding of ${source.rows} rows: the tokenizer or the ids belong to another model.`,
        );
      }
      const block = source.read(row, row + 1);
      found.set(block, i * cols);
      source.done(block);
    });
    return found;
  }

  #keep(key: string, load: () => Float32Array): Float32Array {
    const kept = this.#kept.get(key);
    if (kept) return kept;
    const values = load();
    if (values.byteLength <= this.#budget) {
      this.#budget -= values.byteLength;
      this.#kept.set(key, values);
    }
    return values;
  }

  #computed(task: TensorTask): Float32Array {
    const bytes = this.#materialiser.value(task);
    if (task.dtype === "F32") return new Float32Array(bytes.buffer);
    return widened(task.dtype as MergeableDtype, bytes, new Float32Array(elementCount(task.shape)));
  }

  #stored({ path, offset, dtype, shape }: StoredTensor, start: number, stop: number): Float32Array {
    if (!isMergeable(dtype)) {
      throw new AppError(
        "UNSUPPORTED_DTYPE",
        `${path} holds a tensor of shape [${shape}] as ${dtype}: a forward pass reads BF16, F16 and F32.`,
      );
    }
    const width = DTYPE_BITS[dtype] / 8;
    const into = this.#scratch.take(stop - start);
    const fd = this.#files.reading(path);
    const size = (stop - start) * width;
    if (dtype === "F32") {
      readExact(fd, path, new Uint8Array(into.buffer, into.byteOffset, size), offset + start * width);
      return into;
    }
    if (this.#raw.byteLength < size) this.#raw = new Uint8Array(size);
    const raw = this.#raw.subarray(0, size);
    readExact(fd, path, raw, offset + start * width);
    return widened(dtype, raw, into);
  }
}

/** Puts rows that are others into a block of the stored rows start … stop−1; the last one of a row wins. */
function withRows(
  block: Float32Array,
  others: Float32Array,
  { rows, start, stop }: { rows: readonly number[]; start: number; stop: number },
): Float32Array {
  const cols = block.length / (stop - start);
  rows.forEach((row, i) => {
    if (row >= start && row < stop)
      block.set(others.subarray(i * cols, (i + 1) * cols), (row - start) * cols);
  });
  return block;
}

function keyOf(form: WeightForm, side: string): string {
  if (form.kind === "computed") return `${side} computed ${form.task.name}`;
  if (form.kind === "rows") return `${side} rows of ${form.tensor.path} ${form.tensor.offset}`;
  return `${form.tensor.path} ${form.tensor.offset}`;
}

function scaledBy(values: Float32Array, scale: number): Float32Array {
  const by = Math.fround(scale);
  for (let i = 0; i < values.length; i++) values[i]! *= by;
  return values;
}

function widened(
  dtype: MergeableDtype,
  raw: Uint8Array<ArrayBuffer>,
  into: Float32Array<ArrayBuffer>,
): Float32Array {
  const count = into.length;
  if (dtype === "F32") return new Float32Array(raw.buffer, raw.byteOffset, count);
  const bits = new Uint16Array(raw.buffer, raw.byteOffset, count);
  if (dtype === "BF16") {
    // The upper half of a float32.
    const words = new Uint32Array(into.buffer, into.byteOffset, count);
    for (let i = 0; i < count; i++) words[i] = bits[i]! << 16;
    return into;
  }
  const table = halfTable();
  for (let i = 0; i < count; i++) into[i] = table[bits[i]!]!;
  return into;
}
