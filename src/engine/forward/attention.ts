import type { AttentionSpec, ModelSpec, NormSpec } from "../../core/decoder/spec.ts";
import type { Batch, Sequence } from "./batch.ts";
import type { KeyValueCache } from "./cache.ts";
import type { Linears } from "./linear.ts";
import { columnsOf, type Matrix, matrix, rowsOf } from "./matrix.ts";
import type { Norms } from "./norms.ts";
import type { Ops } from "./ops.ts";

/** Scores that exist at once, for all heads: 16 MB, of which the graph makes a few copies. */
const MAX_SCORES = 4 * 2 ** 20;

export interface AttentionParts {
  readonly model: ModelSpec;
  readonly linears: Linears;
  readonly norms: Norms;
  readonly ops: Ops;
}

interface Projected {
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
}

/** Attention of all sides on normed inputs [tokens, hidden]; keys and values of earlier tokens come from the cache. */
export class Attention {
  readonly #parts: AttentionParts;

  constructor(parts: AttentionParts) {
    this.#parts = parts;
  }

  async run(
    spec: AttentionSpec,
    xs: readonly Matrix[],
    { batch, layer, cache }: { batch: Batch; layer: number; cache: KeyValueCache | null },
  ): Promise<Matrix[]> {
    const { linears, ops } = this.#parts;
    const projected = await this.#project(spec, xs);
    const mixed: Matrix[] = [];
    for (const [side, parts] of projected.entries()) {
      const q = await this.#prepared(parts.q, { spec, norm: spec.qNorm, heads: spec.heads, side, batch });
      const k = await this.#prepared(parts.k, { spec, norm: spec.kNorm, heads: spec.kvHeads, side, batch });
      const documents = batch.sequences.filter(({ end }) => end <= q.rows);
      const out = matrix(q.rows, q.cols, ops.scratch.take(q.rows * q.cols));
      for (const [document, sequence] of documents.entries()) {
        const { begin, end } = sequence;
        const past = { keys: rowsOf(k, begin, end), values: rowsOf(parts.v, begin, end) };
        const all = cache ? cache.append({ side, layer, document }, past) : past;
        await this.#attend(
          spec,
          { q: rowsOf(q, begin, end), ...all },
          { batch, sequence, into: rowsOf(out, begin, end) },
        );
      }
      for (const made of [q, k, parts.v]) ops.give(made);
      mixed.push(out);
    }
    const results = await linears.apply(spec.out, mixed);
    for (const made of mixed) ops.give(made);
    return results as Matrix[];
  }

  async #project(
    { qkv, heads, kvHeads, headDim }: AttentionSpec,
    xs: readonly Matrix[],
  ): Promise<Projected[]> {
    const { linears, ops } = this.#parts;
    if (qkv.form === "apart") {
      const [q, k, v] = [
        await linears.apply(qkv.q, xs),
        await linears.apply(qkv.k, xs),
        await linears.apply(qkv.v, xs),
      ];
      return xs.map((_, i) => ({ q: q[i]!, k: k[i]!, v: v[i]! }));
    }
    const fused = await linears.apply(qkv.linear, xs);
    return fused.map((all) => {
      const parts =
        qkv.order === "rows" ? split(all!, heads * headDim, kvHeads * headDim) : byHead(all!, heads, headDim);
      ops.give(all!);
      return parts;
    });
  }

  /** Normed, then rotated; what is passed in is given back. */
  async #prepared(
    x: Matrix,
    {
      spec,
      norm,
      heads,
      side,
      batch,
    }: { spec: AttentionSpec; norm: AttentionSpec["qNorm"]; heads: number; side: number; batch: Batch },
  ): Promise<Matrix> {
    const { ops, model } = this.#parts;
    let made = x;
    const replace = (by: Matrix) => {
      ops.give(made);
      made = by;
    };
    if (norm) replace(await this.#normed(made, norm, side));
    if (spec.rope) {
      const { cos, sin } = batch.angles(model, spec.rope.table);
      const half = spec.rope.dims / 2;
      const own = { cos: cos.subarray(0, x.rows * half), sin: sin.subarray(0, x.rows * half) };
      replace(await ops.rope(made, own, { heads, dims: spec.rope.dims }));
    }
    return made;
  }

  async #normed(
    x: Matrix,
    { norm, over }: { norm: NormSpec; over: "head" | "whole" },
    side: number,
  ): Promise<Matrix> {
    if (over === "whole") return await this.#parts.norms.one(norm, x, side);
    const width = this.#parts.norms.width(norm, side);
    const heads = matrix((x.rows * x.cols) / width, width, x.data);
    const { data } = await this.#parts.norms.one(norm, heads, side);
    return matrix(x.rows, x.cols, data);
  }

  async #attend(
    { heads, kvHeads, headDim, scale, softcap, window }: AttentionSpec,
    { q, keys, values }: { q: Matrix; keys: Matrix; values: Matrix },
    { batch, sequence, into }: { batch: Batch; sequence: Sequence; into: Matrix },
  ): Promise<void> {
    const { ops, model } = this.#parts;
    const causal = model.direction === "decoder";
    const block = Math.min(q.rows, Math.max(16, Math.floor(MAX_SCORES / (heads * keys.rows))));
    for (let start = 0; start < q.rows; start += block) {
      const stop = Math.min(q.rows, start + block);
      const first = sequence.offset + start;
      const high = causal ? sequence.offset + stop : keys.rows;
      const low = causal && window !== null ? Math.max(0, first - window + 1) : 0;
      const shape = { first, queries: stop - start, low, keys: high - low, window, causal };
      const part = await ops.attend(
        { heads, kvHeads, headDim, scale, softcap },
        {
          q: rowsOf(q, start, stop),
          k: rowsOf(keys, low, high),
          v: rowsOf(values, low, high),
          mask: batch.mask(shape),
        },
      );
      rowsOf(into, start, stop).data.set(part.data);
      ops.give(part);
    }
  }
}

function split(all: Matrix, own: number, shared: number): Projected {
  return {
    q: columnsOf(all, 0, own),
    k: columnsOf(all, own, own + shared),
    v: columnsOf(all, own + shared, own + 2 * shared),
  };
}

/** q, k and v of each head in turn (GPT-NeoX). */
function byHead(all: Matrix, heads: number, width: number): Projected {
  const [q, k, v] = [0, 1, 2].map((part) => {
    const made = matrix(all.rows, heads * width);
    for (let row = 0; row < all.rows; row++) {
      for (let head = 0; head < heads; head++) {
        const from = row * all.cols + (head * 3 + part) * width;
        made.data.set(all.data.subarray(from, from + width), row * made.cols + head * width);
      }
    }
    return made;
  });
  return { q: q!, k: k!, v: v! };
}
