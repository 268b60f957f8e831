import { describe, expect, test } from "vitest";
import { mcnemar } from "../../../src/core/evaluation/mcnemar.ts";

/* Expected p: scipy 1.17.1, binomtest(min(b, c), b + c).pvalue and chi2.sf((|b − c| − 1)² / (b + c), 1). */

describe("McNemar's test", () => {
  test.each([
    [0, 1, 1],
    [1, 5, 0.21875],
    [3, 9, 0.14599609375],
    [7, 17, 0.06391465663909912],
    [12, 12, 1],
    [10, 0, 0.001953125],
    [2, 22, 3.5881996154785156e-5],
  ])("is exact for %d against %d", (b, c, p) => {
    const result = mcnemar(b, c);
    expect(result).toMatchObject({ method: "exact", statistic: Math.min(b, c) });
    expect(Math.abs(result.p - p)).toBeLessThan(1e-12 * p + 1e-17);
  });

  test.each([
    [5, 20, 7.84, 0.005110260660855866],
    [25, 10, 5.6, 0.01796047752607879],
    [40, 60, 3.61, 0.05743311963200335],
    [150, 90, 14.504166666666666, 0.0001398498746272035],
    [500, 300, 49.50125, 1.982453687656055e-12],
  ])("is chi-squared with correction for %d against %d", (b, c, statistic, p) => {
    const result = mcnemar(b, c);
    expect(result.method).toBe("chi-squared");
    expect(result.statistic).toBeCloseTo(statistic, 12);
    expect(Math.abs(result.p - p)).toBeLessThan(1e-10 * p);
  });

  test("finds nothing where both are equal, or where no pair is unequal", () => {
    expect(mcnemar(0, 0)).toEqual({ method: "exact", statistic: 0, p: 1 });
    expect(mcnemar(20, 20)).toEqual({ method: "chi-squared", statistic: 0, p: 1 });
    expect(mcnemar(13, 12)).toEqual({ method: "chi-squared", statistic: 0, p: 1 });
  });
});
