import { estimateEvaluation } from "../core/evaluation/memory.ts";
import { parseTasks, parseTexts } from "../core/evaluation/texts.ts";
import type { EvaluationInputs, evaluate } from "../engine/evaluation/evaluate.ts";
import { failAt } from "../engine/events.ts";
import type { LoadedVersion } from "../registry/checkpoints.ts";
import { deviceName } from "../registry/devices.ts";
import { type EvaluationWork, loadEvaluationWork, recordEvaluation } from "../registry/evaluations.ts";
import { requireUnchanged } from "../storage/staging.ts";
import type { JobDefinition, JobRun } from "./job.ts";
import { withinMemory } from "./memory.ts";

/**
 * Judges a candidate and records the report. Writes no file: an attempt that was interrupted leaves nothing, and the
 * next one begins again.
 */
export function evaluationJob(run: typeof evaluate): JobDefinition {
  return {
    kind: "RUN_EVALUATION",
    concurrency: 1,
    handle: (job) => judge(job, run),
  };
}

async function judge(run: JobRun, evaluation: typeof evaluate): Promise<void> {
  const { evaluationId, registry, claim } = run;
  if (evaluationId === null) throw new Error(`job ${claim.jobId} has no evaluation`);
  const work = await run.patiently(() => loadEvaluationWork(registry.db, evaluationId));
  const inputs = inputsOf(work);
  const waiting = (message: string) => run.emit({ type: "progress-note", data: { message } });
  const estimate = estimateEvaluation(work.base.facts, work.texts && Buffer.byteLength(work.texts.jsonl));
  const report = await withinMemory({ ...run, waiting }, estimate, async (engine) => {
    // Before and after: the verdict is of the bytes that the versions name, not of what lies in their place now.
    await requireRecorded(work);
    const made = await run.follow(evaluation(inputs, engine));
    await requireRecorded(work);
    return made;
  });
  await run.patiently(() => recordEvaluation(registry, claim, report));
  failAt("after-record", run.engine.failpoint);
}

async function requireRecorded({ base, sources, candidate }: EvaluationWork): Promise<void> {
  for (const { location, facts } of [base, ...sources, ...(candidate ? [candidate] : [])]) {
    await requireUnchanged(location, facts.files);
  }
}

function inputsOf(work: EvaluationWork): EvaluationInputs {
  const { base, sources, candidate, choices, gate, texts, tasks, evaluation } = work;
  const { prompts, ...options } = work.options;
  const locate = ({ location, facts }: LoadedVersion) => ({ folder: location, facts });
  const labels = sources.map(({ label }) => label);
  return {
    base: locate(base),
    sources: sources.map((source) => ({ ...locate(source), weight: source.weight })),
    choices,
    candidate: candidate && locate(candidate),
    labels: {
      base: base.label,
      sources: labels,
      candidate: candidate?.label ?? `the merge of ${base.label} with ${labels.join(", ")}`,
    },
    texts: texts && parseTexts(texts.name, texts.jsonl),
    prompts,
    tasks: tasks && parseTasks(tasks.name, tasks.jsonl),
    gate,
    options: { ...options, device: deviceName(evaluation.device) },
  };
}
