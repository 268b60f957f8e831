import type { NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";
import { rankBlocks } from "./numerics.ts";

/**
 * RoAd's rotation of pairs of rows: args [own (m×n), partner (m×n), cosine (m×1), sine (m×1)], params { half, rows,
 * first } → `own·cosine + partner·sine`. Rows i and i + `half` of each group of 2·`half` are partners; the partner's
 * sign is part of it. PEFT multiplies by the whole m×m rotation, so the two products are summed as that product would
 * be: fused, in the order of the columns, unless they lie in different K-blocks. A single column is a product with a
 * vector, which sums them unfused.
 */
const turnPairs: ExprFunction = {
  shape: ([own]) => own!,
  rowwise: true,
  alongside: [1, 2, 3],
  cut: (params, start) => ({ ...params, first: params.first! + start }),
  value([own, partner, cosine, sine], params, { matmul }) {
    const { half, rows, first } = params as { half: number; rows: number; first: number };
    const [count, columns] = own!.shape as [number, number];
    const blockOf = blocks(rows);
    const values = new Float64Array(count * columns);
    for (let i = 0; i < count; i++) {
      const row = first + i;
      const upper = row % (2 * half) < half;
      const other = upper ? row + half : row - half;
      const order = columns > 1 && blockOf(row) === blockOf(other) ? "fused" : "unfused";
      const pair = upper ? [own!, partner!] : [partner!, own!];
      const factors = upper ? [cosine!, sine!] : [sine!, cosine!];
      const left = Float64Array.from(factors, (factor) => factor.values[i]!);
      const product = matmul({ shape: [1, 2], values: left }, stacked(pair, i, columns), order);
      values.set(product.values, i * columns);
    }
    return { shape: [count, columns], values };
  },
};

function stacked(matrices: readonly NdArray[], row: number, columns: number): NdArray {
  const values = new Float64Array(matrices.length * columns);
  for (const [k, matrix] of matrices.entries()) {
    values.set(matrix.values.subarray(row * columns, (row + 1) * columns), k * columns);
  }
  return { shape: [matrices.length, columns], values };
}

/** Which K-block of a sum over so many terms a term belongs to. */
function blocks(terms: number): (term: number) => number {
  const ends: number[] = [];
  for (const length of rankBlocks(terms)) ends.push((ends.at(-1) ?? 0) + length);
  return (term) => ends.findIndex((end) => term < end);
}

export const ROAD_FUNCTIONS: Readonly<Record<string, ExprFunction>> = { "turn-pairs": turnPairs };
