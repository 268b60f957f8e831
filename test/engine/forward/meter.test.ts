import { expect, test } from "vitest";
import { summariseLogits } from "../../../src/core/evaluation/summary.ts";
import { columnsOf, matrix } from "../../../src/engine/forward/matrix.ts";
import { joinMeasures, PairMeter } from "../../../src/engine/forward/meter.ts";
import { naivePredictions, type SavedText, savedTexts } from "../../support/naive-logits.ts";

const matrixOf = (rows: readonly (readonly number[])[]) =>
  matrix(rows.length, rows[0]!.length, Float32Array.from(rows.flat()));

/** The columns of a text whose logits come in slices of so many tokens of the vocabulary. */
function measured({ ids, reference, candidate }: SavedText, width: number) {
  const meter = new PairMeter(Int32Array.from(ids.slice(1)));
  const [a, b] = [matrixOf(reference.slice(0, -1)), matrixOf(candidate.slice(0, -1))];
  for (let column = 0; column < a.cols; column += width) {
    const end = Math.min(a.cols, column + width);
    meter.add(columnsOf(a, column, end), columnsOf(b, column, end), { first: 0, column });
  }
  return meter.measures([0, ids.length - 1]);
}

test.each([2048, 500, 7])(
  "logits in slices of %d give the KLD, Δp and losses of the definitions, prediction by prediction",
  async (width) => {
    for (const name of ["customer-support", "light-touch"]) {
      const texts = await savedTexts(name);
      const measures = joinMeasures(texts.map((text) => measured(text, width)));
      naivePredictions(texts).forEach((naive, i) => {
        expect(Math.abs(measures.kld[i]! - naive.kld)).toBeLessThan(1e-13);
        expect(Math.abs(measures.deltaP[i]! - naive.deltaP)).toBeLessThan(1e-13);
        expect(Math.abs(measures.nllReference[i]! - naive.nllReference)).toBeLessThan(1e-12);
        expect(Math.abs(measures.nllCandidate[i]! - naive.nllCandidate)).toBeLessThan(1e-12);
        expect(measures.topReference[i] === measures.topCandidate[i]).toBe(naive.sameTop);
        expect(measures.logitDifference[i]).toBe(Math.fround(naive.maxDifference));
      });
    }
  },
);

test("so do the means, RMS and the ratio of perplexities of the report", async () => {
  const texts = await savedTexts("polite-rewriter", "base");
  const measures = joinMeasures(texts.map((text) => measured(text, 300)));
  const { kld, deltaP, perplexity, sameTop } = summariseLogits({ measures, floor: null, seed: 1 });
  const naive = naivePredictions(texts);
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const close = (found: number, expected: number) =>
    expect(Math.abs(found / expected - 1)).toBeLessThan(1e-11);
  close(kld.mean.value, mean(naive.map((one) => one.kld)));
  close(deltaP!.mean.value, mean(naive.map((one) => one.deltaP)));
  close(deltaP!.rms.value, Math.sqrt(mean(naive.map((one) => one.deltaP ** 2))));
  close(perplexity!.ratio.value, Math.exp(mean(naive.map((one) => one.nllCandidate - one.nllReference))));
  close(sameTop.value, mean(naive.map((one) => (one.sameTop ? 1 : 0))));
  expect(kld.mean.value).toBeGreaterThan(0.01);
});

test("a NaN in any slice, or an infinite logit, reaches the report as such", async () => {
  const [text] = await savedTexts("light-touch");
  const spoilt = (value: number, column: number): SavedText => ({
    ...text!,
    candidate: text!.candidate.map((row, at) => (at === 3 ? row.with(column, value) : row)),
  });
  for (const [value, column] of [
    [Number.NaN, 0],
    [Number.NaN, 2047],
    [Number.POSITIVE_INFINITY, 900],
    [Number.NEGATIVE_INFINITY, 900],
  ] as const) {
    const measures = measured(spoilt(value, column), 500);
    const summary = summariseLogits({ measures, floor: null, seed: 1 });
    expect(summary.nonFiniteLogits).toBe(1);
    expect(summary.kld.max).toBe(100);
    expect(summary.sameTop.value).toBeLessThanOrEqual(22 / 23);
  }
});
