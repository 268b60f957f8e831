import type { Device, Prisma, Version } from "../../prisma/client/client.ts";
import type { RegistryContext } from "./context.ts";
import type { Tx } from "./db.ts";
import { followMerge } from "./evaluation-follow.ts";
import type { Claim } from "./events.ts";
import { finishJob, holdJob } from "./jobs.ts";

/** A merge of a recipe that passed every check so far, with the version it made. */
export interface EarlierResult {
  readonly id: string;
  readonly version: Version;
}

/** Condition for merges whose result can answer for another merge of their recipe. */
export const SOUND = {
  state: "SUCCEEDED",
  cachedFromId: null,
  versionId: { not: null },
  verdict: "PASSED",
  OR: [{ verifyVerdict: null }, { verifyVerdict: "PASSED" }],
} satisfies Prisma.MergeWhereInput;

/**
 * The result of a recipe on a device to answer with: one in the wanted model first, then the newest. Another device's
 * result has other bytes.
 */
export async function findResult(
  tx: Tx,
  { recipeId, device, output }: { recipeId: string; device: Device; output: string },
): Promise<EarlierResult | null> {
  const found = await tx.merge.findMany({
    where: { recipeId, device, ...SOUND },
    orderBy: { id: "desc" },
    include: { version: { include: { model: { select: { name: true } } } } },
  });
  const chosen = found.find((merge) => merge.version?.model.name === output) ?? found[0];
  return chosen?.version ? { id: chosen.id, version: chosen.version } : null;
}

/**
 * Ends a merge, and its job, with the version that the recipe gave before; the evaluation that was asked for with it
 * follows all the same. Throws SUPERSEDED.
 */
export async function recordCached(ctx: RegistryContext, claim: Claim): Promise<void> {
  await ctx.db.$transaction(async (tx) => {
    const { merge, earlier } = await cachedMergeOf(tx, claim);
    const { deviceUse, threads, engineVersion, report, verdict, version } = earlier;
    if (!version) throw new Error(`merge ${earlier.id} has no version to answer with`);
    await tx.merge.update({
      where: { id: merge.id },
      data: {
        state: "SUCCEEDED",
        versionId: version.id,
        threads,
        engineVersion,
        verdict,
        ...(report !== null && { report }),
        ...(deviceUse !== null && { deviceUse }),
        finishedAt: ctx.now(),
      },
    });
    const data = { number: version.number, digest: version.digest, created: false, cached: true };
    await finishJob(tx, claim, { now: ctx.now(), versionId: version.id, data });
    await followMerge(ctx, tx, merge.id);
  });
}

/** Makes a merge whose earlier result is lost an ordinary one, to be executed. Throws SUPERSEDED. */
export async function forgetCached(ctx: RegistryContext, claim: Claim): Promise<void> {
  await ctx.db.$transaction(async (tx) => {
    const { merge } = await cachedMergeOf(tx, claim);
    await tx.merge.update({ where: { id: merge.id }, data: { cachedFromId: null } });
  });
}

async function cachedMergeOf(tx: Tx, claim: Claim) {
  const job = await holdJob(tx, claim);
  if (job.mergeId === null) throw new Error(`job ${job.id} has no merge`);
  const { cachedFrom, ...merge } = await tx.merge.findUniqueOrThrow({
    where: { id: job.mergeId },
    include: { cachedFrom: { include: { version: true } } },
  });
  if (!cachedFrom) throw new Error(`merge ${merge.id} answers with no earlier one`);
  return { merge, earlier: cachedFrom };
}
