import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { JobKind, ModelKind, Visibility } from "../../prisma/client/client.ts";
import { type CheckpointFacts, checkpointDigests } from "../../src/core/checkpoint.ts";
import type { ServingFacts } from "../../src/core/evaluation/advice.ts";
import type { EvaluationReport } from "../../src/core/evaluation/report.ts";
import type { Unjudged } from "../../src/core/evaluation/verdict.ts";
import type { Digest } from "../../src/core/identity.ts";
import type { CheckReport } from "../../src/core/parity.ts";
import type { Role, Viewer } from "../../src/core/permissions.ts";
import { ensureAdmin } from "../../src/registry/accounts.ts";
import type { LoadedVersion, StoredVersion, StoreResult } from "../../src/registry/checkpoints.ts";
import type { RegistryContext, ViewerContext } from "../../src/registry/context.ts";
import {
  type EvaluationRequest,
  loadEvaluationWork,
  recordEvaluation,
  startEvaluation,
} from "../../src/registry/evaluations.ts";
import type { Claim } from "../../src/registry/events.ts";
import { claimJob } from "../../src/registry/jobs.ts";
import { loadMergeWork, type MergeRequest, recordMerge, startMerge } from "../../src/registry/merges.ts";
import { recordImport, startImport } from "../../src/registry/models.ts";
import {
  recordServingAdvice,
  type ServingRequest,
  startServingAdvice,
} from "../../src/registry/serving-advice.ts";
import { loadViewer } from "../../src/registry/visibility.ts";
import { readCheckpoint } from "../../src/storage/checkpoint.ts";
import type { TestDatabase } from "./db.ts";
import { exampleMeasured } from "./example-advice.ts";
import { exampleReport, exampleUnjudged } from "./example-report.ts";

const DEMO = fileURLToPath(new URL("../fixtures/demo", import.meta.url));
export const PASSED: CheckReport = { verdict: "PASSED", checks: [], warnings: [] };

/** Folder of the demo family's base or of one of its adapters. */
export function demoFolder(name: string): string {
  return `${DEMO}/${name}`;
}

/**
 * Facts of a demo folder with made-up tensor digests: another `salt`, other bytes. The headers are real, so plans work;
 * nothing is digested, so it is quick.
 */
export async function demoFacts(name: string, salt = ""): Promise<CheckpointFacts> {
  const facts = await readCheckpoint(demoFolder(name), { roots: null });
  const digest = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}` as Digest;
  const weights = facts.weights.map((file) => ({
    ...file,
    tensors: file.tensors.map((tensor) => ({
      ...tensor,
      digest: digest(`${salt} ${tensor.name}`),
      stats: { absmax: 1, rms: 0.5, nonFinite: 0 },
    })),
  }));
  return { ...facts, weights };
}

export interface SeedImport {
  readonly name: string;
  readonly kind: Exclude<ModelKind, "MERGED">;
  /** Folder of the demo family. */
  readonly folder: string;
  readonly salt?: string;
  readonly visibility?: Visibility;
  readonly base?: string;
}

/** Builds states by calling registry functions only, so it cannot build one that the product cannot. */
export interface Seed {
  readonly admin: ViewerContext;
  readonly worker: RegistryContext;
  /** An account with roles in namespaces, which are made if missing. */
  account(name: string, roles: Readonly<Record<string, Role>>): Promise<ViewerContext>;
  as(viewer: Viewer): ViewerContext;
  claim(jobId: string): Promise<Claim>;
  imported(input: SeedImport): Promise<StoredVersion>;
  merged(input: MergeRequest, salt?: string): Promise<StoreResult & { mergeId: string; jobId: string }>;
  /** An evaluation with a report; what is given replaces the whole field of the example. */
  evaluated(
    input: EvaluationRequest,
    changes?: Partial<Unjudged>,
  ): Promise<{ evaluationId: string; jobId: string }>;
  /** A measured advice; what is given replaces the whole field of the example. Returns its job's id. */
  advised(input: ServingRequest, changes?: Partial<ServingFacts>): Promise<string>;
}

export async function seed(test: TestDatabase): Promise<Seed> {
  const queue = await test.queue();
  const worker: RegistryContext = { db: test.db, pool: test.pool, queue, now: () => new Date() };
  const { accountId } = await ensureAdmin(worker, { presetToken: null });
  const as = (viewer: Viewer): ViewerContext => ({ ...worker, viewer });
  const admin = as(await loadViewer(test.db, accountId));

  const claim = async (jobId: string) => {
    const claimed = await claimJob(worker, { jobId, workerId: "test" });
    if (!claimed) throw new Error(`job ${jobId} cannot be claimed`);
    return claimed.claim;
  };
  const imported: Seed["imported"] = async ({ folder, salt, ...request }) => {
    const job = await startImport(admin, { ...request, path: demoFolder(folder) });
    const facts = await demoFacts(folder, salt);
    const read = { facts, digests: checkpointDigests(facts), location: demoFolder(folder) };
    return (await recordImport(worker, await claim(job.id), read)).version;
  };
  const merged: Seed["merged"] = async (request, salt = "merged") => {
    const { job, mergeId } = await startMerge(admin, request);
    const { recipeDigest, base } = await loadMergeWork(test.db, mergeId);
    const made = await demoFacts("base", salt);
    const facts = { ...base.facts, weights: made.weights };
    const stored = await recordMerge(worker, await claim(job.id), {
      facts,
      digests: checkpointDigests(facts),
      location: `/merged/${mergeId}`,
      recipeDigest,
      report: PASSED,
      engineVersion: "0.1.0",
      threads: 1,
    });
    return { ...stored, mergeId, jobId: job.id };
  };
  const evaluated: Seed["evaluated"] = async (request, changes = {}) => {
    const { job, evaluationId } = await startEvaluation(admin, request);
    const report = await reportOf(test, evaluationId, changes);
    await recordEvaluation(worker, await claim(job.id), report);
    return { evaluationId, jobId: job.id };
  };
  const advised: Seed["advised"] = async (request, changes) => {
    const job = await startServingAdvice(admin, request);
    await recordServingAdvice(worker, await claim(job.id), exampleMeasured(changes));
    return job.id;
  };
  return {
    admin,
    worker,
    as,
    claim,
    imported,
    merged,
    evaluated,
    advised,
    account: async (name, roles) => {
      const account = await test.db.account.create({ data: { name } });
      for (const [namespace, role] of Object.entries(roles)) {
        const where = { name: namespace };
        const { id } = await test.db.namespace.upsert({ where, create: where, update: {} });
        await test.db.membership.create({ data: { accountId: account.id, namespaceId: id, role } });
      }
      return as(await loadViewer(test.db, account.id));
    },
  };
}

/** The example report as one of these very bytes under this gate. */
export async function reportOf(
  test: TestDatabase,
  evaluationId: string,
  changes: Partial<Unjudged> = {},
): Promise<EvaluationReport> {
  const { base, sources, candidate, gate, evaluation } = await loadEvaluationWork(test.db, evaluationId);
  const named = ({ label, digest, weightsDigest }: LoadedVersion) => ({
    label,
    version: digest,
    weights: weightsDigest,
  });
  const { reference, ...example } = exampleUnjudged();
  return exampleReport({
    reference: {
      ...reference,
      base: named(base),
      sources: sources.map((source) => ({ ...named(source), weight: source.weight })),
    },
    candidate: candidate
      ? { ...named(candidate), kind: "checkpoint", dtype: "BF16" }
      : { ...example.candidate, label: "the recipe's result", kind: "recipe" },
    gate,
    gateDigest: evaluation.gateDigest as Digest,
    ...changes,
  });
}

export type { JobKind };
