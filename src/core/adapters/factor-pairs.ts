import type { LocatedTensor } from "../checkpoint.ts";
import { elementCount, isMergeable } from "../dtype.ts";

/** Two factors whose product B·A is a change: A (r×in), B (out×r), both flattened to matrices. */
export interface FactorPair {
  readonly a: LocatedTensor;
  readonly b: LocatedTensor;
  readonly rank: number;
}

/** Pairs `lora_A` with `lora_B` (and the embedding's) by their keys; what does not fit together is left out. */
export function factorPairs(tensors: Iterable<LocatedTensor>): FactorPair[] {
  const byName = new Map([...tensors].map((tensor) => [tensor.name, tensor]));
  const pairs: FactorPair[] = [];
  for (const [name, b] of byName) {
    const key = name.replace(/\.lora_(embedding_)?B(?=\.|$)/, (found) => `${found.slice(0, -1)}A`);
    const a = key === name ? undefined : byName.get(key);
    if (!a || !isMergeable(a.dtype) || !isMergeable(b.dtype)) continue;
    const rank = a.shape[0] ?? 0;
    if (rank === 0 || b.shape[1] !== rank || elementCount(b.shape) !== b.shape[0]! * rank) continue;
    pairs.push({ a, b, rank });
  }
  return pairs;
}

/**
 * Frobenius norm of B·A without forming it: ‖B·A‖² = trace((BᵀB)·(AAᵀ)), both r×r.
 * @param a r×n, row-major
 * @param b m×r, row-major
 */
export function productNorm(a: Float64Array, b: Float64Array, rank: number): number {
  const n = a.length / rank;
  const m = b.length / rank;
  // Columns of B as rows, so that both sums run over neighbours in memory.
  const columns = new Float64Array(b.length);
  for (let i = 0; i < m; i++) for (let k = 0; k < rank; k++) columns[k * m + i] = b[i * rank + k]!;
  let squares = 0;
  for (let k = 0; k < rank; k++)
    for (let l = k; l < rank; l++) {
      const product = dot(a, k * n, l * n, n) * dot(columns, k * m, l * m, m);
      squares += k === l ? product : 2 * product;
    }
  return Math.sqrt(Math.max(0, squares));
}

function dot(values: Float64Array, i: number, j: number, count: number): number {
  let sum = 0;
  for (let c = 0; c < count; c++) sum += values[i + c]! * values[j + c]!;
  return sum;
}
