import type { EvaluationReport } from "./report.ts";

export interface NotMeasured {
  readonly level: 1 | 2 | 3 | 4;
  /** The whole level, or one number of it. */
  readonly part: "level" | "number";
  /** What and why, in a sentence or two. */
  readonly message: string;
}

/** What a report says nothing of, so that nobody takes silence for a good sign. */
export function notMeasured(report: Omit<EvaluationReport, "verdict" | "reasons">): NotMeasured[] {
  const { weights, logits, text, tasks } = report;
  const found: NotMeasured[] = [];
  const add = (level: NotMeasured["level"], part: NotMeasured["part"], message: string) =>
    found.push({ level, part, message });
  if (!weights) {
    add(
      1,
      "level",
      "Level 1 (weights) was not measured: the candidate's structure is not the one that was meant.",
    );
  } else if (weights.touched > 0 && weights.tensors.every(({ differing }) => differing === null)) {
    const several = report.reference.sources.length > 1;
    const why = several
      ? "several adapters together have no canonical merge"
      : "no touched tensor has a canonical value";
    add(1, several ? "number" : "level", `The distance from the canonical values was not measured: ${why}.`);
  }
  if (!logits) {
    add(2, "level", `Level 2 (logits) was not measured: ${report.logitsSkipped ?? "no reason was given"}`);
  } else {
    if (!logits.floor)
      add(2, "number", "The noise floor was not measured, so that no difference can be called noise.");
    if (!logits.perplexity)
      add(2, "number", "Perplexity and Δp were not measured: a classifier predicts no next token.");
    if (logits.layers.length === 0) add(2, "number", "The error of each layer was not measured.");
  }
  // Neither is run without level 2, and a classifier writes nothing.
  const idle = !logits ? "the models were not run" : logits.perplexity ? null : "a classifier writes no text";
  if (!text) add(3, "level", `Level 3 (text) was not measured: ${idle ?? "no prompts were given"}.`);
  if (!tasks) add(4, "level", `Level 4 (tasks) was not measured: ${idle ?? "no labelled set was given"}.`);
  return found;
}
