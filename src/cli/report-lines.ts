import { notMeasured } from "../core/evaluation/not-measured.ts";
import { type NamedNumber, numbersOf } from "../core/evaluation/numbers.ts";
import type { EvaluationReport } from "../core/evaluation/report.ts";
import {
  boundsOf,
  counted,
  intervalText,
  metricText,
  timesFloorText,
  VERDICT_SIGNS,
} from "../core/evaluation/wording.ts";
import { table } from "./format.ts";

/** A report for a terminal: what was compared, a table of the levels, what speaks against it, the verdict. */
export function reportLines(report: EvaluationReport): string[] {
  const { reference, candidate, texts, gate } = report;
  const adapters = reference.sources.map(
    ({ label, weight }) => `${label}${weight === 1 ? "" : ` (weight ${weight})`}`,
  );
  const lines = [
    `reference ${[reference.base.label, ...adapters].join(" + ")}: ${reference.note}`,
    `candidate ${candidate.label}, ${candidate.dtype}`,
    ...(texts
      ? [
          `texts     ${texts.name}: ${counted(texts.documents, "document")}, ${counted(texts.tokens, "token")}`,
        ]
      : []),
    ...checkLines(report),
    ...levelTable(report),
    ...apartLines(report),
    ...notMeasured(report).map(({ message }) => message),
    ...report.warnings.map(({ code, message }) => `warning ${code}: ${message}`),
    ...report.reasons.map(({ code, message }) => `${report.verdict} ${code}: ${message}`),
    `${VERDICT_SIGNS[report.verdict]} ${report.verdict} under the gate ${gate.name}@${gate.version}`,
  ];
  // A folder's name can hold line feeds, and must not write a line of its own, such as a verdict.
  return lines.map((line) => line.replaceAll(/\s*\n\s*/g, " "));
}

function checkLines({ checks }: EvaluationReport): string[] {
  const failed = checks.filter(({ passed }) => !passed);
  return [
    `levels 0 and 1: ${checks.length - failed.length} of ${counted(checks.length, "check")} passed`,
    ...failed.map(({ name, detail }) => `  FAIL ${name}: ${detail}`),
  ];
}

/** Every number with its interval, and what the gate asks of it. */
function levelTable(report: EvaluationReport): string[] {
  const bounds = new Map<string, string>(
    boundsOf(report.gate.thresholds[report.candidate.dtype]).map(({ key, asks }) => [key, asks]),
  );
  // The gate's bound on a loss is one on the difference.
  const asked = (key: string) => bounds.get(key === "accuracyDifference" ? "accuracyDrop" : key) ?? "";
  const row = ({ key, level, label, form, metric }: NamedNumber) => [
    `  ${level}`,
    label,
    metricText(metric, form),
    metric.interval === null ? "" : intervalText(metric, form),
    asked(key),
  ];
  const numbers = numbersOf(report);
  if (numbers.length === 0) return [];
  return table([["  level", "", "measured", "95 % interval", "the gate asks"], ...numbers.map(row)]);
}

function apartLines({ logits }: EvaluationReport): string[] {
  if (!logits) return [];
  const floor = timesFloorText(logits);
  return [
    ...(floor === null ? [] : [`mean KLD: ${floor}`]),
    ...(logits.firstApart === null
      ? []
      : [`the sides part at ${logits.firstApart.layer}: ${logits.firstApart.why}`]),
  ];
}
