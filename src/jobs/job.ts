import { z } from "zod";
import { AppError, type Finding } from "../core/errors.ts";
import type { EngineEvent, EngineOptions, Failpoint, Stage } from "../engine/events.ts";
import type { RegistryContext } from "../registry/context.ts";
import { isConnectionError } from "../registry/db.ts";
import { appendEvent, type Claim, type EventBody, setProgress } from "../registry/events.ts";
import {
  claimJob,
  countFailures,
  failJob,
  hasEnded,
  holdsJob,
  type JobFailure,
  type RetryReason,
  retryJob,
  toJson,
} from "../registry/jobs.ts";
import type { Delivery, QUEUE_OF } from "../registry/queue.ts";
import { follow } from "./follow.ts";
import type { MemoryBudget } from "./memory.ts";
import { withPatience } from "./patience.ts";

export interface JobSettings {
  /** GRAFTWORK_HOME, absolute. */
  readonly home: string;
  readonly importRoots: readonly string[];
  readonly threads: number;
  /** Bytes that all merges of this worker may take together. */
  readonly memory: number;
  readonly failpoint: Failpoint | null;
}

type Tell = (message: string, fields?: Readonly<Record<string, unknown>>) => void;

/** What every job runs with. */
export interface JobContext {
  readonly registry: RegistryContext;
  readonly settings: JobSettings;
  readonly log: { readonly info: Tell; readonly warn: Tell; readonly error: Tell };
  readonly memory: MemoryBudget;
  /** Names this worker in events: host and process id. */
  readonly workerId: string;
  /** Aborted when the worker stops; jobs are then handed back to the queue. */
  readonly stopping: AbortSignal;
}

/** One attempt at one job. */
export interface JobRun extends JobContext {
  readonly claim: Claim;
  /** What the mutation stored for the handler. */
  readonly input: unknown;
  readonly mergeId: string | null;
  readonly evaluationId: string | null;
  /** Aborted when the job was cancelled or taken over, and when it is interrupted. */
  readonly signal: AbortSignal;
  /** Aborted when the worker stops or the queue takes the job back: it goes on elsewhere or later. */
  readonly interrupted: AbortSignal;
  /** Options for the engine. */
  readonly engine: EngineOptions;
  /** Adds an event for whoever watches. */
  emit(event: EventBody): Promise<void>;
  /** Runs engine work, storing its stages and warnings as events and its progress in the row. */
  follow<T>(work: AsyncGenerator<EngineEvent, T>): Promise<T>;
  /** Does a read or one fenced transaction, again and again while the database is away. */
  patiently<T>(work: () => Promise<T>): Promise<T>;
}

export interface JobDefinition {
  readonly kind: keyof typeof QUEUE_OF;
  /** How many of a kind one worker runs at once. */
  readonly concurrency: number;
  /** Ends by recording its result, which ends the job in the same transaction. May run twice without harm. */
  handle(run: JobRun): Promise<void>;
  /** Removes what it wrote and no version names; called when the job ended otherwise than by this run. */
  discard?(run: Pick<JobRun, "registry" | "settings" | "claim" | "mergeId">): Promise<void>;
}

const payload = z.object({ jobId: z.uuid() });

/** How often one job may fail by a bug or an accident before it is given up. */
const MAX_FAILURES = 3;
const WATCH_MS = 500;

/**
 * Runs one delivery of the queue. Returns when the job has ended or belongs to somebody else; throws to have it
 * delivered again.
 */
export async function runDelivery(
  ctx: JobContext,
  definition: JobDefinition,
  delivery: Delivery,
): Promise<void> {
  ctx.stopping.throwIfAborted();
  const { jobId } = payload.parse({ jobId: delivery.jobId });
  const interrupted = AbortSignal.any([ctx.stopping, delivery.signal]);
  const claimed = await withPatience(
    () => claimJob(ctx.registry, { jobId, workerId: ctx.workerId }),
    interrupted,
  );
  if (!claimed) return;
  const { job, claim } = claimed;
  const watch = watchClaim(ctx, claim);
  const signal = AbortSignal.any([watch.signal, interrupted]);
  const { input, mergeId, evaluationId } = job;
  const run = makeRun(ctx, { claim, signal, interrupted, input, mergeId, evaluationId });
  ctx.log.info("job started", { jobId, kind: job.kind, attempt: claim.attempt });
  try {
    await definition.handle(run);
    ctx.log.info("job done", { jobId });
  } catch (error) {
    await settle(run, definition, signal.aborted ? (signal.reason ?? error) : error);
  } finally {
    watch.stop();
  }
}

/** What stages that move no bytes count. */
const UNITS: Partial<Record<Stage, string>> = { logits: "layers", text: "tokens", tasks: "tokens" };

type RunParts = Pick<JobRun, "claim" | "signal" | "interrupted" | "input" | "mergeId" | "evaluationId">;

function makeRun(ctx: JobContext, parts: RunParts): JobRun {
  const { claim, signal } = parts;
  const { db } = ctx.registry;
  const { threads, failpoint } = ctx.settings;
  const patiently = <T>(work: () => Promise<T>) => withPatience(work, signal);
  const emit = async (event: EventBody) => {
    await patiently(() => appendEvent(db, claim, event));
  };
  return {
    ...ctx,
    ...parts,
    engine: { threads, signal, ...(failpoint && { failpoint }) },
    emit,
    patiently,
    follow: (work) =>
      follow(work, {
        stage: async (stage, message) => {
          await emit({ type: "stage", data: { stage, message } });
          await passing(setProgress(db, claim, { stage, done: 0, total: 0 }));
        },
        progress: (stage, done, total) =>
          passing(setProgress(db, claim, { stage, done, total, unit: UNITS[stage] ?? "bytes" })),
        warning: (finding) => emit({ type: "warning", data: toJson(finding) }),
      }),
  };
}

/** Progress is overwritten soon: not worth waiting for while the database is away. */
async function passing(write: Promise<void>): Promise<void> {
  await write.catch((error) => {
    if (!isConnectionError(error)) throw error;
  });
}

/** Looks at the row twice a second, so that a cancelled job stops in the middle of a long step too. */
function watchClaim(ctx: JobContext, claim: Claim): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  let looking = false;
  const timer = setInterval(async () => {
    if (looking) return;
    looking = true;
    try {
      if (!(await holdsJob(ctx.registry.db, claim))) {
        clearInterval(timer);
        controller.abort(new AppError("SUPERSEDED", `job ${claim.jobId} was cancelled or taken over`));
      }
    } catch {
      // The database is away; nobody can have taken the job meanwhile without it coming back.
    } finally {
      looking = false;
    }
  }, WATCH_MS);
  return { signal: controller.signal, stop: () => clearInterval(timer) };
}

/** What happens to a job whose handler threw. Throws to have it delivered again. */
async function settle(run: JobRun, definition: JobDefinition, error: unknown): Promise<void> {
  const { claim, registry, log } = run;
  const { jobId } = claim;
  try {
    if (isSuperseded(error)) throw error;
    const verdict = await judge(run, error);
    if ("retry" in verdict) {
      await patient(() => retryJob(registry, claim, verdict.retry));
      log.warn("job will be tried again", { jobId, reason: verdict.retry.message });
      throw new HandedBack(verdict.retry.message);
    }
    await patient(() => failJob(registry, claim, verdict.fail));
    log.warn("job failed", { jobId, code: verdict.fail.code, error });
  } catch (outcome) {
    if (!isSuperseded(outcome)) throw outcome;
    log.info("job is not ours any more", { jobId, attempt: claim.attempt });
  }
  if (await patient(() => hasEnded(registry.db, jobId))) await definition.discard?.(run);
}

/** Thrown to the queue, which delivers the job again. */
class HandedBack extends Error {}

/** An expected failure ends the job; an interruption does not count; anything else may pass, but not for ever. */
async function judge(run: JobRun, error: unknown): Promise<{ retry: RetryReason } | { fail: JobFailure }> {
  if (run.interrupted.aborted) return { retry: { code: "INTERRUPTED", message: "its worker was stopped" } };
  if (error instanceof AppError) {
    const { code, message, reasons, details } = error;
    const extras = { ...(reasons && { reasons: reasons.map(plainFinding) }), ...(details && { details }) };
    return { fail: { code, message, ...extras } };
  }
  // What happened beyond that is for the log: such messages hold hosts, paths and statements, and members read jobs.
  if (isConnectionError(error)) {
    run.log.warn("job lost the database", { jobId: run.claim.jobId, error });
    return { retry: { code: "DATABASE_LOST", message: "the database went away" } };
  }
  run.log.error("job met an unexpected error", { jobId: run.claim.jobId, error });
  const failures = await patient(() => countFailures(run.registry.db, run.claim.jobId));
  if (failures + 1 < MAX_FAILURES) {
    const message = `an unexpected error; the server's log has it under job ${run.claim.jobId}`;
    return { retry: { code: "INTERNAL", message } };
  }
  return {
    fail: {
      code: "INTERNAL",
      message:
        `this job failed ${MAX_FAILURES} times with an unexpected error. ` +
        `The server's log has the details under job ${run.claim.jobId}; please report them.`,
    },
  };
}

/** Also when the job's own signal is aborted: how it ended must be written all the same. */
function patient<T>(write: () => Promise<T>): Promise<T> {
  return withPatience(write, new AbortController().signal);
}

function plainFinding({ code, message, subject }: Finding) {
  return { code, message, ...(subject !== undefined && { subject }) };
}

function isSuperseded(error: unknown): boolean {
  return error instanceof AppError && error.code === "SUPERSEDED";
}
