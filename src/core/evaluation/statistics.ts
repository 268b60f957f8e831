import { studentisedQuantiles } from "./bootstrap.ts";
import type { Metric } from "./report.ts";

/** Of each document: the sum of a quantity over its predictions, and their number. */
export interface DocumentTotals {
  readonly sums: Float64Array;
  /** All > 0. */
  readonly counts: Float64Array;
}

/** Values that the mean cannot leave: an interval is cut there, which loses no coverage. */
export interface Range {
  readonly least?: number;
  readonly most?: number;
}

/**
 * The mean of a quantity over all predictions, Σ sums / Σ counts, as the ratio estimator that it is: documents are
 * drawn, not tokens. The standard error is the linearised one, √(n / (n − 1) · Σ (s − θ̂·w)²) / Σw (Cochran 1977,
 * Sampling Techniques, ch. 6), the interval the studentised bootstrap over documents (`studentisedQuantiles`, twice
 * 999 resamples). A quantity of two sides is summed as their difference, so documents stay paired.
 *
 * One document has neither error nor interval; documents that all have the same mean have error 0 and [θ̂, θ̂].
 */
export function meanOverDocuments(totals: DocumentTotals, seed: number, range: Range = {}): Metric {
  const { sums, counts } = totals;
  const n = sums.length;
  const weight = total(counts);
  const value = total(sums) / weight;
  if (n < 2) return { value, standardError: null, interval: null };
  // In units of the largest, for squares and fourth powers of any residual to be finite.
  const residuals = sums.map((sum, i) => sum - value * counts[i]!);
  const unit = residuals.reduce((most, residual) => Math.max(most, Math.abs(residual)), 0);
  if (unit <= 1e-13 * Math.abs(value) * (weight / n)) {
    return { value, standardError: 0, interval: [value, value] };
  }
  for (let i = 0; i < n; i++) residuals[i]! /= unit;
  let squares = 0;
  for (const residual of residuals) squares += residual * residual;
  const standardError = (Math.sqrt((n / (n - 1)) * squares) * unit) / weight;
  const weights = counts.map((count) => (count * n) / weight);
  const { low, high } = studentisedQuantiles({ residuals, weights }, seed);
  const { least = Number.NEGATIVE_INFINITY, most = Number.POSITIVE_INFINITY } = range;
  const from = Math.max(least, Math.min(value, value - high * standardError));
  const to = Math.min(most, Math.max(value, value - low * standardError));
  return { value, standardError, interval: [from, to] };
}

/**
 * The metric of f(θ) for increasing f: the interval's ends are f of θ's, the error is the delta method's |f′(θ̂)|·se.
 * Perplexity is f = exp of the mean loss, so its interval is studentised on the log scale; the ratio of two
 * perplexities the same of the mean difference of the losses.
 */
export function transformed(
  metric: Metric,
  f: (value: number) => number,
  slope: (value: number) => number,
): Metric {
  const { value, standardError, interval } = metric;
  return {
    value: finite(f(value)),
    standardError:
      standardError === null ? null : standardError === 0 ? 0 : finite(slope(value) * standardError),
    interval: interval && [finite(f(interval[0])), finite(f(interval[1]))],
  };
}

export const exponential = (metric: Metric) => transformed(metric, Math.exp, Math.exp);

/** √ of a mean of squares. */
export const squareRoot = (metric: Metric) => transformed(metric, Math.sqrt, (x) => 0.5 / Math.sqrt(x));

/**
 * The q-th quantile of ascending values: linear between the two nearest order statistics, at (n − 1)·q. The
 * definition 7 of Hyndman and Fan 1996, and numpy's default.
 */
export function quantile(ascending: Float64Array, q: number): number {
  const at = (ascending.length - 1) * q;
  const below = Math.floor(at);
  const low = ascending[below]!;
  const high = ascending[Math.min(below + 1, ascending.length - 1)]!;
  return low + (high - low) * (at - below);
}

/** The value, or the largest number of its sign: e to the power of a thousand is no number that JSON knows. */
export function finite(value: number): number {
  return Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, value));
}

/** With compensation (Neumaier 1974): a million terms sum up as exactly as ten. */
export function total(values: Iterable<number>): number {
  let sum = 0;
  let lost = 0;
  for (const value of values) {
    const next = sum + value;
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
    sum = next;
  }
  return sum + lost;
}
