/**
 * Lengths of rows of 33 to 39 float32 values as torch 2.13 computes them on a CPU (`torch.linalg.norm(x, dim=1)`): bits, of
 * rows in which fusing all of the rest behind the eight lanes, or none of it, gives another last bit.
 */
export const TORCH_ROW_LENGTHS: readonly { width: number; row: number; bits: number }[] = [
  { width: 33, row: 17, bits: 1071081584 },
  { width: 34, row: 0, bits: 1071069270 },
  { width: 35, row: 17, bits: 1071311426 },
  { width: 36, row: 0, bits: 1071267684 },
  { width: 37, row: 1715, bits: 1071790988 },
  { width: 38, row: 1715, bits: 1071966303 },
  { width: 39, row: 176, bits: 1072013498 },
];

/** The values of such a row: a multiplicative hash of their numbers, between ±0.5. */
export function hashedRow(width: number, row: number): Float32Array {
  return Float32Array.from(
    { length: width },
    (_, i) => (Math.imul(row * 1000 + 1 + i, 2654435761) >>> 0) / 2 ** 32 - 0.5,
  );
}
