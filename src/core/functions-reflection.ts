import type { ExprFunction } from "./functions.ts";

/**
 * Rows reflected one after the other: args [w (m×k), u (k×r), columns of length 1] → `w·(I-2·u₁u₁ᵀ)·…·(I-2·u_r·u_rᵀ)`. PEFT
 * multiplies those k×k matrices first; row by row it takes r·k steps instead of k². The steps are taken in float64 and
 * rounded to float32 once, so that the result is nearer to the exact one than PEFT's, and its last bits are its own.
 */
const reflect: ExprFunction = {
  shape: ([w]) => w!,
  rowwise: true,
  value([w, u], _, { step }) {
    const [rows, width] = w!.shape as [number, number];
    const count = u!.shape[1]!;
    const values = w!.values.slice();
    for (let i = 0; i < rows; i++) {
      const row = values.subarray(i * width, (i + 1) * width);
      for (let n = 0; n < count; n++) {
        let along = 0;
        for (let j = 0; j < width; j++) along += row[j]! * u!.values[j * count + n]!;
        for (let j = 0; j < width; j++) row[j]! -= 2 * along * u!.values[j * count + n]!;
      }
      for (let j = 0; j < width; j++) row[j] = step(row[j]!);
    }
    return { shape: w!.shape, values };
  },
};

/**
 * Gram and Schmidt's basis: args [u (k×r)] → each column less its parts along the columns before it, and of length 1; in
 * float64, and rounded to float32 at the end.
 */
const orthonormal: ExprFunction = {
  shape: ([u]) => u!,
  value([u], _, { step }) {
    const [length, count] = u!.shape as [number, number];
    const columns = Array.from({ length: count }, (_, n) =>
      Float64Array.from({ length }, (_, j) => u!.values[j * count + n]!),
    );
    for (const [n, column] of columns.entries()) {
      for (const before of columns.slice(0, n)) {
        const along = dot(before, column);
        for (let j = 0; j < length; j++) column[j]! -= along * before[j]!;
      }
      const size = Math.sqrt(dot(column, column));
      for (let j = 0; j < length; j++) column[j]! /= size;
    }
    return {
      shape: u!.shape,
      values: u!.values.map((_, i) => step(columns[i % count]![Math.floor(i / count)]!)),
    };
  },
};

function dot(one: Float64Array, other: Float64Array): number {
  let sum = 0;
  for (let j = 0; j < one.length; j++) sum += one[j]! * other[j]!;
  return sum;
}

export const REFLECTIONS: Readonly<Record<string, ExprFunction>> = { reflect, orthonormal };
