import { type Matrix, matrix } from "./matrix.ts";

interface Place {
  readonly side: number;
  readonly layer: number;
  readonly document: number;
}

interface Entry {
  keys: Float32Array;
  values: Float32Array;
  rows: number;
}

/** Keys and values of the tokens that ran before, for generation. */
export class KeyValueCache {
  readonly #entries = new Map<string, Entry>();

  /** Adds those of new tokens and gives all of them, [tokens so far, kvHeads·width]. */
  append({ side, layer, document }: Place, { keys, values }: { keys: Matrix; values: Matrix }) {
    const key = `${side} ${layer} ${document}`;
    const { cols } = keys;
    const entry = this.#entries.get(key) ?? {
      keys: new Float32Array(0),
      values: new Float32Array(0),
      rows: 0,
    };
    this.#entries.set(key, entry);
    const at = entry.rows * cols;
    if (at + keys.data.length > entry.keys.length) {
      // Twice as much as is needed now: most steps then only write.
      const size = 2 * (at + keys.data.length);
      entry.keys = grown(entry.keys.subarray(0, at), size);
      entry.values = grown(entry.values.subarray(0, at), size);
    }
    entry.keys.set(keys.data, at);
    entry.values.set(values.data, at);
    entry.rows += keys.rows;
    const used = entry.rows * cols;
    return {
      keys: matrix(entry.rows, cols, entry.keys.subarray(0, used)),
      values: matrix(entry.rows, cols, entry.values.subarray(0, used)),
    };
  }
}

function grown(old: Float32Array, size: number): Float32Array {
  const made = new Float32Array(size);
  made.set(old);
  return made;
}
