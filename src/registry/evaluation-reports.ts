import { deflateSync, inflateSync } from "node:zlib";
import { AppError } from "../core/errors.ts";
import type { EvaluationReport } from "../core/evaluation/report.ts";
import { notFound, type ViewerContext } from "./context.ts";
import { visibleTo } from "./visibility.ts";

/**
 * A report as it is stored: deflated JSON. That of an 80-layer model has some 600 tensors and thousands of words of
 * text, a megabyte that deflates to a fifth; zlib because every tool can read it.
 */
export function packReport(report: EvaluationReport): Uint8Array<ArrayBuffer> {
  return new Uint8Array(deflateSync(JSON.stringify(report)));
}

/** The reverse of `packReport`. */
export function unpackReport(document: Uint8Array): EvaluationReport {
  return JSON.parse(inflateSync(document).toString("utf8")) as EvaluationReport;
}

/**
 * A report with its long lists emptied: what lists and pages of evaluations show, and small enough to be read with
 * every row.
 */
export function summarise(report: EvaluationReport): EvaluationReport {
  const { weights, logits, text } = report;
  return {
    ...report,
    weights: weights && { ...weights, tensors: [] },
    logits: logits && {
      ...logits,
      layers: [],
      worst: [],
      histogram: { ...logits.histogram, candidate: [], floor: null },
    },
    text: text && { ...text, prompts: [] },
  };
}

/**
 * The report of an evaluation that the viewer may see, by the evaluation's row.
 * @throws NOT_FOUND where there is none; NO_REPORT where it is not there yet, or will never be
 */
export async function readReport(
  { db, viewer }: Pick<ViewerContext, "db" | "viewer">,
  id: string,
  field?: string,
): Promise<EvaluationReport> {
  const evaluation = await db.evaluation.findFirst({
    where: { AND: [{ id }, visibleTo(viewer).evaluation] },
    select: { state: true, report: { select: { document: true } } },
  });
  if (!evaluation) throw notFound("The evaluation", field);
  if (evaluation.report) return unpackReport(evaluation.report.document);
  const what = {
    QUEUED: "waits for a worker",
    RUNNING: "is running",
    FAILED: "failed",
    CANCELLED: "was stopped",
  };
  const why = evaluation.state === "SUCCEEDED" ? "has lost its report" : what[evaluation.state];
  throw new AppError("NO_REPORT", `The evaluation ${why}: it has no report.`, field ? { field } : {});
}
