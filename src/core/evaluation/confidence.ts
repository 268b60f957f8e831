import type { Metric, Reason } from "./report.ts";
import { counted, grouped } from "./wording.ts";

/* What an interval says of a threshold. */

export type Outcome = "PASSED" | "FAILED" | "INCONCLUSIVE";

export interface Judgement {
  readonly outcome: Outcome;
  readonly reason: Reason;
}

export interface Bounded {
  readonly level: 2 | 3 | 4;
  readonly code: string;
  readonly metric: Metric;
  readonly lowest?: number;
  readonly highest?: number;
  /** As the gate writes it. */
  readonly threshold: number;
  readonly samples: number;
  readonly unit: string;
  /** What was found and what is allowed, without a full stop. */
  readonly says: string;
  readonly subject: string;
}

/** Nothing where the whole interval lies within the bounds, FAILED where all of it lies beyond, else INCONCLUSIVE. */
export function judgeMetric(asked: Bounded): Judgement[] {
  const { metric, level, says, subject, threshold, samples, unit } = asked;
  const { lowest = Number.NEGATIVE_INFINITY, highest = Number.POSITIVE_INFINITY } = asked;
  const rest = { level, subject, value: metric.value, threshold };
  if (metric.interval === null) {
    const message = `${says}. Too little text: ${counted(samples, unit)}, from which no certainty can be told; use more.`;
    return [openBy("TOO_LITTLE_TEXT", { ...rest, message })];
  }
  const [from, to] = metric.interval;
  if (from >= lowest && to <= highest) return [];
  if (to < lowest || from > highest) return [failedBy(asked.code, { ...rest, message: `${says}.` })];
  const message = `${says}. Too little text to be certain: ${counted(samples, unit)}; ${neededText(asked, lowest, highest)}`;
  return [openBy("TOO_LITTLE_TEXT", { ...rest, message })];
}

/** Beyond this many samples nobody waits for an answer. */
const MOST_SAMPLES = 1_000_000;

/** What so few samples say of how many would do is no more than a guess. */
const FEWEST_TO_TELL = 10;

/**
 * How many samples would decide it: an interval is as wide as 1 / √n, and where all samples are alike, so that only
 * their number makes it wide, as 1 / n.
 */
function neededText({ metric, samples, unit }: Bounded, lowest: number, highest: number): string {
  const { value, interval } = metric;
  const [from, to] = interval!;
  const crossed = [lowest, highest].filter((bound) => bound >= from && bound <= to);
  if (crossed.includes(value)) {
    return "what was found is the threshold itself, which no number of them makes certain: choose a gate that asks for a little less.";
  }
  if (samples < FEWEST_TO_TELL) return "too few to tell how many more are needed.";
  const power = metric.standardError === 0 ? 1 : 2;
  const needed = crossed.map((bound) => {
    const reach = bound > value ? to - value : value - from;
    return Math.ceil(samples * (reach / Math.abs(bound - value)) ** power);
  });
  const most = Math.max(samples + 1, ...needed);
  if (!(most <= MOST_SAMPLES)) return "the value lies too close to the threshold for any number to decide.";
  return `about ${grouped(roundedUp(most))} ${unit}s would be needed.`;
}

/** To two digits, upwards: an estimate should not look exact. */
function roundedUp(count: number): number {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(count)) - 1);
  return Math.ceil(count / unit) * unit;
}

export function failedBy(code: string, rest: Omit<Reason, "code">): Judgement {
  return { outcome: "FAILED", reason: { code, ...rest } };
}

export function openBy(code: string, rest: Omit<Reason, "code">): Judgement {
  return { outcome: "INCONCLUSIVE", reason: { code, ...rest } };
}
