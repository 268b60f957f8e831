import { allTensors } from "../core/checkpoint.ts";
import type { Digest } from "../core/identity.ts";
import { recipeChoices } from "../core/recipe.ts";
import { ENGINE, type MergeRecord, parseDeviceUse } from "../core/record.ts";
import { runVerify } from "../engine/verify.ts";
import type { LoadedVersion } from "../registry/checkpoints.ts";
import { planLoaded } from "../registry/merge-plan.ts";
import { loadMergeWork, type MergeWork, recordVerify } from "../registry/merges.ts";
import { readCheckpoint } from "../storage/checkpoint.ts";
import type { JobDefinition } from "./job.ts";
import { withinMemory } from "./memory.ts";

/** Derives a merged version again from its inputs and compares recorded, stored and derived digests. */
export const verifyMerge: JobDefinition = {
  kind: "VERIFY_MERGE",
  concurrency: 1,
  handle: async (run) => {
    const { mergeId } = run;
    if (mergeId === null) throw new Error(`job ${run.claim.jobId} has no merge`);
    const work = await run.patiently(() => loadMergeWork(run.registry.db, mergeId));
    const { version, base, sources, recipe } = work;
    if (version === null) throw new Error(`merge ${mergeId} has no version`);
    const { plan } = planLoaded({ base, sources, choices: recipeChoices(recipe), strictBase: false });
    const locate = ({ location, facts }: LoadedVersion) => ({ folder: location, facts });
    const input = {
      plan,
      base: locate(base),
      sources: sources.map(locate),
      // Read afresh: whether the files are still what was recorded is the question.
      merged: { folder: version.location, facts: await readCheckpoint(version.location, { roots: null }) },
      record: recordOf(work, version),
    };
    const waiting = (message: string) => run.emit({ type: "progress-note", data: { message } });
    const report = await withinMemory({ ...run, waiting }, plan.memory, (engine) =>
      run.follow(runVerify(input, engine)),
    );
    const verdict = report.verdict === "DIFFERENT" ? "FAILED" : "PASSED";
    await run.patiently(() => recordVerify(run.registry, run.claim, { verdict, report }));
  },
};

/** What the database says of the merge; the folder's own graftwork.json could have been changed with the weights. */
function recordOf({ recipe, recipeDigest, merge }: MergeWork, version: LoadedVersion): MergeRecord {
  return {
    schema: 1,
    recipe,
    recipeDigest: recipeDigest as Digest,
    output: {
      version: version.digest,
      weights: version.weightsDigest,
      tensors: Object.fromEntries(allTensors(version.facts).map((tensor) => [tensor.name, tensor.digest!])),
    },
    engine: { ...ENGINE, version: merge.engineVersion ?? ENGINE.version },
    ...(merge.deviceUse !== null && { device: parseDeviceUse(merge.deviceUse) }),
    hints: { base: {}, sources: [] },
  };
}
