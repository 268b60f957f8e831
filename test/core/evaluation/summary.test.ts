import { describe, expect, test } from "vitest";
import { AppError } from "../../../src/core/errors.ts";
import { HISTOGRAM } from "../../../src/core/evaluation/histogram.ts";
import type { Measures } from "../../../src/core/evaluation/measures.ts";
import { Random } from "../../../src/core/evaluation/random.ts";
import type { Metric } from "../../../src/core/evaluation/report.ts";
import { summariseLogits, worstPredictions } from "../../../src/core/evaluation/summary.ts";
import {
  measuresOf,
  type NaivePrediction,
  naivePredictions,
  savedTexts,
} from "../../support/naive-logits.ts";

const summarise = (measures: Measures, floor: Measures | null = null) =>
  summariseLogits({ measures, floor, seed: 1 });

/** The columns that an engine would give for these predictions. */
function columnsOf(predictions: readonly NaivePrediction[]): Measures {
  const texts = [...new Set(predictions.map(({ text }) => text))];
  const of = (field: "nllReference" | "nllCandidate" | "deltaP" | "maxDifference") =>
    predictions.map((prediction) => prediction[field]);
  return measuresOf(
    texts.map((text) => predictions.filter((one) => one.text === text).map(({ kld }) => kld)),
    {
      nllReference: Float64Array.from(of("nllReference")),
      nllCandidate: Float64Array.from(of("nllCandidate")),
      deltaP: Float64Array.from(of("deltaP")),
      topCandidate: Int32Array.from(predictions, ({ sameTop }) => (sameTop ? 0 : 1)),
      logitDifference: Float32Array.from(of("maxDifference")),
    },
  );
}

describe.each([
  ["customer-support", "merged"],
  ["light-touch", "merged"],
  ["polite-rewriter", "base"],
] as const)("the numbers of %s's saved logits, adapter against %s", (name, candidate) => {
  test("are those of the definitions", async () => {
    const predictions = naivePredictions(await savedTexts(name, candidate));
    const summary = summarise(columnsOf(predictions));
    const mean = (value: (one: NaivePrediction) => number) =>
      predictions.reduce((sum, one) => sum + value(one), 0) / predictions.length;
    const ascending = predictions.map(({ kld }) => kld).sort((a, b) => a - b);
    expect(summary.documents).toBe(3);
    expect(summary.predictions).toBe(predictions.length);
    expect(summary.kld.mean.value).toBeCloseTo(
      mean(({ kld }) => kld),
      14,
    );
    expect(summary.kld.max).toBe(ascending.at(-1));
    // 61 predictions: the 31st is the median, 99 % lies at 59.4 from 0.
    expect(predictions).toHaveLength(61);
    expect(summary.kld.median).toBe(ascending[30]);
    expect(summary.kld.p99).toBeCloseTo(0.6 * ascending[59]! + 0.4 * ascending[60]!, 12);
    expect(summary.deltaP!.mean.value).toBeCloseTo(
      mean(({ deltaP }) => deltaP),
      14,
    );
    expect(summary.deltaP!.rms.value).toBeCloseTo(Math.sqrt(mean(({ deltaP }) => deltaP ** 2)), 14);
    const { reference, candidate: merged, ratio } = summary.perplexity!;
    expect(reference.value / Math.exp(mean((one) => one.nllReference))).toBeCloseTo(1, 13);
    expect(merged.value / Math.exp(mean((one) => one.nllCandidate))).toBeCloseTo(1, 13);
    expect(ratio.value / (merged.value / reference.value)).toBeCloseTo(1, 13);
    expect(summary.sameTop.value).toBeCloseTo(
      mean(({ sameTop }) => (sameTop ? 1 : 0)),
      14,
    );
    expect(summary.maxLogitDifference).toBe(Math.max(...predictions.map((one) => one.maxDifference)));
    expect(summary.nonFiniteLogits).toBe(0);
  });
});

/** Documents of several predictions: how hard each document is differs much, the sides differ little. */
function twoSides(documents: number): Measures {
  const random = new Random(4);
  const reference: number[] = [];
  const candidate: number[] = [];
  const klds = Array.from({ length: documents }, () => {
    const hardness = 1 + 3 * random.unit();
    return Array.from({ length: 5 + random.below(20) }, () => {
      const nll = hardness * -Math.log(1 - random.unit());
      reference.push(nll);
      candidate.push(nll + 0.01 + 0.001 * random.normal());
      return 1e-4 * Math.exp(random.normal());
    });
  });
  return measuresOf(klds, {
    nllReference: Float64Array.from(reference),
    nllCandidate: Float64Array.from(candidate),
    deltaP: Float64Array.from(candidate, (nll, i) => Math.exp(-nll) - Math.exp(-reference[i]!)),
  });
}

const width = ({ interval }: Metric) => interval![1] - interval![0];

describe("intervals", () => {
  test("of the perplexity ratio are paired: what is hard for both sides does not blur it", () => {
    const { reference, candidate, ratio } = summarise(twoSides(60)).perplexity!;
    expect(width(reference)).toBeGreaterThan(0.5);
    expect(width(candidate)).toBeGreaterThan(0.5);
    expect(width(ratio)).toBeLessThan(0.001);
    expect(ratio.interval![0]).toBeLessThan(Math.exp(0.01));
    expect(ratio.interval![1]).toBeGreaterThan(Math.exp(0.01));
    expect(ratio.standardError! * 3).toBeLessThan(width(ratio));
  });

  test("hold the value, for every metric", () => {
    const { kld, deltaP, perplexity, sameTop } = summarise(twoSides(40));
    for (const { value, interval } of [
      kld.mean,
      deltaP!.mean,
      deltaP!.rms,
      ...Object.values(perplexity!),
      sameTop,
    ]) {
      expect(interval![0]).toBeLessThanOrEqual(value);
      expect(interval![1]).toBeGreaterThanOrEqual(value);
    }
  });

  test("are null for one document and collapse for sides that are equal, except of the share", () => {
    const one = summarise(measuresOf([[1e-4, 2e-4]]));
    expect(one.kld.mean).toEqual({ value: expect.closeTo(1.5e-4, 15), standardError: null, interval: null });
    expect(one.sameTop.interval).toBeNull();
    const equal = summarise(measuresOf([[0], [0, 0], [0, 0, 0]]));
    expect(equal.kld.mean).toEqual({ value: 0, standardError: 0, interval: [0, 0] });
    expect(equal.perplexity!.ratio).toEqual({ value: 1, standardError: 0, interval: [1, 1] });
    expect(equal.deltaP!.rms).toEqual({ value: 0, standardError: 0, interval: [0, 0] });
    expect(equal.sameTop.interval![0]).toBeLessThan(0.6);
  });

  test("are the same for the same seed", () => {
    const measures = twoSides(40);
    expect(summarise(measures)).toEqual(summarise(measures));
    const other = summariseLogits({ measures, floor: null, seed: 2 });
    expect(other.kld.mean.interval).not.toEqual(summarise(measures).kld.mean.interval);
    expect(other.kld.mean.value).toBe(summarise(measures).kld.mean.value);
  });
});

/** Every number in a value; throws for what JSON would turn into null. */
function numbersIn(value: unknown): number[] {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

describe("logits that are no numbers", () => {
  const broken = () => {
    const measures = measuresOf([
      [1e-5, Number.NaN, 1e-5],
      [1e-5, 2e-5],
    ]);
    measures.nonFinite[1] = 7;
    measures.nllCandidate[1] = Number.NaN;
    measures.deltaP[1] = Number.NaN;
    measures.logitDifference[1] = Number.POSITIVE_INFINITY;
    return measures;
  };

  test("are counted, and their predictions weigh so much that no mean passes", () => {
    const summary = summarise(broken());
    expect(summary.nonFiniteLogits).toBe(7);
    expect(summary.predictions).toBe(5);
    expect(summary.kld.max).toBe(100);
    expect(summary.kld.mean.value).toBeCloseTo(20, 3);
    expect(summary.sameTop.value).toBe(0.8);
    expect(summary.perplexity!.candidate.value).toBeCloseTo(Math.E, 14);
    expect(summary.histogram.candidate.at(-1)).toBe(1);
    expect(numbersIn(summary).every(Number.isFinite)).toBe(true);
    expect(worstPredictions(broken(), 1)).toEqual([{ document: 0, position: 1, index: 1, kld: 100 }]);
  });

  test("of the reference count too, though its side has no column", () => {
    const measures = measuresOf([[1e-5, Number.NaN], [1e-5]]);
    expect(summarise(measures).nonFiniteLogits).toBe(1);
  });

  test("everywhere leave no perplexity, and a report that can be written", () => {
    const measures = measuresOf([
      [Number.NaN, Number.POSITIVE_INFINITY],
      [Number.NaN, Number.NaN],
    ]);
    measures.nonFinite.fill(2);
    measures.nllCandidate.fill(Number.NaN);
    const summary = summarise(measures);
    expect(summary).toMatchObject({ nonFiniteLogits: 8, deltaP: null, perplexity: null });
    expect(summary.kld.mean.value).toBe(100);
    expect(summary.sameTop.value).toBe(0);
    expect(numbersIn(summary).every(Number.isFinite)).toBe(true);
  });

  test("are none where logits are huge: a perplexity beyond every number is the largest one", () => {
    const measures = measuresOf([[1e4], [2e4]], { nllCandidate: Float64Array.of(1e4, 2e4) });
    const summary = summarise(measures);
    expect(summary.nonFiniteLogits).toBe(0);
    expect(summary.kld.max).toBe(2e4);
    expect(summary.perplexity!.candidate.value).toBe(Number.MAX_VALUE);
    expect(numbersIn(summary).every(Number.isFinite)).toBe(true);
  });
});

test("a classifier has no next token, so neither Δp nor perplexity", () => {
  const nan = () => new Float64Array(3).fill(Number.NaN);
  const measures = measuresOf([[1e-6], [2e-6], [3e-6]], {
    nllReference: nan(),
    nllCandidate: nan(),
    deltaP: nan(),
    label: new Int32Array(3).fill(-1),
  });
  expect(summarise(measures)).toMatchObject({
    documents: 3,
    predictions: 3,
    deltaP: null,
    perplexity: null,
    nonFiniteLogits: 0,
  });
});

describe("the noise floor", () => {
  test("is summed up beside the run, and the run is so many times it", () => {
    const floor = measuresOf([[1e-6, 3e-6], [2e-6]], {
      topCandidate: Int32Array.of(0, 0, 5),
      logitDifference: Float32Array.of(0, 0.5, 0.25),
    });
    const summary = summarise(measuresOf([[1e-5, 1e-5], [1e-5], [1e-5]]), floor);
    expect(summary.floor).toEqual({
      documents: 2,
      predictions: 3,
      meanKld: expect.closeTo(2e-6, 15),
      p99: expect.closeTo(2.98e-6, 15),
      maxKld: 3e-6,
      sameTop: expect.closeTo(2 / 3, 14),
      maxLogitDifference: 0.5,
    });
    expect(summary.timesFloor).toBeCloseTo(5, 10);
    const { from, step, candidate, floor: bins } = summary.histogram;
    expect([from, step, candidate.length]).toEqual([HISTOGRAM.from, HISTOGRAM.step, HISTOGRAM.bins]);
    expect(candidate.reduce((a, b) => a + b, 0)).toBe(4);
    expect(bins!.reduce((a, b) => a + b, 0)).toBe(3);
  });

  test("of 0, or none, is no divisor", () => {
    expect(summarise(measuresOf([[1e-5]]), measuresOf([[0, 0]]))).toMatchObject({
      timesFloor: null,
      floor: { meanKld: 0, sameTop: 1 },
    });
    expect(summarise(measuresOf([[1e-5]]))).toMatchObject({
      timesFloor: null,
      floor: null,
      histogram: { floor: null },
    });
  });
});

describe("documents", () => {
  test("without a prediction are neither counted nor drawn", () => {
    const gaps = measuresOf([[], [1e-5, 2e-5], [], [4e-5], []]);
    expect(summarise(gaps)).toEqual(summarise(measuresOf([[1e-5, 2e-5], [4e-5]])));
    expect(worstPredictions(gaps, 1)).toEqual([{ document: 3, position: 0, index: 2, kld: 4e-5 }]);
  });

  test("that all have none are refused, with what to do", () => {
    expect(() => summarise(measuresOf([[], []]))).toThrow(AppError);
    expect(() => summarise(measuresOf([]))).toThrow(/Give longer texts/);
    expect(worstPredictions(measuresOf([[]]), 5)).toEqual([]);
  });
});

test("the worst predictions come in order, equal ones as in the text, without those that do not differ", () => {
  const measures = measuresOf([
    [0, 3, 1],
    [3, 0, 5],
    [2, 1],
  ]);
  expect(worstPredictions(measures, 4).map(({ document, position }) => [document, position])).toEqual([
    [1, 2],
    [0, 1],
    [1, 0],
    [2, 0],
  ]);
  expect(worstPredictions(measures, 99)).toHaveLength(6);
  expect(worstPredictions(measuresOf([[0, 0]]), 3)).toEqual([]);
  expect(worstPredictions(measures, 0)).toEqual([]);
});
