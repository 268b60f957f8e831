import { AppError } from "../errors.ts";
import { HISTOGRAM, logHistogram } from "./histogram.ts";
import type { Measures } from "./measures.ts";
import type { LogitsReport } from "./report.ts";
import { shareOverDocuments } from "./shares.ts";
import {
  type DocumentTotals,
  exponential,
  finite,
  meanOverDocuments,
  quantile,
  squareRoot,
  total,
} from "./statistics.ts";

/** Level 2 as far as the logits tell it: without how the floor was run, layers and the context of the worst. */
export type LogitsSummary = Pick<
  LogitsReport,
  | "documents"
  | "predictions"
  | "kld"
  | "deltaP"
  | "sameTop"
  | "perplexity"
  | "maxLogitDifference"
  | "nonFiniteLogits"
  | "timesFloor"
  | "histogram"
> & { readonly floor: Omit<NonNullable<LogitsReport["floor"]>, "how"> | null };

/**
 * The KLD in nats that a prediction without one counts as: its logits are NaN or infinite. Far more than two
 * different models ever differ by on average, so that a mean with such predictions in it cannot pass.
 */
export const BROKEN_KLD = 100;
const LARGEST_FLOAT32 = 3.4028234663852886e38;

/**
 * Sums up the columns of one run, and of the reference against itself. Means are over predictions, certain as far as
 * documents are drawn (`meanOverDocuments`); quantiles are over predictions, linearly interpolated (`quantile`).
 *
 * A prediction with a NaN or infinite logit on either side is never left out silently: it counts in
 * `nonFiniteLogits` (as one at least), as 100 nats in KLD, and as unequal in `sameTop`. Δp and perplexity are those of
 * the other predictions, and null where there is none, as for a classifier, which predicts no next token.
 *
 * @throws AppError NOTHING_MEASURED where there is not one prediction.
 */
export function summariseLogits(input: {
  readonly measures: Measures;
  /** The reference against itself, run in a way that should not matter; its documents may be fewer. */
  readonly floor: Measures | null;
  readonly seed: number;
}): LogitsSummary {
  const { measures, seed } = input;
  const kld = klds(measures);
  const sorted = kld.slice().sort();
  const mean = meanOverDocuments(
    totalsOf(measures, (i) => kld[i]!),
    seed,
    { least: 0 },
  );
  const floorKld = input.floor && klds(input.floor);
  const floor = input.floor && floorKld && floorOf(input.floor, floorKld);
  return {
    documents: documentsOf(measures),
    predictions: kld.length,
    kld: {
      mean,
      median: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      p999: quantile(sorted, 0.999),
      max: sorted[sorted.length - 1]!,
    },
    ...likelihoods(measures, seed),
    sameTop: shareOverDocuments(totalsOf(measures, sameTop(measures)), seed),
    maxLogitDifference: maxDifference(measures),
    nonFiniteLogits: nonFiniteLogits(measures),
    floor,
    timesFloor: floor && floor.meanKld > 0 ? finite(mean.value / floor.meanKld) : null,
    histogram: {
      from: HISTOGRAM.from,
      step: HISTOGRAM.step,
      candidate: logHistogram(kld),
      floor: floorKld && logHistogram(floorKld),
    },
  };
}

/** A prediction that the report shows with its context. */
export interface WorstPrediction {
  /** In the order of `Measures.starts`. */
  readonly document: number;
  /** Which of the document's predictions, from 0. */
  readonly position: number;
  /** Row of the columns. */
  readonly index: number;
  /** As it counts in the summary: 100 nats for a prediction whose logits are not all numbers. */
  readonly kld: number;
}

/** The predictions whose KLD is largest and not 0, the largest first, in the text's order where they are equal. */
export function worstPredictions(measures: Measures, count: number): WorstPrediction[] {
  if (count === 0 || measures.kld.length === 0) return [];
  const kld = klds(measures);
  const worst: WorstPrediction[] = [];
  for (let document = 0; document + 1 < measures.starts.length; document++) {
    const start = measures.starts[document]!;
    for (let index = start; index < measures.starts[document + 1]!; index++) {
      const value = kld[index]!;
      if (value === 0 || (worst.length === count && value <= worst[count - 1]!.kld)) continue;
      const behind = worst.findIndex((other) => other.kld < value);
      const at = behind < 0 ? worst.length : behind;
      worst.splice(at, 0, { document, position: index - start, index, kld: value });
      if (worst.length > count) worst.pop();
    }
  }
  return worst;
}

/** Whether the logits of a prediction are numbers on both sides. */
function isBroken(measures: Measures, i: number): boolean {
  return measures.nonFinite[i]! > 0 || !Number.isFinite(measures.kld[i]!);
}

/** KLD with 100 nats where there is none; rounding below 0 is 0. */
function klds(measures: Measures): Float64Array {
  if (measures.kld.length === 0) {
    throw new AppError(
      "NOTHING_MEASURED",
      "No prediction was measured: every text is shorter than two tokens. Give longer texts.",
    );
  }
  return measures.kld.map((value, i) => (isBroken(measures, i) ? BROKEN_KLD : Math.max(0, value)));
}

/** Whether both sides hold the same token most likely, as 1 or 0. */
function sameTop(measures: Measures): (i: number) => number {
  return (i) => (!isBroken(measures, i) && measures.topReference[i] === measures.topCandidate[i] ? 1 : 0);
}

/** Δp and perplexity, where a next token is known. */
function likelihoods(measures: Measures, seed: number): Pick<LogitsSummary, "deltaP" | "perplexity"> {
  const { label, nllReference, nllCandidate, deltaP } = measures;
  const known = (i: number) =>
    label[i]! >= 0 &&
    !isBroken(measures, i) &&
    Number.isFinite(nllReference[i]! + nllCandidate[i]! + deltaP[i]!);
  const changes = deltaP.filter((_, i) => known(i)).sort();
  if (changes.length === 0) return { deltaP: null, perplexity: null };
  const mean = (value: (i: number) => number, range = {}) =>
    meanOverDocuments(totalsOf(measures, value, known), seed, range);
  return {
    deltaP: {
      mean: mean((i) => deltaP[i]!, { least: -1, most: 1 }),
      rms: squareRoot(mean((i) => deltaP[i]! ** 2, { least: 0, most: 1 })),
      percentiles: {
        p1: quantile(changes, 0.01),
        p5: quantile(changes, 0.05),
        p25: quantile(changes, 0.25),
        p50: quantile(changes, 0.5),
        p75: quantile(changes, 0.75),
        p95: quantile(changes, 0.95),
        p99: quantile(changes, 0.99),
      },
    },
    perplexity: {
      reference: exponential(mean((i) => nllReference[i]!, { least: 0 })),
      candidate: exponential(mean((i) => nllCandidate[i]!, { least: 0 })),
      // Of differences within a document: what both sides find hard cancels, and the interval is paired.
      ratio: exponential(mean((i) => nllCandidate[i]! - nllReference[i]!)),
    },
  };
}

/** Sums over the predictions of each document for which `counts` holds; documents without any are left out. */
function totalsOf(
  measures: Measures,
  value: (i: number) => number,
  counts: (i: number) => boolean = () => true,
): DocumentTotals {
  const sums: number[] = [];
  const numbers: number[] = [];
  for (let document = 0; document + 1 < measures.starts.length; document++) {
    const values: number[] = [];
    for (let i = measures.starts[document]!; i < measures.starts[document + 1]!; i++) {
      if (counts(i)) values.push(value(i));
    }
    if (values.length === 0) continue;
    sums.push(total(values));
    numbers.push(values.length);
  }
  return { sums: Float64Array.from(sums), counts: Float64Array.from(numbers) };
}

/** Documents with a prediction. */
function documentsOf({ starts }: Measures): number {
  return starts.filter((start, i) => i > 0 && start > starts[i - 1]!).length;
}

function floorOf(measures: Measures, kld: Float64Array): NonNullable<LogitsSummary["floor"]> {
  const sorted = kld.slice().sort();
  const same = sameTop(measures);
  return {
    documents: documentsOf(measures),
    predictions: kld.length,
    meanKld: total(kld) / kld.length,
    p99: quantile(sorted, 0.99),
    maxKld: sorted[sorted.length - 1]!,
    sameTop: total(kld.map((_, i) => same(i))) / kld.length,
    maxLogitDifference: maxDifference(measures),
  };
}

/** Over logits that are numbers; a difference that float32 cannot hold is its largest number. */
function maxDifference({ logitDifference }: Measures): number {
  let most = 0;
  for (const difference of logitDifference) if (difference > most) most = difference;
  return Math.min(most, LARGEST_FLOAT32);
}

function nonFiniteLogits(measures: Measures): number {
  let count = 0;
  for (let i = 0; i < measures.kld.length; i++) {
    if (isBroken(measures, i)) count += Math.max(1, measures.nonFinite[i]!);
  }
  return count;
}
