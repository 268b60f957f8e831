import { failedBy, type Judgement, judgeMetric, type Outcome, openBy } from "./confidence.ts";
import { judgedThresholds, THRESHOLD_LEVELS } from "./gates.ts";
import { notMeasured } from "./not-measured.ts";
import type { EvaluationReport, Reason, Thresholds } from "./report.ts";
import {
  counted,
  figure,
  figureWithError,
  grouped,
  percent,
  percentWithError,
  timesFloorText,
} from "./wording.ts";

/** A report that has not been judged yet. */
export type Unjudged = Omit<EvaluationReport, "verdict" | "reasons">;

/**
 * The verdict of a report under its gate. FAILED where something is known to be wrong: a diagnosed reason, a failed
 * check, an element too far from its canonical value, a logit that is no number, or an interval that lies wholly beyond
 * a threshold. INCONCLUSIVE where nothing is known to be wrong but not enough is known: an interval that holds the
 * threshold, too few documents, a level that was not measured. Otherwise PASSED.
 *
 * @param diagnosed named reasons from levels 0 and 1; any of them fails
 * @returns reasons of the verdict's own kind only, the most telling first; none for PASSED
 */
export function judge(
  report: Unjudged,
  diagnosed: readonly Reason[],
): Pick<EvaluationReport, "verdict" | "reasons"> {
  const thresholds = report.gate.thresholds[report.candidate.dtype];
  const judgements = [
    ...judgeWeights(report, thresholds),
    ...judgeLogits(report, thresholds),
    ...judgeText(report, thresholds),
    ...judgeTasks(report, thresholds),
  ];
  const of = (outcome: Outcome) => judgements.filter((j) => j.outcome === outcome).map((j) => j.reason);
  const failed = [...diagnosed, ...failedChecks(report, diagnosed), ...of("FAILED")];
  if (failed.length > 0) return { verdict: "FAILED", reasons: failed };
  const open = [...unmeasuredLevels(report, thresholds), ...of("INCONCLUSIVE")];
  return open.length > 0 ? { verdict: "INCONCLUSIVE", reasons: open } : { verdict: "PASSED", reasons: [] };
}

/** Failed checks that no diagnosed reason speaks of already: a check may tell the messages of its reasons. */
function failedChecks(report: Unjudged, diagnosed: readonly Reason[]): Reason[] {
  const isTold = (name: string, detail: string) =>
    diagnosed.some(({ subject, message }) => subject === name || detail.includes(message));
  return report.checks
    .filter((check) => !check.passed && !isTold(check.name, check.detail))
    .map((check) => ({
      code: "CHECK_FAILED",
      level: check.level,
      message: `The check "${check.name}" failed: ${check.detail}`,
      subject: check.name,
      value: null,
      threshold: null,
    }));
}

function judgeWeights({ weights }: Unjudged, { maxUlp }: Thresholds): Judgement[] {
  if (!weights || maxUlp === null || weights.maxUlp === null || weights.maxUlp <= maxUlp) return [];
  const far = weights.tensors.filter((tensor) => (tensor.maxUlp ?? 0) > maxUlp);
  const worst = far.reduce<(typeof far)[number] | undefined>(
    (most, tensor) => ((tensor.maxUlp ?? 0) > (most?.maxUlp ?? -1) ? tensor : most),
    undefined,
  );
  const where = worst
    ? `, in ${worst.tensor}; ${counted(far.length, "tensor is", "tensors are")} beyond`
    : "";
  const message =
    `The largest distance of a touched weight from its canonical value is ${figure(weights.maxUlp)} ulp${where}; ` +
    `the gate allows ${figure(maxUlp)} ulp.`;
  return [
    failedBy("ULP_ABOVE_GATE", {
      level: 1,
      message,
      subject: worst?.tensor ?? null,
      value: weights.maxUlp,
      threshold: maxUlp,
    }),
  ];
}

function judgeLogits(report: Unjudged, thresholds: Thresholds): Judgement[] {
  const { logits, gate } = report;
  if (!logits) return [];
  const found: Judgement[] = [];
  if (logits.nonFiniteLogits > 0) {
    const message = `${counted(logits.nonFiniteLogits, "logit")} of the candidate ${logits.nonFiniteLogits === 1 ? "is" : "are"} NaN or infinite; none may be.`;
    found.push(
      failedBy("NON_FINITE_LOGITS", {
        level: 2,
        message,
        subject: "logits",
        value: logits.nonFiniteLogits,
        threshold: 0,
      }),
    );
  }
  const base = { level: 2, samples: logits.documents, unit: "document" } as const;
  if (thresholds.meanKld !== null) found.push(...judgeKld(logits, thresholds.meanKld));
  if (thresholds.sameTop !== null) {
    const asked = {
      ...base,
      code: "SAME_TOP_BELOW_GATE",
      metric: logits.sameTop,
      lowest: thresholds.sameTop,
    };
    const says = `The most likely token is the same for ${percentWithError(logits.sameTop)} of the predictions; the gate asks for ${percent(thresholds.sameTop)}`;
    found.push(...judgeMetric({ ...asked, says, threshold: thresholds.sameTop, subject: "sameTop" }));
  }
  if (thresholds.perplexityRatio !== null && logits.perplexity) {
    const { ratio } = logits.perplexity;
    const allowed = thresholds.perplexityRatio;
    const asked = {
      ...base,
      code: "PERPLEXITY_BEYOND_GATE",
      metric: ratio,
      lowest: 1 - allowed,
      highest: 1 + allowed,
    };
    const says = `The candidate's perplexity is ${figureWithError(ratio)} times the reference's; the gate allows a distance of ${figure(allowed)} from 1`;
    found.push(...judgeMetric({ ...asked, says, threshold: allowed, subject: "perplexityRatio" }));
  }
  const rests =
    judgedThresholds(thresholds).some((name) => THRESHOLD_LEVELS[name] === 2) || gate.requires.includes(2);
  if (rests && logits.documents < gate.minimumDocuments) {
    const message =
      `Too little text: ${counted(logits.documents, "document")}; the gate asks for ${grouped(gate.minimumDocuments)} or more. ` +
      "Evaluate with more texts.";
    found.push(
      openBy("TOO_FEW_DOCUMENTS", {
        level: 2,
        message,
        subject: "texts",
        value: logits.documents,
        threshold: gate.minimumDocuments,
      }),
    );
  }
  return found;
}

/**
 * Mean KLD against its bound. What is at or below the noise floor is noise and passes, whatever its interval; but a floor
 * above the bound says that this machine cannot tell what the gate asks.
 */
function judgeKld(logits: NonNullable<EvaluationReport["logits"]>, allowed: number): Judgement[] {
  const { mean } = logits.kld;
  const floor = logits.floor?.meanKld ?? null;
  const times = timesFloorText(logits);
  const says = `Mean KLD ${figureWithError(mean)} nats${times === null ? "" : `, ${times}`}; the gate allows ${figure(allowed)}`;
  const noise = floor !== null && mean.value <= floor;
  if (noise && floor <= allowed) return [];
  const asked = {
    level: 2,
    code: "KLD_ABOVE_GATE",
    metric: mean,
    highest: allowed,
    samples: logits.documents,
    unit: "document",
  } as const;
  const found = judgeMetric({ ...asked, says, threshold: allowed, subject: "meanKld" });
  if (!noise || found.length === 0) return found;
  const message =
    `${says}, but the noise floor itself is ${figure(floor!)}: two runs of the reference differ by more than the gate allows. ` +
    "Evaluate on another device.";
  return [
    openBy("FLOOR_ABOVE_GATE", {
      level: 2,
      message,
      subject: "meanKld",
      value: mean.value,
      threshold: allowed,
    }),
  ];
}

function judgeText({ text }: Unjudged, { exactMatch }: Thresholds): Judgement[] {
  if (!text || exactMatch === null) return [];
  const says = `The continuations of ${percentWithError(text.exactMatch)} of the prompts are the same; the gate asks for ${percent(exactMatch)}`;
  return judgeMetric({
    level: 3,
    code: "EXACT_MATCH_BELOW_GATE",
    metric: text.exactMatch,
    lowest: exactMatch,
    threshold: exactMatch,
    samples: text.prompts.length,
    unit: "prompt",
    says,
    subject: "exactMatch",
  });
}

function judgeTasks({ tasks }: Unjudged, { accuracyDrop }: Thresholds): Judgement[] {
  if (!tasks || accuracyDrop === null) return [];
  const says =
    `The candidate's accuracy is ${percent(tasks.candidate.value)}, the reference's ${percent(tasks.reference.value)} ` +
    `(difference ${percentWithError(tasks.difference)}); the gate allows a loss of ${percent(accuracyDrop)}`;
  return judgeMetric({
    level: 4,
    code: "ACCURACY_BELOW_GATE",
    metric: tasks.difference,
    lowest: -accuracyDrop,
    threshold: accuracyDrop,
    samples: tasks.examples,
    unit: "example",
    says,
    subject: "accuracyDrop",
  });
}

/** Levels that the gate needs for PASSED and that nobody measured. */
function unmeasuredLevels(report: Unjudged, thresholds: Thresholds): Reason[] {
  const needed = new Set<number>(report.gate.requires);
  if (thresholds.maxUlp !== null) needed.add(1);
  const reasons = notMeasured(report)
    .filter(({ level, part }) => needed.has(level) && part === "level")
    .map(
      ({ level, message }) =>
        openBy("LEVEL_NOT_MEASURED", {
          level,
          message: `The gate requires level ${level}. ${message}`,
          subject: null,
          value: null,
          threshold: null,
        }).reason,
    );
  if (thresholds.perplexityRatio !== null && report.logits && !report.logits.perplexity) {
    const message =
      "The gate has a threshold for the perplexity ratio, but a classifier has no perplexity. Use a gate without it.";
    reasons.push({
      code: "METRIC_NOT_MEASURED",
      level: 2,
      message,
      subject: "perplexityRatio",
      value: null,
      threshold: thresholds.perplexityRatio,
    });
  }
  if (judgedThresholds(thresholds).length === 0) {
    const message = `The gate ${report.gate.name}@${report.gate.version} has no threshold for a candidate stored in ${report.candidate.dtype}. Use a gate that has.`;
    reasons.push({
      code: "GATE_WITHOUT_THRESHOLDS",
      level: 0,
      message,
      subject: report.candidate.dtype,
      value: null,
      threshold: null,
    });
  }
  return reasons;
}
