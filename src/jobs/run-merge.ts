import { checkpointDigests } from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import type { Digest } from "../core/identity.ts";
import type { CheckReport } from "../core/parity.ts";
import { recipeChoices } from "../core/recipe.ts";
import { ENGINE } from "../core/record.ts";
import { failAt } from "../engine/events.ts";
import { runMerge as executeMerge } from "../engine/merge.ts";
import { adoptMerge } from "../engine/verify.ts";
import { forgetCached, recordCached } from "../registry/cached-merges.ts";
import type { LoadedVersion } from "../registry/checkpoints.ts";
import { deviceName } from "../registry/devices.ts";
import { planLoaded } from "../registry/merge-plan.ts";
import { isRecorded } from "../registry/merged-folders.ts";
import { loadMergeWork, type MergeOutcome, type MergeWork, recordMerge } from "../registry/merges.ts";
import { readCheckpoint } from "../storage/checkpoint.ts";
import {
  discardStagings,
  earlierStagings,
  isMergedFolder,
  mergedFolder,
  setAside,
} from "../storage/merged-folder.ts";
import { discard, exists, requireUnchanged } from "../storage/staging.ts";
import type { JobDefinition, JobRun } from "./job.ts";
import { withinMemory } from "./memory.ts";

type Made = Pick<MergeOutcome, "facts" | "digests" | "report" | "recipeDigest" | "device">;

/** Merges at once, as far as the memory goes; a small one need not wait for a large one. */
const AT_ONCE = 4;

/**
 * Executes a merge into `$GRAFTWORK_HOME/merged/<merge id>` and records the version. A folder that an interrupted
 * attempt finished is taken over by its digests; what unfinished attempts left is removed.
 */
export const runMerge: JobDefinition = {
  kind: "RUN_MERGE",
  concurrency: AT_ONCE,
  handle: async (run) => {
    const work = await run.patiently(() => loadMergeWork(run.registry.db, mergeOf(run)));
    const { output } = placeOf(run);
    const made = await make(run, work);
    await discardStagings(run.settings.home, work.merge.id, run.claim.attempt);
    if (made === null) return;
    const outcome = {
      ...made,
      location: output,
      engineVersion: ENGINE.version,
      threads: run.engine.threads,
      replacesLost: work.cached !== null,
    };
    const { unusedLocation } = await run.patiently(() => recordMerge(run.registry, run.claim, outcome));
    failAt("after-record", run.engine.failpoint);
    if (unusedLocation !== null) await discard(unusedLocation);
  },
  discard: async (run) => {
    const { output } = placeOf(run);
    await discardStagings(run.settings.home, mergeOf(run), run.claim.attempt);
    if (!(await isRecorded(run.registry.db, mergeOf(run)))) await discard(output);
  },
};

/** `null`: the merge is answered with an earlier result of its recipe. */
async function make(run: JobRun, work: MergeWork): Promise<Made | null> {
  if (work.cached !== null && (await answerFromCache(run, work.cached))) return null;
  return (await adoptFinished(run, work)) ?? (await execute(run, work));
}

function mergeOf({ claim, mergeId }: Pick<JobRun, "claim" | "mergeId">): string {
  if (mergeId === null) throw new Error(`job ${claim.jobId} has no merge`);
  return mergeId;
}

function placeOf(run: Pick<JobRun, "claim" | "mergeId" | "settings">) {
  return mergedFolder(run.settings.home, mergeOf(run), run.claim.attempt);
}

/** Answers with the version that the recipe gave before, if its files are still the recorded ones; else forgets it. */
async function answerFromCache(run: JobRun, { location, facts, label }: LoadedVersion): Promise<boolean> {
  try {
    await requireUnchanged(location, facts.files);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const message = `${label} is the result of this recipe, but its files are not as they were written: ${error.message} It is merged again.`;
    await run.emit({ type: "warning", data: { code: "CACHED_RESULT_LOST", message, subject: label } });
    await run.patiently(() => forgetCached(run.registry, run.claim));
    return false;
  }
  await run.patiently(() => recordCached(run.registry, run.claim));
  return true;
}

/** Takes over a finished folder; one that is not this merge's result is set aside, not overwritten. */
async function adoptFinished(run: JobRun, work: MergeWork): Promise<Made | null> {
  const { output } = placeOf(run);
  if (!(await exists(output))) return null;
  await run.emit({ type: "progress-note", data: { message: `checking the finished folder ${output}` } });
  const adopted = await readFinished(run, output, work.recipeDigest as Digest);
  if (adopted === null || (adopted.record.device?.device ?? "cpu") !== deviceName(work.merge.device)) {
    const aside = await setAside(output, run.claim.attempt);
    const message = `${output} stood where this merge writes but is not its result; it was moved to ${aside}.`;
    await run.emit({ type: "warning", data: { code: "OUTPUT_SET_ASIDE", message, subject: output } });
    return null;
  }
  const { facts, record } = adopted;
  const { recipeDigest, device = null } = record;
  return { facts, digests: checkpointDigests(facts), recipeDigest, device, report: ADOPTED };
}

async function readFinished(run: JobRun, folder: string, recipe: Digest) {
  try {
    return await adoptMerge(
      { folder, facts: await readCheckpoint(folder, { roots: null }) },
      recipe,
      run.engine,
    );
  } catch (error) {
    run.signal.throwIfAborted();
    if (error instanceof AppError) return null;
    throw error;
  }
}

/** Such a folder was checked before it was renamed into view; its report was lost with the process. */
const ADOPTED: CheckReport = {
  verdict: "PASSED",
  checks: [
    {
      level: 1,
      name: "taken over by digest after an interruption",
      passed: true,
      detail: "every tensor was read again and has the digest that was recorded when the merge was checked",
    },
  ],
  warnings: [],
};

async function execute(run: JobRun, work: MergeWork): Promise<Made> {
  const { base, sources, recipe } = work;
  const { plan } = planLoaded({ base, sources, choices: recipeChoices(recipe), strictBase: false });
  const { home } = run.settings;
  const locate = ({ location, facts }: LoadedVersion) => ({
    folder: location,
    facts,
    immutable: isMergedFolder(home, location),
  });
  const device = deviceName(work.merge.device);
  const hint = ({ location, label }: LoadedVersion) => ({ path: location, ref: label });
  const input = {
    plan,
    base: locate(base),
    sources: sources.map(locate),
    ...placeOf(run),
    weights: sources.map((source) => source.weight),
    recipe,
    ...(device !== "cpu" && { device }),
    earlier: await earlierStagings(home, work.merge.id, run.claim.attempt),
    hints: { base: hint(base), sources: sources.map(hint) },
  };
  const waiting = (message: string) => run.emit({ type: "progress-note", data: { message } });
  return await withinMemory({ ...run, waiting }, plan.memory, (engine) =>
    run.follow(executeMerge(input, engine)),
  );
}
