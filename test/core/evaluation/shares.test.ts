import { describe, expect, test } from "vitest";
import { AppError } from "../../../src/core/errors.ts";
import { differenceMetric, shareMetric, shareOverDocuments } from "../../../src/core/evaluation/shares.ts";
import { meanOverDocuments } from "../../../src/core/evaluation/statistics.ts";

const outcomes = (right: number, of: number) => Array.from({ length: of }, (_, i) => i < right);

describe("a share of independent outcomes", () => {
  // scipy 1.17.1: binomtest(k, n).proportion_ci(0.95, "exact")
  test.each([
    [5, 5, 0.47817624989501856, 1],
    [0, 8, 0, 0.3694166475528192],
    [19, 20, 0.7512672372279723, 0.998734910502044],
    [48, 64, 0.626009543118181, 0.8498444259146943],
    [1, 3, 0.008403758659612647, 0.9057006759492866],
  ])("of %d in %d has Clopper and Pearson's interval", (right, of, from, to) => {
    const { value, standardError, interval } = shareMetric(outcomes(right, of));
    expect(value).toBe(right / of);
    expect(standardError).toBeCloseTo(Math.sqrt((value * (1 - value)) / (of - 1)), 14);
    expect(interval![0]).toBeCloseTo(from, 10);
    expect(interval![1]).toBeCloseTo(to, 10);
  });

  test("of one outcome says nothing of certainty, and there is none of no outcome", () => {
    expect(shareMetric([true])).toEqual({ value: 1, standardError: null, interval: null });
    expect(() => shareMetric([])).toThrow(AppError);
  });
});

describe("a share over documents", () => {
  const documents = (n: number, size: number, missing: (i: number) => number = () => 0) => ({
    counts: new Float64Array(n).fill(size),
    sums: Float64Array.from({ length: n }, (_, i) => size - missing(i)),
  });

  test("that is 1 everywhere is not certain to be 1, but the more so the more tokens there are", () => {
    const few = shareOverDocuments(documents(64, 25), 1);
    const many = shareOverDocuments(documents(64, 2500), 1);
    expect(few).toMatchObject({ value: 1, standardError: 0 });
    // 1,600 predictions: 1 − 3.7 / 1,600, a little less for documents
    expect(few.interval).toEqual([expect.closeTo(0.9976, 4), 1]);
    expect(many.interval).toEqual([expect.closeTo(0.999976, 6), 1]);
    // Two documents tell little, however long they are.
    expect(shareOverDocuments(documents(2, 800), 1).interval![0]).toBeLessThan(0.95);
  });

  test("that few documents miss counts as many predictions as tell as much", () => {
    const together = shareOverDocuments(
      documents(64, 25, (i) => (i === 0 ? 8 : 0)),
      1,
    );
    const spread = shareOverDocuments(
      documents(64, 25, (i) => (i < 8 ? 1 : 0)),
      1,
    );
    expect(together.value).toBe(spread.value);
    expect(together.interval![0]).toBeLessThan(spread.interval![0] - 0.01);
    // With no likeness within documents it is the binomial's for 8 of 1,600: [0.9902, 0.9978].
    expect(spread.interval![0]).toBeGreaterThan(0.9885);
    expect(spread.interval![0]).toBeLessThan(0.9903);
    expect(spread.interval![1]).toBeGreaterThan(0.9977);
  });

  test("that ten documents or more miss is a mean like any other", () => {
    const totals = documents(64, 25, (i) => (i % 6 === 0 ? 1 + (i % 3) : 0));
    expect(shareOverDocuments(totals, 4)).toEqual(meanOverDocuments(totals, 4, { least: 0, most: 1 }));
  });

  test("of one document has no interval", () => {
    expect(shareOverDocuments(documents(1, 25), 1)).toEqual({
      value: 1,
      standardError: null,
      interval: null,
    });
  });
});

describe("the difference of two shares", () => {
  test("is paired: examples that both sides answer alike do not blur it", () => {
    // 100 examples, 4 lost, 1 gained: (1 − 4) / 100 and √(5 − 9 / 100) / 100.
    const reference = outcomes(60, 100);
    const candidate = reference.map((right, i) => (i < 4 ? false : i === 99 ? true : right));
    const { value, standardError, interval } = differenceMetric(reference, candidate);
    expect(value).toBeCloseTo(-0.03, 14);
    expect(standardError).toBeCloseTo(Math.sqrt(4.91) / 100, 14);
    // Agresti and Min: −3 / 102 ∓ 1.95996 · √(6 − 9 / 102) / 102
    expect(interval![0]).toBeCloseTo(-0.02941 - 0.046722, 5);
    expect(interval![1]).toBeCloseTo(-0.02941 + 0.046722, 5);
  });

  test("of equal answers is not certain to be 0", () => {
    const { value, standardError, interval } = differenceMetric(outcomes(30, 40), outcomes(30, 40));
    expect([value, standardError]).toEqual([0, 0]);
    expect(interval).toEqual([expect.closeTo(-0.04667, 5), expect.closeTo(0.04667, 5)]);
  });

  test("needs examples, and the same ones", () => {
    expect(() => differenceMetric([], [])).toThrow(AppError);
    expect(() => differenceMetric([true], [])).toThrow(/1 answers of the reference, 0/);
    expect(differenceMetric([true], [false])).toEqual({ value: -1, standardError: null, interval: null });
  });
});
