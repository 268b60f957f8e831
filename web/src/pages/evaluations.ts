import type { EvaluationStartInput, EvaluationVerdict } from "../../../src/client/types.ts";
import { figure, figureWithError } from "../../../src/core/evaluation/wording.ts";
import type { JobHead, VersionFacts } from "../documents.ts";
import type { EvaluationRow } from "../evaluation-documents.ts";

/** The version that an evaluation judges; null for a recipe, or one that the reader may not see. */
export function candidateRef(inputs: EvaluationRow["inputs"]): string | null {
  return inputs.find(({ role }) => role === "CANDIDATE")?.version?.ref ?? null;
}

export const VERDICT_TONES: Record<EvaluationVerdict, "good" | "bad" | "warn"> = {
  PASSED: "good",
  FAILED: "bad",
  INCONCLUSIVE: "warn",
};

export const VERDICT_SENTENCES: Record<EvaluationVerdict, string> = {
  PASSED: "Within everything that the gate asks for, the candidate does what base and adapter do.",
  FAILED: "The candidate does not do what base and adapter do, or not as closely as the gate asks for.",
  INCONCLUSIVE: "Too little was measured for the certainty that the gate asks for.",
};

/** What an evaluation is to a version that is one of its parts, in words. */
export function partOf(row: EvaluationRow, ref: string): string {
  const part = row.inputs.find(({ version }) => version?.ref === ref)?.role;
  if (part === "CANDIDATE") return `judged against ${referenceOf(row.inputs)}`;
  const judged = candidateRef(row.inputs);
  return judged === null ? "in the merge that a recipe gives" : `in ${judged}`;
}

/** The base and adapters that a candidate is compared with, in words. */
export function referenceOf(inputs: EvaluationRow["inputs"]): string {
  return inputs
    .filter(({ role }) => role !== "CANDIDATE")
    .map(({ version }) => version?.ref ?? "a version that you may not see")
    .join(" + ");
}

/**
 * The newest verdict on a version, out of rows with the newest first; null where it was not judged yet. Where it is
 * known what the version was merged from, verdicts against anything else say nothing of it.
 */
export function latestVerdict(
  rows: readonly (EvaluationRow | null)[],
  version: VersionFacts,
): EvaluationRow | null {
  const made = evaluationOf(version)?.reference;
  const meant = made && [made.base, ...made.sources.map((source) => source.version)].map(({ ref }) => ref);
  const isMeant = ({ inputs }: EvaluationRow) => !meant || referenceOf(inputs) === meant.join(" + ");
  return rows.find((row) => row?.verdict && candidateRef(row.inputs) === version.ref && isMeant(row)) ?? null;
}

/** What a verdict rests on: the same version can pass against one adapter and fail against another. */
export function describeVerdict({ verdict, inputs, gate }: EvaluationRow): string {
  const sentence = verdict ? `${VERDICT_SENTENCES[verdict]} ` : "";
  return `${sentence}Judged against ${referenceOf(inputs)} under the gate ${gate.ref}.`;
}

/** What became of the evaluation that a merge named a gate for; null where it named none. */
export function describeFollowed(merge: JobHead["merge"]): string | null {
  if (!merge?.gate) return null;
  const gate = `gate ${merge.gate.ref}`;
  const followed = merge.evaluations?.nodes[0];
  if (!followed) return `Evaluated under the ${gate} as soon as there is a result.`;
  const { verdict, state, reasons } = followed;
  if (verdict) {
    const codes = reasons.map(({ code }) => code).join(", ");
    return `Evaluated under the ${gate}: ${verdict}${codes && ` (${codes})`}.`;
  }
  return {
    QUEUED: `Its evaluation under the ${gate} waits for a worker.`,
    RUNNING: `Its evaluation under the ${gate} is running.`,
    SUCCEEDED: `Its evaluation under the ${gate} has ended.`,
    FAILED: `Its evaluation under the ${gate} failed.`,
    CANCELLED: `Its evaluation under the ${gate} was stopped.`,
  }[state];
}

/** `1.1e-5 ± 0.2e-5 (12× the noise floor)`, in the digits that the report has. */
export function describeDivergence({ meanKld, timesFloor }: NonNullable<EvaluationRow["logits"]>): string {
  const mean = figureWithError({ ...meanKld, interval: null });
  return timesFloor === null
    ? mean
    : `${mean} (${figure(Number(timesFloor.toPrecision(2)))}× the noise floor)`;
}

/** How to judge a merged version by what it was made from; null where that is not known. */
export function evaluationOf(version: VersionFacts): Omit<EvaluationStartInput, "idempotencyKey"> | null {
  const edges = version.parents?.edges.filter(({ relation }) => relation === "MERGED_FROM") ?? [];
  const base = edges.find(({ role }) => role === "BASE")?.node?.ref;
  const adapters = edges.filter(({ role }) => role === "ADAPTER");
  if (base === undefined || adapters.length === 0 || adapters.some(({ node }) => node === null)) return null;
  return {
    reference: {
      base: { ref: base },
      sources: adapters.map(({ node, weight }) => ({ version: { ref: node!.ref }, weight: weight ?? 1 })),
    },
    candidate: { version: { ref: version.ref } },
  };
}
