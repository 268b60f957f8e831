import { describe, expect, test } from "vitest";
import { Random } from "../../../src/core/evaluation/random.ts";
import {
  exponential,
  meanOverDocuments,
  quantile,
  squareRoot,
  total,
} from "../../../src/core/evaluation/statistics.ts";

const totals = (sums: readonly number[], counts: readonly number[] = sums.map(() => 1)) => ({
  sums: Float64Array.from(sums),
  counts: Float64Array.from(counts),
});

function sample(n: number, seed = 1) {
  const random = new Random(seed);
  const counts = Array.from({ length: n }, () => 10 + random.below(90));
  return totals(
    counts.map((count) => count * Math.exp(random.normal())),
    counts,
  );
}

describe("a mean over documents", () => {
  test("is the sum over the tokens' number, with the linearised error of a ratio", () => {
    // θ = 8/3, residuals ∓2/3: √(2/1 · 8/9) / 3 = 4/9.
    const { value, standardError } = meanOverDocuments(totals([2, 6], [1, 2]), 1);
    expect(value).toBeCloseTo(8 / 3, 14);
    expect(standardError).toBeCloseTo(4 / 9, 14);
  });

  test("has the textbook's error of a mean where all documents are of one length", () => {
    const values = [3, 1, 4, 1, 5, 9, 2, 6];
    const mean = 31 / 8;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 7;
    const scaled = totals(
      values.map((value) => 50 * value),
      values.map(() => 50),
    );
    expect(meanOverDocuments(scaled, 1).standardError).toBeCloseTo(Math.sqrt(variance / 8), 12);
  });

  test("has an error near the jackknife's, which knows nothing of linearisation", () => {
    const { sums, counts } = sample(64);
    const [s, w] = [total(sums), total(counts)];
    const without = Array.from(sums, (sum, i) => (s - sum) / (w - counts[i]!));
    const middle = total(without) / 64;
    const jackknife = Math.sqrt((63 / 64) * total(without.map((value) => (value - middle) ** 2)));
    const { standardError } = meanOverDocuments({ sums, counts }, 1);
    expect(Math.abs(standardError! / jackknife - 1)).toBeLessThan(0.03);
  });

  test("has an interval around it that follows its unit: 1e-9 of everything gives 1e-9 of the ends", () => {
    const { sums, counts } = sample(40);
    const large = meanOverDocuments({ sums, counts }, 9);
    const small = meanOverDocuments({ sums: sums.map((sum) => sum * 1e-9), counts }, 9);
    expect(large.interval![0]).toBeLessThan(large.value);
    expect(large.interval![1]).toBeGreaterThan(large.value);
    large.interval!.forEach((end, i) => {
      expect(small.interval![i]! / (end * 1e-9)).toBeCloseTo(1, 9);
    });
  });

  test("of one document has neither error nor interval", () => {
    expect(meanOverDocuments(totals([6], [3]), 1)).toEqual({ value: 2, standardError: null, interval: null });
  });

  test("of documents that are all alike is certain, of any length and in spite of rounding", () => {
    const alike = meanOverDocuments(totals([0.1 * 3, 0.1 * 7, 0.1 * 11, 0.1], [3, 7, 11, 1]), 1);
    expect(alike).toEqual({ value: alike.value, standardError: 0, interval: [alike.value, alike.value] });
    expect(meanOverDocuments(totals([0, 0, 0]), 1)).toEqual({ value: 0, standardError: 0, interval: [0, 0] });
  });

  test("keeps to its range", () => {
    const rare = totals([0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect(meanOverDocuments(rare, 1).interval![0]).toBeLessThan(0);
    expect(meanOverDocuments(rare, 1, { least: 0 }).interval![0]).toBe(0);
  });

  test("stays finite for values as large as float32's", () => {
    const { standardError, interval } = meanOverDocuments(totals([3e38, 1, 2, 3, 4, 5, 6, 7, 8, 1e38]), 1);
    for (const number of [standardError!, ...interval!]) expect(Number.isFinite(number)).toBe(true);
  });
});

describe("a function of a mean", () => {
  test("carries the ends along, and the error by its slope", () => {
    const mean = {
      value: Math.log(8),
      standardError: 0.1,
      interval: [Math.log(7), Math.log(10)] as [number, number],
    };
    const { value, standardError, interval } = exponential(mean);
    [value, standardError!, ...interval!].forEach((number, i) => {
      expect(number).toBeCloseTo([8, 0.8, 7, 10][i]!, 12);
    });
    expect(squareRoot({ value: 4, standardError: 1, interval: [1, 9] })).toEqual({
      value: 2,
      standardError: 0.25,
      interval: [1, 3],
    });
  });

  test("is a number even where it has no slope, or is larger than any", () => {
    expect(squareRoot({ value: 0, standardError: 0, interval: [0, 0] })).toEqual({
      value: 0,
      standardError: 0,
      interval: [0, 0],
    });
    const huge = exponential({ value: 1e5, standardError: 2, interval: [1, 2e5] });
    expect(huge.value).toBe(Number.MAX_VALUE);
    expect(JSON.parse(JSON.stringify(huge))).toEqual(huge);
  });
});

test("quantiles are numpy's", () => {
  // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6.5], [0, 1, 25, 50, 90, 99, 100]), numpy 2.4.6
  const ascending = Float64Array.of(3, 1, 4, 1, 5, 9, 2, 6.5).sort();
  const found = [0, 0.01, 0.25, 0.5, 0.9, 0.99, 1].map((q) => quantile(ascending, q));
  expect(found).toEqual([1, 1, 1.75, 3.5, expect.closeTo(7.25, 12), expect.closeTo(8.825, 12), 9]);
  expect(quantile(Float64Array.of(7), 0.99)).toBe(7);
});

test("sums lose nothing to a large first term", () => {
  expect(total([1e16, 1, 1, 1, 1, -1e16])).toBe(4);
});
