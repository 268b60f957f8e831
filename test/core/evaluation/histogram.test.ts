import { expect, test } from "vitest";
import { HISTOGRAM, logHistogram } from "../../../src/core/evaluation/histogram.ts";

test("a value counts in the bin of its logarithm, from the bin's lower edge on", () => {
  const bins = logHistogram([1e-14, 1e-6, 2e-6, 9.9e-6, 1]);
  const at = (log: number) => bins[(log - HISTOGRAM.from) / HISTOGRAM.step];
  expect([at(-14), at(-6), at(-5.5), at(0)]).toEqual([1, 2, 1, 1]);
});

test("what is beyond the edges counts in the outer bins, so that no value is lost", () => {
  const values = [0, -1e-17, 1e-300, 1e-20, 100, 1e3, 1e30, 0.5];
  const bins = logHistogram(values);
  expect(bins).toHaveLength(HISTOGRAM.bins);
  expect(bins[0]).toBe(4);
  expect(bins.at(-1)).toBe(3);
  expect(bins.reduce((a, b) => a + b, 0)).toBe(values.length);
});
