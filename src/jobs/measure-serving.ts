import { estimateServing } from "../core/evaluation/memory.ts";
import { parseTexts } from "../core/evaluation/texts.ts";
import { type adviseServing, type ServingInputs, servingCommands } from "../engine/evaluation/advice.ts";
import { environmentOf } from "../engine/evaluation/environment.ts";
import { failAt } from "../engine/events.ts";
import type { LoadedVersion } from "../registry/checkpoints.ts";
import { deviceName } from "../registry/devices.ts";
import {
  loadServingWork,
  type MeasuredAdvice,
  recordServingAdvice,
  type ServingWork,
} from "../registry/serving-advice.ts";
import { requireUnchanged } from "../storage/staging.ts";
import type { JobDefinition, JobRun } from "./job.ts";
import { withinMemory } from "./memory.ts";

/**
 * Measures what serving base and adapters apart costs, and merged, and records the advice. Writes no file: an attempt
 * that was interrupted leaves nothing, and the next one begins again.
 */
export function servingJob(advise: typeof adviseServing): JobDefinition {
  return {
    kind: "MEASURE_SERVING",
    concurrency: 1,
    handle: (run) => measure(run, advise),
  };
}

async function measure(run: JobRun, advise: typeof adviseServing): Promise<void> {
  const { registry, claim, settings, memory } = run;
  const work = await run.patiently(() => loadServingWork(registry.db, claim.jobId));
  const waiting = (message: string) => run.emit({ type: "progress-note", data: { message } });
  const documents = work.texts && Buffer.byteLength(work.texts.jsonl);
  const room = { documents, room: memory.total, threads: settings.threads };
  const estimate = estimateServing(work.base.facts, room);
  const inputs = inputsOf(work, estimate.keep);
  const measured = await withinMemory(
    { ...run, waiting },
    estimate,
    async (engine): Promise<MeasuredAdvice> => {
      // Before and after: the advice is of the bytes that the versions name, not of what lies in their place now.
      await requireRecorded(work);
      const advice = await run.follow(advise(inputs, engine));
      await requireRecorded(work);
      const { runtime: _, ...environment } = environmentOf(inputs.device, {
        runtime: "",
        threads: engine.threads,
      });
      return { advice, commands: servingCommands(inputs, foldersOf(work)).commands, environment };
    },
  );
  await run.patiently(() => recordServingAdvice(registry, claim, measured));
  failAt("after-record", run.engine.failpoint);
}

async function requireRecorded({ base, sources, merged }: ServingWork): Promise<void> {
  for (const { location, facts } of [base, ...sources, ...(merged ? [merged] : [])]) {
    await requireUnchanged(location, facts.files);
  }
}

function inputsOf(work: ServingWork, keep: number): ServingInputs {
  const { base, sources, merged, texts, choices, planned, gate } = work;
  const locate = ({ location, facts }: LoadedVersion) => ({ folder: location, facts });
  return {
    base: locate(base),
    sources: sources.map((source) => ({ ...locate(source), weight: source.weight })),
    merged: merged && locate(merged),
    choices,
    labels: {
      base: base.label,
      sources: sources.map(({ label }) => label),
      merged: merged?.label ?? null,
    },
    planned,
    texts: texts && parseTexts(texts.name, texts.jsonl),
    gate,
    device: deviceName(work.device),
    keep,
  };
}

function foldersOf({ base, sources, merged }: ServingWork): ServingInputs["labels"] {
  return {
    base: base.location,
    sources: sources.map(({ location }) => location),
    merged: merged?.location ?? null,
  };
}
