import { AppError } from "../errors.ts";
import { betaQuantile, studentQuantile } from "./distributions.ts";
import type { Metric } from "./report.ts";
import { type DocumentTotals, meanOverDocuments, total } from "./statistics.ts";

/** With fewer documents that hold the rarer outcome, resampling them says too little of how rare it is. */
export const FEWEST_WITH_BOTH = 10;

/**
 * The share of predictions with an outcome, over documents. As `meanOverDocuments`, unless fewer than 10 documents
 * hold the rarer of the two outcomes: then the bootstrap would promise too much (of no deviation at all it says
 * [1, 1]), and the interval is Korn and Graubard's (1998, "Confidence intervals for proportions with small expected
 * number of positive counts"): Clopper and Pearson's binomial one for as many independent predictions as tell as
 * much, n* = p(1 − p) / se² · (t₁ / t₂)², with Student's 97.5 % quantiles t₁ for all predictions and t₂ for the
 * documents. Without any variance between documents nothing shows that predictions of one document are alike, and
 * n* is their number times (t₁ / t₂)².
 */
export function shareOverDocuments(totals: DocumentTotals, seed: number): Metric {
  const plain = meanOverDocuments(totals, seed, { least: 0, most: 1 });
  if (plain.interval === null || plain.standardError === null) return plain;
  if (withRarer(totals) >= FEWEST_WITH_BOTH) return plain;
  const { value, standardError } = plain;
  const documents = totals.sums.length;
  const predictions = total(totals.counts);
  const asMany = standardError === 0 ? predictions : (value * (1 - value)) / standardError ** 2;
  const correction = studentQuantile(0.975, predictions - 1) / studentQuantile(0.975, documents - 1);
  return { ...plain, interval: clopperPearson(value, Math.min(predictions, asMany) * correction ** 2) };
}

/** How many documents hold an outcome that is the rarer one over all documents. */
function withRarer({ sums, counts }: DocumentTotals): number {
  const hitsAreRarer = total(sums) * 2 < total(counts);
  let documents = 0;
  for (let i = 0; i < sums.length; i++) if (hitsAreRarer ? sums[i]! > 0 : sums[i]! < counts[i]!) documents++;
  return documents;
}

/**
 * The share of independent outcomes (one for each prompt or example) that are true, with √(p(1 − p) / (n − 1)) and
 * the 95 % interval of Clopper and Pearson (1934), which holds for every n: 5 of 5 is [0.48, 1], not [1, 1].
 *
 * @throws AppError NOTHING_MEASURED without outcomes.
 */
export function shareMetric(outcomes: readonly boolean[]): Metric {
  const n = outcomes.length;
  if (n === 0) throw nothingMeasured();
  const value = outcomes.filter(Boolean).length / n;
  if (n === 1) return { value, standardError: null, interval: null };
  return {
    value,
    standardError: Math.sqrt((value * (1 - value)) / (n - 1)),
    interval: clopperPearson(value, n),
  };
}

/** The shares of outcomes that hold under the binomial for n trials, at 2.5 % on each side; n need not be whole. */
function clopperPearson(share: number, n: number): [number, number] {
  const hits = share * n;
  return [
    share === 0 ? 0 : betaQuantile(0.025, hits, n - hits + 1),
    share === 1 ? 1 : betaQuantile(0.975, hits + 1, n - hits),
  ];
}

/**
 * By how much the candidate's share of right answers exceeds the reference's, paired by example: the interval of
 * Agresti and Min (2005, "Simple improved confidence intervals for comparing matched proportions"), Wald's after half
 * an example is added to each of the four cells, which does not collapse where no answer differs.
 *
 * @param reference whether its answer is right, example by example; `candidate` likewise, in the same order.
 * @throws AppError NOTHING_MEASURED without examples.
 */
export function differenceMetric(reference: readonly boolean[], candidate: readonly boolean[]): Metric {
  const n = reference.length;
  if (candidate.length !== n)
    throw new Error(`${n} answers of the reference, ${candidate.length} of the candidate`);
  if (n === 0) throw nothingMeasured();
  const lost = reference.filter((right, i) => right && !candidate[i]).length;
  const gained = candidate.filter((right, i) => right && !reference[i]).length;
  const { value, error } = wald(lost, gained, n);
  if (n === 1) return { value, standardError: null, interval: null };
  const wider = wald(lost + 0.5, gained + 0.5, n + 2);
  const from = Math.min(value, wider.value - NORMAL_975 * wider.error);
  const to = Math.max(value, wider.value + NORMAL_975 * wider.error);
  return { value, standardError: error, interval: [Math.max(-1, from), Math.min(1, to)] };
}

const NORMAL_975 = 1.959963984540054;

/** The difference of two paired shares, with Wald's standard error. */
function wald(lost: number, gained: number, n: number): { value: number; error: number } {
  const value = (gained - lost) / n;
  return { value, error: Math.sqrt(Math.max(0, lost + gained - (gained - lost) ** 2 / n)) / n };
}

function nothingMeasured(): AppError {
  return new AppError("NOTHING_MEASURED", "There is no share of no outcomes: give at least one.");
}
