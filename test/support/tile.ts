import { bitsToNumber, roundToBits } from "../../src/core/numerics.ts";

/** Numbers in [-1, 1), the same on every run (a linear congruential generator, Numerical Recipes). */
export function randomFloats(count: number, seed: number, scale = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * scale;
  });
}

const rows = 48;
const rank = 16;
const columns = 80;

/** A small tile of a merge: W (rows×columns) already in bf16's grid, A (rank×columns), B (rows×rank), float32. */
export const tile = {
  rows,
  rank,
  columns,
  scale: 0.5,
  w: randomFloats(rows * columns, 1, 0.05).map((v) => bitsToNumber("BF16", roundToBits("BF16", v))),
  a: randomFloats(rank * columns, 2, 0.1),
  b: randomFloats(rows * rank, 3, 0.1),
};
