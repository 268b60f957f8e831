import type { Device, Job, JobKind, Prisma } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import { digestJson } from "../core/identity.ts";
import { isMember, mayWrite } from "../core/permissions.ts";
import { notFound, type RegistryContext, requireAccount, type ViewerContext } from "./context.ts";
import { type Db, lockName, type Tx } from "./db.ts";
import { appendEvent, appendUnfenced, type Claim, type EventBody, superseded } from "./events.ts";
import { undeliverable } from "./queue.ts";

export interface NewJob {
  readonly namespaceId: string;
  readonly kind: JobKind;
  /** That its worker must have; default CPU. */
  readonly device?: Device;
  /** What the handler needs beyond rows it can load; JSON. */
  readonly input: Prisma.InputJsonObject;
  readonly modelId?: string;
  readonly mergeId?: string;
  readonly versionId?: string;
  readonly evaluationId?: string;
}

export interface JobRequest {
  readonly kind: JobKind;
  /** The mutation's whole input, as asked: what has to be equal for the key to mean the same. */
  readonly asked: Prisma.InputJsonObject;
  readonly idempotencyKey?: string | null | undefined;
}

/**
 * The job that this account made earlier under this key, before anything slow is done for a repeated request. Not a
 * substitute for `startJob`'s own look, which waits for requests that are under way.
 * @throws IDEMPOTENCY_CONFLICT, BAD_INPUT
 */
export async function earlierJob(ctx: ViewerContext, request: JobRequest): Promise<Job | null> {
  const accountId = requireAccount(ctx.viewer);
  const idempotencyKey = readKey(request);
  if (idempotencyKey === null) return null;
  return await findEarlier(ctx.db, { accountId, idempotencyKey, inputDigest: inputDigestOf(request) });
}

/** A key that an index can hold and Postgres can store. @throws BAD_INPUT */
function readKey({ idempotencyKey }: JobRequest): string | null {
  if (idempotencyKey === null || idempotencyKey === undefined) return null;
  if (/^.{1,200}$/s.test(idempotencyKey) && isStorable(idempotencyKey)) return idempotencyKey;
  throw new AppError(
    "BAD_INPUT",
    "An idempotency key has 1 to 200 characters, none of them NUL: a UUID, for example.",
    { field: "idempotencyKey" },
  );
}

/** Whether Postgres and JSON take a text as it is: no NUL, no half of a surrogate pair. */
export function isStorable(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}

/** @throws BAD_INPUT for half of a surrogate pair anywhere in the input: it has no bytes to digest */
function inputDigestOf({ kind, asked }: JobRequest): string {
  const broken = brokenText(asked, []);
  if (broken === null) return digestJson({ kind, asked });
  throw new AppError(
    "BAD_INPUT",
    `${broken.join(".")} holds half of a surrogate pair, which has no bytes in UTF-8. Repair the text.`,
  );
}

/** Where a text stands that is not well-formed; null where all are. */
function brokenText(value: unknown, at: readonly string[]): readonly string[] | null {
  if (typeof value === "string") return value.isWellFormed() ? null : at;
  if (typeof value !== "object" || value === null) return null;
  for (const [key, part] of Object.entries(value)) {
    const found = brokenText(part, [...at, key.toWellFormed()]);
    if (found !== null) return found;
  }
  return null;
}

/**
 * Makes a job with the rows that `build` writes, all in one transaction with its place in the queue. The same account
 * asking again with the same key gets the same job, and `build` does not run.
 * @throws IDEMPOTENCY_CONFLICT for a key that was used with other input
 */
export async function startJob(
  ctx: ViewerContext,
  request: JobRequest,
  build: (tx: Tx, accountId: string) => Promise<NewJob>,
): Promise<Job> {
  const accountId = requireAccount(ctx.viewer);
  const inputDigest = inputDigestOf(request);
  const idempotencyKey = readKey(request);
  return await ctx.db.$transaction(async (tx) => {
    if (idempotencyKey !== null) {
      // Two requests with one key at the same moment: the second waits here and then finds the first one's job.
      await lockName(tx, `${accountId} ${idempotencyKey}`);
      const earlier = await findEarlier(tx, { accountId, idempotencyKey, inputDigest });
      if (earlier) return earlier;
    }
    const fields = await build(tx, accountId);
    return await addJob(ctx, tx, { ...fields, createdById: accountId, inputDigest, idempotencyKey });
  });
}

interface JobRow extends NewJob {
  readonly createdById: string;
  readonly inputDigest: string;
  readonly idempotencyKey: string | null;
}

async function addJob(ctx: RegistryContext, tx: Tx, row: JobRow): Promise<Job> {
  const { id, kind, device } = await tx.job.create({ data: { ...row, createdAt: ctx.now() } });
  await appendUnfenced(tx, id, { type: "queued", data: {} });
  await ctx.queue.enqueue(tx, { id, kind, device });
  return await tx.job.findUniqueOrThrow({ where: { id } });
}

/** Makes a job that nobody asked for by itself: it follows from one that just recorded its result in `tx`. */
export async function followJob(
  ctx: RegistryContext,
  tx: Tx,
  job: NewJob & { readonly createdById: string },
): Promise<Job> {
  const { kind, input } = job;
  return await addJob(ctx, tx, {
    ...job,
    inputDigest: inputDigestOf({ kind, asked: input }),
    idempotencyKey: null,
  });
}

async function findEarlier(
  tx: Db | Tx,
  wanted: { accountId: string; idempotencyKey: string; inputDigest: string },
): Promise<Job | null> {
  const { accountId, idempotencyKey, inputDigest } = wanted;
  const job = await tx.job.findUnique({
    where: { createdById_idempotencyKey: { createdById: accountId, idempotencyKey } },
  });
  if (!job || job.inputDigest === inputDigest) return job;
  throw new AppError(
    "IDEMPOTENCY_CONFLICT",
    `The idempotency key "${idempotencyKey}" was used before with other input. Use a new key for a new request.`,
    { field: "idempotencyKey", details: { jobId: job.id } },
  );
}

/**
 * Takes a job for a worker: a new attempt, which voids every earlier one. Null when there is nothing to do any more,
 * because it ended or was cancelled: a queue may deliver twice.
 */
export async function claimJob(
  ctx: RegistryContext,
  input: { readonly jobId: string; readonly workerId: string },
): Promise<{ job: Job; claim: Claim } | null> {
  return await ctx.db.$transaction(async (tx) => {
    const [job] = await tx.job.updateManyAndReturn({
      where: { id: input.jobId, state: { in: ["QUEUED", "RUNNING"] } },
      data: {
        attempt: { increment: 1 },
        state: "RUNNING",
        workerId: input.workerId,
        stage: null,
        progressDone: 0,
        progressTotal: 0,
      },
    });
    if (!job) return null;
    const now = ctx.now();
    await tx.job.updateMany({ where: { id: job.id, startedAt: null }, data: { startedAt: now } });
    if (job.kind === "RUN_MERGE" && job.mergeId !== null) {
      await tx.merge.update({ where: { id: job.mergeId }, data: { state: "RUNNING" } });
      await tx.merge.updateMany({ where: { id: job.mergeId, startedAt: null }, data: { startedAt: now } });
    }
    if (job.kind === "RUN_EVALUATION" && job.evaluationId !== null) {
      const { evaluationId: id } = job;
      await tx.evaluation.update({ where: { id }, data: { state: "RUNNING" } });
      await tx.evaluation.updateMany({ where: { id, startedAt: null }, data: { startedAt: now } });
    }
    const claim = { jobId: job.id, attempt: job.attempt };
    await appendEvent(tx, claim, { type: "claimed", data: { attempt: job.attempt, worker: input.workerId } });
    return { job, claim };
  });
}

/**
 * Locks the job's row for the rest of the transaction, so that no other attempt can take it over meanwhile. The first
 * statement of every transaction in which a worker records something. Throws SUPERSEDED.
 */
export async function holdJob(tx: Tx, claim: Claim): Promise<Job> {
  const [job] = await tx.job.updateManyAndReturn({
    where: { id: claim.jobId, attempt: claim.attempt, state: "RUNNING" },
    data: { attempt: claim.attempt },
  });
  if (!job) throw superseded(claim);
  return job;
}

/** Whether this attempt still holds its job. */
export async function holdsJob(db: Db | Tx, claim: Claim): Promise<boolean> {
  const { jobId: id, attempt } = claim;
  return (await db.job.count({ where: { id, attempt, state: "RUNNING" } })) > 0;
}

/** Ends a held job as done; part of the transaction that records its result. */
export async function finishJob(
  tx: Tx,
  claim: Claim,
  result: {
    readonly now: Date;
    readonly modelId?: string;
    readonly versionId?: string;
    readonly data?: Prisma.InputJsonObject;
  },
): Promise<void> {
  const { now, data = {}, ...ids } = result;
  await appendEvent(tx, claim, { type: "succeeded", data });
  await tx.job.update({ where: { id: claim.jobId }, data: { ...ids, state: "SUCCEEDED", finishedAt: now } });
}

export interface JobFailure {
  readonly code: string;
  readonly message: string;
  readonly reasons?: readonly { code: string; message: string; subject?: string }[];
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Ends a job that this attempt holds as failed for good, and its merge or evaluation with it. Throws SUPERSEDED. */
export async function failJob(ctx: RegistryContext, claim: Claim, error: JobFailure): Promise<void> {
  await ctx.db.$transaction(async (tx) => {
    const job = await holdJob(tx, claim);
    await endJob(tx, {
      job,
      state: "FAILED",
      now: ctx.now(),
      error,
      event: { type: "failed", data: toJson(error) },
    });
  });
}

/** Why an attempt gives up for now. Only `INTERNAL` counts against the job. */
export interface RetryReason {
  readonly code: "INTERNAL" | "DATABASE_LOST" | "INTERRUPTED";
  readonly message: string;
}

/**
 * Notes that this attempt gives up for now; the handler then throws, and the queue delivers the job again. Throws
 * SUPERSEDED.
 */
export async function retryJob(ctx: RegistryContext, claim: Claim, reason: RetryReason): Promise<void> {
  await ctx.db.$transaction(async (tx) => {
    const { code, message } = reason;
    await appendEvent(tx, claim, { type: "retrying", data: { code, reason: message } });
    await tx.job.update({ where: { id: claim.jobId }, data: { state: "QUEUED" } });
  });
}

/** How many attempts at a job gave up by an unexpected error. */
export async function countFailures(db: Db, jobId: string): Promise<number> {
  return await db.jobEvent.count({
    where: { jobId, type: "retrying", data: { path: ["code"], equals: "INTERNAL" } },
  });
}

/** Whether a job has succeeded, failed or been cancelled: nobody will work on it again. */
export async function hasEnded(db: Db, jobId: string): Promise<boolean> {
  return (await db.job.count({ where: { id: jobId, state: { in: ["QUEUED", "RUNNING"] } } })) === 0;
}

/**
 * Stops a job: at once for its readers, within seconds for the worker that runs it. Cancelling twice is the same as once.
 * @throws NOT_FOUND, FORBIDDEN, JOB_ENDED
 */
export async function cancelJob(ctx: ViewerContext, input: { readonly jobId: string }): Promise<Job> {
  requireAccount(ctx.viewer);
  return await ctx.db.$transaction(async (tx) => {
    await tx.$queryRaw`select 1 as locked from jobs where id = ${input.jobId}::uuid for update`;
    const job = await tx.job.findUnique({ where: { id: input.jobId } });
    if (!job || !isMember(ctx.viewer, job.namespaceId)) throw notFound(`Job ${input.jobId}`, "jobId");
    if (!mayWrite(ctx.viewer, job.namespaceId)) {
      throw new AppError("FORBIDDEN", "Stopping a job needs the role EDITOR in its namespace.", {
        field: "jobId",
      });
    }
    if (job.state === "CANCELLED") return job;
    if (job.state !== "QUEUED" && job.state !== "RUNNING") {
      const how = job.state === "FAILED" ? "failed" : "succeeded";
      throw new AppError("JOB_ENDED", `The job has ${how} already; there is nothing to stop.`, {
        field: "jobId",
      });
    }
    await ctx.queue.cancel(tx, job);
    const event: EventBody = { type: "cancelled", data: { by: ctx.viewer.accountId } };
    await endJob(tx, { job, state: "CANCELLED", now: ctx.now(), event });
    return await tx.job.findUniqueOrThrow({ where: { id: job.id } });
  });
}

/**
 * Ends as failed what its queue has given up, for example a job whose worker was killed each time. Call it now and
 * then, and at start-up; returns how many there were.
 */
export async function failLostJobs(ctx: RegistryContext): Promise<number> {
  const open = await ctx.db.job.findMany({
    where: { state: { in: ["QUEUED", "RUNNING"] } },
    select: { id: true },
  });
  let failed = 0;
  for (const id of await undeliverable(
    ctx.db,
    open.map((job) => job.id),
  )) {
    failed += await ctx.db.$transaction(async (tx) => {
      await tx.$queryRaw`select 1 as locked from jobs where id = ${id}::uuid for update`;
      const job = await tx.job.findUniqueOrThrow({ where: { id } });
      // It may have ended between the two looks.
      if (job.state !== "QUEUED" && job.state !== "RUNNING") return 0;
      if ((await undeliverable(tx, [id])).length === 0) return 0;
      const error = {
        code: "WORKER_LOST",
        message: `Every worker that took this job was lost, ${job.attempt} times. The server's log may say why; start it again.`,
      };
      await endJob(tx, {
        job,
        state: "FAILED",
        now: ctx.now(),
        error,
        event: { type: "failed", data: error },
      });
      return 1;
    });
  }
  return failed;
}

interface End {
  readonly job: Job;
  readonly state: "FAILED" | "CANCELLED";
  readonly now: Date;
  readonly event: EventBody;
  readonly error?: JobFailure;
}

async function endJob(tx: Tx, { job, state, now, event, error }: End): Promise<void> {
  await appendUnfenced(tx, job.id, event);
  await tx.job.update({
    where: { id: job.id },
    data: { state, finishedAt: now, ...(error && { error: toJson(error) }) },
  });
  if (job.kind === "RUN_MERGE" && job.mergeId !== null) {
    await tx.merge.update({ where: { id: job.mergeId }, data: { state, finishedAt: now } });
  }
  if (job.kind === "RUN_EVALUATION" && job.evaluationId !== null) {
    await tx.evaluation.update({ where: { id: job.evaluationId }, data: { state, finishedAt: now } });
  }
}

/** The JSON of an object with optional and readonly fields, as Prisma wants it. */
export function toJson(value: object): Prisma.InputJsonObject {
  return JSON.parse(JSON.stringify(value)) as Prisma.InputJsonObject;
}
