import type { EvaluationReport, Metric } from "./report.ts";

/* How numbers of a report are written for people, the same in messages, pages and cards. */

/** `1.1e-5`, `0.9953`, `12.3`, `1e-3`: up to four digits; a power of ten where the number is small or large. */
export function figure(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.01 || size >= 1e6) return trimmed(value.toExponential(2));
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}

/** `1.1e-5 ± 0.2e-5`: the error in the power of ten of the value, with one digit of its own. */
export function figureWithError(metric: Metric): string {
  const { value, standardError } = metric;
  if (standardError === null || standardError === 0) return figure(value);
  const size = Math.abs(value);
  if (size >= 0.01 && size < 1e6) return `${figure(value)} ± ${figure(Number(standardError.toPrecision(1)))}`;
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

/** `0.9e-5 to 1.4e-5` in the given writing; a dash where there is no interval. */
export function intervalText(metric: Metric, write: (value: number) => string): string {
  return metric.interval === null ? "–" : `${write(metric.interval[0])} to ${write(metric.interval[1])}`;
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

function powerOf(value: number): number {
  return Number(value.toExponential(1).split("e")[1]);
}

/** `1.10e-5` → `1.1e-5`. */
function trimmed(text: string): string {
  return text.replace(/\.?0+e/, "e").replace("e+", "e");
}
