import { describe, expect, test } from "vitest";
import { effectiveNumber, studentisedQuantiles } from "../../../src/core/evaluation/bootstrap.ts";
import { Random } from "../../../src/core/evaluation/random.ts";
import { shareOverDocuments } from "../../../src/core/evaluation/shares.ts";
import { meanOverDocuments } from "../../../src/core/evaluation/statistics.ts";

const SIMULATIONS = 1000;
/** Of what nobody asked for but everybody should know. */
const FEWER = 400;

/** How often the interval of a simulated sample holds the population's mean, in percent, and on which side it misses. */
function coverage(truth: number, simulations: number, sample: (run: number) => readonly [number, number]) {
  let [below, above] = [0, 0];
  for (let run = 0; run < simulations; run++) {
    const [from, to] = sample(run);
    if (to < truth) below++;
    if (from > truth) above++;
  }
  return { covered: 100 - (100 * (below + above)) / simulations, below, above };
}

describe(`the 95 % interval covers 92 to 98 % of ${SIMULATIONS} simulations`, () => {
  const counts = {
    "equal token counts": () => 200,
    "token counts that differ tenfold": (random: Random) => Math.round(50 * 10 ** random.unit()),
  };
  for (const documents of [64, 256]) {
    test.each(Object.entries(counts))(
      `of ${documents} log-normal documents (σ = 1) with %s`,
      (name, tokens) => {
        const random = new Random(2024 + documents);
        const { covered, below, above } = coverage(Math.exp(0.5), SIMULATIONS, (seed) => {
          const weights = Float64Array.from({ length: documents }, () => tokens(random));
          const sums = weights.map((weight) => weight * Math.exp(random.normal()));
          return meanOverDocuments({ sums, counts: weights }, seed, { least: 0 }).interval!;
        });
        console.log(
          `${documents} documents, ${name}: covers ${covered.toFixed(1)} % (${below} lie below the mean, ${above} above)`,
        );
        expect(covered).toBeGreaterThanOrEqual(92);
        expect(covered).toBeLessThanOrEqual(98);
      },
    );
  }
});

describe(`the 95 % interval covers of ${FEWER} simulations`, () => {
  test("92 to 98 % of 64 normal documents: what helps where documents are skewed costs little where they are not", () => {
    const random = new Random(5);
    const size = new Float64Array(64).fill(100);
    const { covered } = coverage(3, FEWER, (seed) => {
      const sums = size.map((weight) => weight * (3 + random.normal()));
      return meanOverDocuments({ sums, counts: size }, seed).interval!;
    });
    console.log(`64 normal documents: covers ${covered.toFixed(1)} %`);
    expect(covered).toBeGreaterThanOrEqual(92);
    expect(covered).toBeLessThanOrEqual(98);
  });

  test.each([0.0003, 0.003, 0.03])(
    "92 of 100 or more where %d of 64 documents' tokens are missed, in some more than in others",
    (rate) => {
      const random = new Random(8);
      const { covered } = coverage(1 - rate, FEWER, (seed) => {
        const sizes = Float64Array.from({ length: 64 }, () => Math.round(24 * 10 ** random.unit()));
        const hits = sizes.map((size) => {
          const own = rate * -Math.log(1 - random.unit());
          let missed = 0;
          for (let token = 0; token < size; token++) if (random.unit() < own) missed++;
          return size - missed;
        });
        return shareOverDocuments({ sums: hits, counts: sizes }, seed).interval!;
      });
      console.log(`share ${1 - rate}: covers ${covered.toFixed(1)} %`);
      expect(covered).toBeGreaterThanOrEqual(92);
    },
  );
});

describe("studentised quantiles", () => {
  const weights = (n: number) => new Float64Array(n).fill(1);

  test("are the same for the same seed, and others for another", () => {
    const random = new Random(1);
    const residuals = Float64Array.from({ length: 40 }, () => random.normal());
    const quantiles = (seed: number) => studentisedQuantiles({ residuals, weights: weights(40) }, seed);
    expect(quantiles(3)).toEqual(quantiles(3));
    expect(quantiles(3)).not.toEqual(quantiles(4));
  });

  test("reach further down than up for a sample with a long upper tail: its mean is more often too low", () => {
    const random = new Random(2);
    const values = Array.from({ length: 64 }, () => Math.exp(random.normal()));
    const mean = values.reduce((a, b) => a + b) / 64;
    const residuals = Float64Array.from(values, (value) => value - mean);
    const { low, high } = studentisedQuantiles({ residuals, weights: weights(64) }, 1);
    expect(high).toBeGreaterThan(1);
    expect(-low).toBeGreaterThan(high + 0.5);
  });

  test("are Student's below eight documents: 12.7 for two", () => {
    const { low, high } = studentisedQuantiles({ residuals: Float64Array.of(-1, 1), weights: weights(2) }, 1);
    expect(high).toBeCloseTo(12.7062, 4);
    expect(low).toBe(-high);
  });

  test("stay finite where a third of the resamples miss the only document that differs: Student's of two degrees of freedom", () => {
    const residuals = new Float64Array(60).fill(-1 / 60);
    residuals[17] = 59 / 60;
    const { low, high } = studentisedQuantiles({ residuals, weights: weights(60) }, 1);
    expect(low).toBeLessThan(-4);
    expect(low).toBeGreaterThan(-4.31);
    expect(Number.isFinite(high)).toBe(true);
  });

  test("of 100,000 documents are the normal distribution's", () => {
    const random = new Random(3);
    const residuals = Float64Array.from({ length: 100_000 }, () => random.normal());
    const { low, high } = studentisedQuantiles({ residuals, weights: weights(100_000) }, 1);
    for (const quantile of [-low, high]) expect(Math.abs(quantile - 1.96)).toBeLessThan(0.25);
  });
});

test("two documents with nine tenths of the weight count for little more than two", () => {
  expect(effectiveNumber(Float64Array.of(5, 5, 5, 5))).toBe(4);
  expect(effectiveNumber(Float64Array.of(45, 45, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1))).toBeCloseTo(2.46, 2);
});
