import type { EvaluationReport, Metric, Thresholds, Verdict } from "./report.ts";

/** How a number is written: a share in percent, or as it is. */
export type NumberForm = "figure" | "share";

/* How numbers of a report are written for people, the same in messages, pages and cards. */

/** `1.1e-5`, `0.9953`, `12.3`, `1e-3`: up to four digits; a power of ten where the number is small or large. */
export function figure(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (!isPlain(value)) return trimmed(value.toExponential(2));
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}

/** `1.1e-5 ± 0.2e-5`, `8.412 ± 0.3`, `1.00009 ± 0.00006`: so many digits that the error has one. */
export function figureWithError(metric: Metric): string {
  const { value, standardError } = metric;
  if (standardError === null || standardError === 0) return figure(value);
  if (isPlain(value)) {
    const digits = decimals(value, standardError);
    return `${trimmed(value.toFixed(digits))} ± ${trimmed(Number(standardError.toPrecision(1)).toFixed(digits))}`;
  }
  const power = value === 0 ? powerOf(standardError) : powerOf(value);
  const digits = Math.min(4, Math.max(1, power - powerOf(standardError)));
  const scaled = (x: number) => (x / 10 ** power).toFixed(digits);
  const ending = `e${power}`;
  return `${scaled(value)}${ending} ± ${scaled(standardError)}${ending}`;
}

/** A share in percent: `99.5 %`, `99.87 %`. Only what is all or nothing reads 100 % or 0 %. */
export function percent(share: number, leastDigits = 2): string {
  const value = share * 100;
  for (let digits = leastDigits; digits <= 8; digits++) {
    const text = value.toFixed(digits);
    const rounded = Number(text);
    if ((rounded !== 100 || share === 1) && (rounded !== 0 || share === 0)) return `${rounded} %`;
  }
  return `${figure(value)} %`;
}

/** `99.81 % ± 0.04 %`. */
export function percentWithError(metric: Metric): string {
  const { value, standardError } = metric;
  if (standardError === null || standardError === 0) return percent(value);
  const error = Number((standardError * 100).toPrecision(1));
  return `${percent(value, Math.min(6, Math.max(2, -powerOf(error))))} ± ${figure(error)} %`;
}

/** `0.9e-5 to 1.4e-5`; a dash where there is no interval. */
export function intervalText({ interval }: Metric, form: NumberForm): string {
  if (interval === null) return "–";
  const [from, to] = interval;
  // Two digits of the width, so that its ends can be told apart.
  const width = (to - from) / 10;
  const write = (value: number) => {
    if (width === 0) return form === "share" ? percent(value) : figure(value);
    if (form === "share") return percent(value, Math.min(6, Math.max(2, -powerOf(width * 100))));
    return isPlain(value) ? trimmed(value.toFixed(decimals(value, width))) : figure(value);
  };
  return `${write(from)} to ${write(to)}`;
}

/** A mean with its standard error. */
export function metricText(metric: Metric, form: NumberForm): string {
  return form === "share" ? percentWithError(metric) : figureWithError(metric);
}

/** `1,234,567`. */
export function grouped(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `3.2× the noise floor`; null where no floor was measured, or is 0. */
export function timesFloorText(logits: NonNullable<EvaluationReport["logits"]>): string | null {
  const { timesFloor, floor } = logits;
  if (floor === null) return null;
  if (timesFloor === null) return floor.meanKld === 0 ? "the noise floor is 0" : null;
  return `${figure(Number(timesFloor.toPrecision(2)))}× the noise floor`;
}

/** `1 document`, `30 documents`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** What stands before a verdict, so that colour is not needed to tell it. */
export const VERDICT_SIGNS: Readonly<Record<Verdict, string>> = {
  PASSED: "✓",
  FAILED: "✗",
  INCONCLUSIVE: "?",
};

export interface BoundWords {
  readonly key: keyof Thresholds;
  readonly label: string;
  /** `≤ 1e-3`. */
  readonly asks: string;
}

/** The thresholds that are judged, in words. */
export function boundsOf(thresholds: Thresholds): BoundWords[] {
  const words: Record<keyof Thresholds, readonly [label: string, asks: (bound: number) => string]> = {
    maxUlp: ["distance from the canonical weights, ulp", (bound) => `≤ ${figure(bound)}`],
    meanKld: ["mean KLD, nats", (bound) => `≤ ${figure(bound)}`],
    sameTop: ["same most likely token", (bound) => `≥ ${percent(bound)}`],
    perplexityRatio: ["perplexity ratio", (bound) => `1 ± ${figure(bound)}`],
    exactMatch: ["equal continuations", (bound) => `≥ ${percent(bound)}`],
    accuracyDrop: ["accuracy, candidate less reference", (bound) => `≥ ${percent(-bound)}`],
  };
  return (Object.keys(words) as (keyof Thresholds)[]).flatMap((key) => {
    const bound = thresholds[key];
    return bound === null ? [] : [{ key, label: words[key][0], asks: words[key][1](bound) }];
  });
}

function powerOf(value: number): number {
  return Number(value.toExponential(1).split("e")[1]);
}

/** Whether a number is written without a power of ten. */
function isPlain(value: number): boolean {
  const size = Math.abs(value);
  return size >= 0.01 && size < 1e6;
}

/** Decimals that show four digits of a number and one of its error; eight at most. */
function decimals(value: number, error: number): number {
  return Math.min(8, Math.max(0, 3 - powerOf(value), -powerOf(error)));
}

/** `1.10e-5` → `1.1e-5`, `8.4000` → `8.4`. */
function trimmed(text: string): string {
  return text
    .replace(/(\.\d*?)0+(?=e|$)/, "$1")
    .replace(/\.(?=e|$)/, "")
    .replace("e+", "e");
}

/** What the adapter does at all, and how much of that the candidate changes; null where it was not measured. */
export function effectSentence(effect: NonNullable<EvaluationReport["logits"]>["effect"]): string | null {
  if (!effect) return null;
  const own = `The adapter's own effect: mean KLD ${figure(effect.meanKld)} nats between the base alone and the reference`;
  return effect.share === null ? `${own}.` : `${own}; the candidate's is ${percent(effect.share)} of it.`;
}
