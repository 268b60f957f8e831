import { ropeTable } from "../../core/decoder/rope.ts";
import type { ModelSpec } from "../../core/decoder/spec.ts";
import { type Matrix, matrix } from "./matrix.ts";
import type { Angles } from "./ops.ts";

/** Tokens of one document that run now, at rows begin … end−1 of the batch. */
export interface Sequence {
  readonly begin: number;
  readonly end: number;
  /** How many tokens of it ran before. */
  readonly offset: number;
}

/**
 * Documents of different lengths, one after another without padding: linear layers see one tall matrix, attention each
 * document alone.
 */
export class Batch {
  readonly sequences: readonly Sequence[];
  /** Position of every token in its document. */
  readonly positions: Int32Array;
  readonly #ids: readonly Int32Array[];
  readonly #angles = new Map<number, Angles>();
  readonly #masks = new Map<string, Matrix>();

  /**
   * @param documents the tokens of all sides; or a list for each side, of the same lengths
   * @param offsets tokens of each document that ran before; default: none
   */
  constructor(documents: readonly Int32Array[] | readonly Int32Array[][], offsets?: readonly number[]) {
    const sides = (Array.isArray(documents[0]) ? documents : [documents]) as readonly Int32Array[][];
    this.#ids = sides.map(concatenated);
    this.positions = new Int32Array(this.#ids[0]!.length);
    let begin = 0;
    this.sequences = sides[0]!.map((ids, i) => {
      const offset = offsets?.[i] ?? 0;
      for (let j = 0; j < ids.length; j++) this.positions[begin + j] = offset + j;
      const sequence = { begin, end: begin + ids.length, offset };
      begin = sequence.end;
      return sequence;
    });
  }

  /** Token ids that a side runs. */
  ids(side: number): Int32Array {
    return this.#ids[side] ?? this.#ids[0]!;
  }

  /** Rows that the first so many documents take. */
  rows(documents: number): number {
    return documents === 0 ? 0 : this.sequences[documents - 1]!.end;
  }

  /** Angles of every token for one of the model's tables; some types depend on the length of the document so far. */
  angles(spec: ModelSpec, table: number): Angles {
    const known = this.#angles.get(table);
    if (known) return known;
    const rope = spec.ropes[table]!;
    const half = rope.dims / 2;
    const cos = new Float32Array(this.positions.length * half);
    const sin = new Float32Array(this.positions.length * half);
    for (const { begin, end, offset } of this.sequences) {
      const part = ropeTable(rope, {
        positions: this.positions.subarray(begin, end),
        length: offset + end - begin,
      });
      cos.set(part.cos, begin * half);
      sin.set(part.sin, begin * half);
    }
    const angles = { cos, sin };
    this.#angles.set(table, angles);
    return angles;
  }

  /** 0 where a query at position `first` + row may see key `low` + column, else the most negative number. */
  mask({ first, queries, low, keys, window, causal }: MaskShape): Matrix {
    const key = `${first} ${queries} ${low} ${keys} ${window} ${causal}`;
    const known = this.#masks.get(key);
    if (known) return known;
    const made = matrix(queries, keys);
    if (causal) {
      for (let i = 0; i < queries; i++) {
        const position = first + i;
        const oldest = window === null ? 0 : position - window + 1;
        for (let j = 0; j < keys; j++) {
          const at = low + j;
          if (at > position || at < oldest) made.data[i * keys + j] = HIDDEN;
        }
      }
    }
    // Of many short documents the masks are small; of long ones few.
    if (this.#masks.size > MAX_MASKS) this.#masks.clear();
    this.#masks.set(key, made);
    return made;
  }
}

export interface MaskShape {
  readonly first: number;
  readonly queries: number;
  readonly low: number;
  readonly keys: number;
  readonly window: number | null;
  readonly causal: boolean;
}

/** As torch's `finfo(float32).min`: whole rows of it stay finite. */
const HIDDEN = -3.4028234663852886e38;
const MAX_MASKS = 64;

function concatenated(parts: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, ids) => sum + ids.length, 0));
  let at = 0;
  for (const ids of parts) {
    all.set(ids, at);
    at += ids.length;
  }
  return all;
}
