/** Bins of log10 KLD: from 1e-14 (rounding of float64 sums) to 100 nats, two for each power of ten. */
export const HISTOGRAM = { from: -14, step: 0.5, bins: 32 } as const;

/**
 * How many values fall into each bin of their log10: bin i holds from + i·step ≤ log10 v < from + (i + 1)·step, the
 * first also all that is smaller (and 0, which has no logarithm), the last all that is larger.
 */
export function logHistogram(values: Iterable<number>): number[] {
  const counts = new Array<number>(HISTOGRAM.bins).fill(0);
  for (const value of values) {
    const bin = value > 0 ? Math.floor((Math.log10(value) - HISTOGRAM.from) / HISTOGRAM.step) : 0;
    counts[Math.max(0, Math.min(HISTOGRAM.bins - 1, bin))]! += 1;
  }
  return counts;
}
