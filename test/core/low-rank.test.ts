import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { approximate, residual } from "../../src/core/low-rank.ts";
import { seeded } from "../support/canonical.ts";

const random = seeded(3);
const matrix = (rows: number, columns: number) =>
  Float64Array.from({ length: rows * columns }, () => random() - 0.5);

const passes = (values: Float64Array, rows: number, columns: number) =>
  function* () {
    for (let at = 0; at < rows; at += 7) {
      const count = Math.min(7, rows - at);
      yield { at, rows: count, values: values.subarray(at * columns, (at + count) * columns) };
    }
  };

describe("the approximation of a difference by factors", () => {
  it.each([
    [30, 50, 4],
    [50, 30, 30],
    [9, 1, 3],
  ])("of %i by %i, rank %i, keeps what the exact decomposition keeps", (rows, columns, rank) => {
    const values = matrix(rows, columns);
    const all = passes(values, rows, columns);
    const { left, right, singularValues, energy } = approximate(all, { rows, columns, rank, seed: 1 });
    const exact = new SingularValueDecomposition(Matrix.from1DArray(rows, columns, [...values])).diagonal;
    expect(energy).toBeCloseTo(
      values.reduce((sum, v) => sum + v * v, 0),
      9,
    );
    for (const [i, sigma] of singularValues.entries()) expect(sigma / exact[i]!).toBeGreaterThan(0.97);
    const lost = exact.slice(rank).reduce((sum, sigma) => sum + sigma ** 2, 0);
    const measured = residual(all, { left, right }, { columns, rank });
    expect(measured).toBeGreaterThanOrEqual(lost - 1e-9);
    expect(measured).toBeLessThan(lost * 1.03 + 1e-9);
  });

  it("of a matrix of that very rank is the matrix", () => {
    const [rows, columns, rank] = [40, 25, 3];
    const [b, a] = [matrix(rows, rank), matrix(rank, columns)];
    const values = new Float64Array(rows * columns);
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        for (let k = 0; k < rank; k++) values[i * columns + j]! += b[i * rank + k]! * a[k * columns + j]!;
    const all = passes(values, rows, columns);
    const found = approximate(all, { rows, columns, rank: 5, seed: 1 });
    expect(residual(all, found, { columns, rank: 5 }) / found.energy).toBeLessThan(1e-20);
    expect(found.singularValues.slice(3).every((sigma) => sigma < found.singularValues[0]! * 1e-7)).toBe(
      true,
    );
  });

  it("of nothing is nothing, and the same seed gives the same bytes", () => {
    const zero = passes(new Float64Array(12), 3, 4);
    expect(approximate(zero, { rows: 3, columns: 4, rank: 2, seed: 1 })).toMatchObject({ energy: 0 });
    const values = passes(matrix(20, 20), 20, 20);
    const size = { rows: 20, columns: 20, rank: 3, seed: 9 };
    expect(approximate(values, size)).toEqual(approximate(values, size));
  });
});
