import type { EvaluationReport, Metric } from "./report.ts";
import type { NumberForm } from "./wording.ts";

export interface NamedNumber {
  /** Stable; the gate's name of a threshold where it has one. */
  readonly key: string;
  readonly level: 1 | 2 | 3 | 4;
  readonly label: string;
  readonly form: NumberForm;
  /** Standard error and interval are null where the number is no mean over documents. */
  readonly metric: Metric;
}

/** The numbers of a report that one evaluation can be compared with another by, in the order of levels. */
export function numbersOf(report: EvaluationReport): NamedNumber[] {
  return [...weightNumbers(report), ...logitNumbers(report), ...textNumbers(report)];
}

type Row = readonly [key: string, label: string, value: Metric | number | null, form?: NumberForm];

function named(level: NamedNumber["level"], rows: readonly Row[]): NamedNumber[] {
  return rows.flatMap(([key, label, value, form = "figure"]) => {
    if (value === null) return [];
    const metric = typeof value === "number" ? { value, standardError: null, interval: null } : value;
    return [{ key, level, label, form, metric }];
  });
}

function weightNumbers({ weights }: EvaluationReport): NamedNumber[] {
  if (!weights) return [];
  return named(1, [
    ["maxUlp", "largest distance from the canonical value, ulp", weights.maxUlp],
    ["relativeError", "error of the stored change, relative to the change", weights.relativeError, "share"],
    ["projection", "projection of the stored change on the change", weights.projection],
    ["moved", "touched weights that moved", weights.moved, "share"],
  ]);
}

function logitNumbers({ logits }: EvaluationReport): NamedNumber[] {
  if (!logits) return [];
  const { kld, deltaP, perplexity, floor } = logits;
  return named(2, [
    ["meanKld", "mean KLD, nats", kld.mean],
    ["medianKld", "median KLD, nats", kld.median],
    ["p99Kld", "99 % of predictions below a KLD of", kld.p99],
    ["p999Kld", "99.9 % of predictions below a KLD of", kld.p999],
    ["maxKld", "largest KLD, nats", kld.max],
    ["floorKld", "mean KLD of the noise floor, nats", floor?.meanKld ?? null],
    ["effectKld", "mean KLD of the base without the adapter, nats", logits.effect?.meanKld ?? null],
    ["sameTop", "same most likely token", logits.sameTop, "share"],
    ["meanDeltaP", "mean Δp of the text's token", deltaP?.mean ?? null],
    ["rmsDeltaP", "RMS Δp of the text's token", deltaP?.rms ?? null],
    ["perplexityReference", "perplexity of the reference", perplexity?.reference ?? null],
    ["perplexityCandidate", "perplexity of the candidate", perplexity?.candidate ?? null],
    ["perplexityRatio", "perplexity ratio", perplexity?.ratio ?? null],
    ["maxLogitDifference", "largest difference of a logit", logits.maxLogitDifference],
    ["nonFiniteLogits", "logits that are NaN or infinite", logits.nonFiniteLogits],
  ]);
}

function textNumbers({ text, tasks }: EvaluationReport): NamedNumber[] {
  return [
    ...named(3, [["exactMatch", "equal continuations", text?.exactMatch ?? null, "share"]]),
    ...named(4, [
      ["accuracyReference", "accuracy of the reference", tasks?.reference ?? null, "share"],
      ["accuracyCandidate", "accuracy of the candidate", tasks?.candidate ?? null, "share"],
      ["accuracyDifference", "accuracy, candidate less reference", tasks?.difference ?? null, "share"],
      ["mcnemar", "p of the paired McNemar test", tasks?.mcnemar.p ?? null],
    ]),
  ];
}
