import {
  type Device,
  type Job,
  type Merge,
  type MergeVerdict,
  Prisma,
  type Visibility,
} from "../../prisma/client/client.ts";
import type { DeviceUse } from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import type { CheckReport } from "../core/parity.ts";
import { requireRunnable } from "../core/plan.ts";
import { parseRecipe, type Recipe } from "../core/recipe.ts";
import { parseModelName } from "../core/refs.ts";
import { findResult } from "./cached-merges.ts";
import {
  type LoadedVersion,
  loadVersion,
  type StoreResult,
  storeEdge,
  storeVersion,
  type VersionFacts,
} from "./checkpoints.ts";
import { type RegistryContext, requireAccount, type ViewerContext } from "./context.ts";
import type { Db, Tx } from "./db.ts";
import { requireWorkerWith } from "./devices.ts";
import { followMerge } from "./evaluation-follow.ts";
import type { Claim } from "./events.ts";
import { findGate, requireGateWithTexts } from "./gates.ts";
import { earlierJob, finishJob, holdJob, startJob, toJson } from "./jobs.ts";
import { type MergePlanRequest, type PlannedMerge, planFor } from "./merge-plan.ts";
import { findOrMakeModel, findVersion, requireKindOrFree, writableNamespace } from "./models.ts";
import { storeRecipe } from "./recipes.ts";
import { type NamedLines, readLines, storeLines } from "./text-sets.ts";

export interface MergeRequest extends MergePlanRequest {
  /** `owner/name` of the model that gets the version; made if it does not exist. */
  readonly output: string;
  /** For a model that is made. Default PRIVATE. */
  readonly visibility?: Visibility | null | undefined;
  readonly device?: Device | null | undefined;
  /** Merge again even if the result of this recipe exists. */
  readonly force?: boolean | null | undefined;
  /** Evaluate the result under this gate as soon as there is one; default: no evaluation. */
  readonly gate?: string | null | undefined;
  /** For that evaluation; default: the built-in texts. */
  readonly texts?: NamedLines | null | undefined;
  readonly idempotencyKey?: string | null | undefined;
}

/**
 * Accepts a merge: plans it, and makes the merge and its job, or refuses with every reason at once. A recipe whose
 * result the namespace has already (and whose checks passed) is marked `cachedFrom`: its job only looks whether the
 * files are still the recorded ones, and answers with that version.
 * @throws what `planFor`, `findGate` and `readLines` throw, the plan's refusals, DEVICE_UNAVAILABLE, UNAUTHENTICATED,
 *   FORBIDDEN, KIND_DIFFERS, IDEMPOTENCY_CONFLICT
 */
export async function startMerge(
  ctx: ViewerContext,
  request: MergeRequest,
): Promise<{ job: Job; mergeId: string }> {
  requireAccount(ctx.viewer);
  const { idempotencyKey, ...asked } = request;
  const name = parseModelName(request.output, "output");
  const device = request.device ?? "CPU";
  const wanted = { kind: "RUN_MERGE" as const, asked: toJson(asked), idempotencyKey };
  const job = (await earlierJob(ctx, wanted)) ?? (await planAndStart());
  if (job.mergeId === null) throw new Error(`job ${job.id} has no merge`);
  return { job, mergeId: job.mergeId };

  async function planAndStart(): Promise<Job> {
    // Before the transaction: the headers of a large model take a while. What they say never changes.
    const planned = await planFor(ctx, request);
    requireRunnable(planned.plan);
    const evaluation = await readEvaluation(ctx, request);
    await requireWorkerWith(ctx.db, { device, now: ctx.now() });
    return await startJob(ctx, wanted, async (tx, createdById) => {
      const namespaceId = await writableNamespace(tx, ctx, { name, field: "output" });
      // Before the look for an earlier result, which may lie in another model than the named one.
      await requireKindOrFree(tx, { namespaceId, name, kind: "MERGED", field: "output" });
      const recipe = await storeRecipe(tx, namespaceId, planned);
      const cached = request.force
        ? null
        : await findResult(tx, { recipeId: recipe.id, device, output: name.name });
      const visibility = request.visibility ?? "PRIVATE";
      const outputModelId =
        cached?.version.modelId ??
        (await findOrMakeModel(tx, { namespaceId, name, kind: "MERGED", visibility, field: "output" })).id;
      const merge = await tx.merge.create({
        data: {
          namespaceId,
          recipeId: recipe.id,
          outputModelId,
          createdById,
          device,
          plan: planSummary(planned),
          inputs: { create: mergeInputs(planned) },
          createdAt: ctx.now(),
          ...(cached && { cachedFromId: cached.id }),
          ...(evaluation && { gate: toJson(evaluation.gate) }),
          ...(evaluation?.texts && { textsId: await storeLines(tx, namespaceId, evaluation.texts) }),
        },
      });
      const input = { tokenizer: planned.plan.tokenizer.from, force: request.force === true };
      return { namespaceId, kind: "RUN_MERGE", device, input, mergeId: merge.id, modelId: outputModelId };
    });
  }
}

/** What the evaluation after the merge will take; null where none was asked for. */
async function readEvaluation(ctx: ViewerContext, { gate, texts }: MergeRequest) {
  requireGateWithTexts({ gate, texts });
  if (!gate) return null;
  return { gate: (await findGate(ctx, gate)).gate, texts: texts ? readLines("TEXTS", texts, "texts") : null };
}

function planSummary({ plan }: PlannedMerge): Prisma.InputJsonObject {
  const { steps, shards, touched, bytesToRead, bytesToWrite, warnings, tokenizer } = plan;
  return toJson({
    tensors: steps.length,
    shards: shards.length,
    touched: touched.length,
    bytesToRead,
    bytesToWrite,
    tokenizer: { from: tokenizer.from, differences: tokenizer.differences },
    warnings,
  });
}

function mergeInputs({ base, sources }: PlannedMerge) {
  return [
    { position: 0, versionId: base.id, role: "BASE" as const },
    ...sources.map(({ id, weight }, index) => ({
      position: index + 1,
      versionId: id,
      role: "ADAPTER" as const,
      weight,
    })),
  ];
}

/** Everything that a worker needs to run or to verify a merge. */
export interface MergeWork {
  readonly merge: Merge;
  readonly recipe: Recipe;
  readonly recipeDigest: string;
  readonly base: LoadedVersion;
  readonly sources: readonly (LoadedVersion & { readonly weight: number })[];
  /** The version it made; null before it did. */
  readonly version: LoadedVersion | null;
  /** The version that another merge of the recipe made; its files may be gone since. */
  readonly cached: LoadedVersion | null;
}

export async function loadMergeWork(db: Db | Tx, mergeId: string): Promise<MergeWork> {
  const { recipe, inputs, cachedFrom, ...merge } = await db.merge.findUniqueOrThrow({
    where: { id: mergeId },
    include: {
      recipe: true,
      inputs: { orderBy: { position: "asc" } },
      cachedFrom: { select: { versionId: true } },
    },
  });
  const [base, ...sources] = inputs;
  if (!base) throw new Error(`merge ${mergeId} has no inputs`);
  const loaded: (LoadedVersion & { weight: number })[] = [];
  for (const { versionId, weight } of sources) {
    loaded.push({ ...(await loadVersion(db, versionId)), weight: weight ?? 1 });
  }
  return {
    merge,
    recipe: parseRecipe(recipe.document),
    recipeDigest: recipe.digest,
    base: await loadVersion(db, base.versionId),
    sources: loaded,
    version: merge.versionId === null ? null : await loadVersion(db, merge.versionId),
    cached: cachedFrom?.versionId ? await loadVersion(db, cachedFrom.versionId) : null,
  };
}

/** What a merge made, as its worker hands it over. */
export interface MergeOutcome extends VersionFacts {
  readonly recipeDigest: string;
  readonly report: CheckReport;
  readonly engineVersion: string;
  readonly threads: number;
  /** Absent where it is the canonical value. */
  readonly device?: DeviceUse | null;
  /** The version of these bytes exists, but its files are lost or changed: it gets these. */
  readonly replacesLost?: boolean;
}

/**
 * Records the result of a merge in one transaction: version, files, tensors, lineage, the end of merge and job, and
 * the evaluation that was asked for with it.
 * Exactly once: a merge that has its version keeps it. `unusedLocation` names a folder that the caller removes.
 * @throws SUPERSEDED; RECIPE_DIFFERS when the result is not of the recipe that was promised
 */
export async function recordMerge(
  ctx: RegistryContext,
  claim: Claim,
  outcome: MergeOutcome,
): Promise<StoreResult> {
  return await ctx.db.$transaction(async (tx) => {
    const job = await holdJob(tx, claim);
    if (job.mergeId === null) throw new Error(`job ${job.id} has no merge`);
    const merge = await tx.merge.findUniqueOrThrow({
      where: { id: job.mergeId },
      include: { recipe: true, version: true, inputs: true },
    });
    if (merge.recipe.digest !== outcome.recipeDigest) {
      throw new AppError(
        "RECIPE_DIFFERS",
        `The result was made by recipe ${outcome.recipeDigest}, but ${merge.recipe.digest} was asked for.`,
      );
    }
    const { force } = job.input as { force?: boolean };
    const stored: StoreResult = merge.version
      ? { version: merge.version, created: false, unusedLocation: null }
      : await storeVersion(tx, {
          ...outcome,
          modelId: merge.outputModelId,
          origin: "MERGED",
          relocate: force === true || outcome.replacesLost === true,
          now: ctx.now(),
        });
    if (!stored.created && stored.version.location === outcome.location) {
      await forgetVerifications(tx, stored.version.id);
    }
    for (const { versionId, role, weight, position } of merge.inputs) {
      await storeEdge(tx, {
        parentId: versionId,
        childId: stored.version.id,
        relation: "MERGED_FROM",
        role,
        weight,
        position,
        recipeDigest: merge.recipe.digest,
      });
    }
    await tx.merge.update({
      where: { id: merge.id },
      data: {
        versionId: stored.version.id,
        state: "SUCCEEDED",
        finishedAt: ctx.now(),
        report: toJson(outcome.report),
        verdict: outcome.report.verdict,
        engineVersion: outcome.engineVersion,
        threads: outcome.threads,
        ...(outcome.device && { deviceUse: toJson(outcome.device) }),
      },
    });
    await finishJob(tx, claim, {
      now: ctx.now(),
      versionId: stored.version.id,
      data: { number: stored.version.number, digest: stored.version.digest, created: stored.created },
    });
    await followMerge(ctx, tx, merge.id);
    return stored;
  });
}

/** The version has other files now: what was found of the old ones says nothing of these. */
async function forgetVerifications(tx: Tx, versionId: string): Promise<void> {
  await tx.merge.updateMany({
    where: { versionId },
    data: { verification: Prisma.DbNull, verifyVerdict: null, verifiedAt: null },
  });
}

export interface VerifyRequest {
  /** Reference to a merged version. */
  readonly ref: string;
  readonly idempotencyKey?: string | null | undefined;
}

/**
 * Makes a job that derives a merged version again and compares every digest.
 * @throws UNAUTHENTICATED, BAD_REF, NOT_FOUND, FORBIDDEN, NOT_A_MERGE, IDEMPOTENCY_CONFLICT
 */
export async function startVerify(ctx: ViewerContext, request: VerifyRequest): Promise<Job> {
  requireAccount(ctx.viewer);
  const { ref, idempotencyKey } = request;
  return await startJob(ctx, { kind: "VERIFY_MERGE", asked: { ref }, idempotencyKey }, async (tx) => {
    const version = await findVersion(tx, ctx, { ref, field: "ref" });
    const model = await tx.model.findUniqueOrThrow({
      where: { id: version.modelId },
      include: { namespace: { select: { name: true } } },
    });
    const name = { namespace: model.namespace.name, name: model.name };
    const namespaceId = await writableNamespace(tx, ctx, { name, field: "ref" });
    // Several recipes may have these bytes; the first is the one that the version says made it.
    const merge = await tx.merge.findFirst({
      where: { versionId: version.id, state: "SUCCEEDED", cachedFromId: null },
      orderBy: { id: "asc" },
    });
    if (!merge) {
      throw new AppError(
        "NOT_A_MERGE",
        `${ref} was not made by a merge here; there is nothing to derive it from.`,
        {
          field: "ref",
        },
      );
    }
    const ids = { mergeId: merge.id, versionId: version.id, modelId: version.modelId };
    return { namespaceId, kind: "VERIFY_MERGE", input: {}, ...ids };
  });
}

/** Records what a verification found, and ends its job. Throws SUPERSEDED. */
export async function recordVerify(
  ctx: RegistryContext,
  claim: Claim,
  found: { readonly verdict: MergeVerdict; readonly report: object },
): Promise<void> {
  await ctx.db.$transaction(async (tx) => {
    const job = await holdJob(tx, claim);
    if (job.mergeId === null) throw new Error(`job ${job.id} has no merge`);
    await tx.merge.update({
      where: { id: job.mergeId },
      data: { verification: toJson(found.report), verifyVerdict: found.verdict, verifiedAt: ctx.now() },
    });
    await finishJob(tx, claim, { now: ctx.now(), data: { verdict: found.verdict } });
  });
}
