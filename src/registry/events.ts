import type pg from "pg";
import type { Prisma } from "../../prisma/client/client.ts";
import { AppError } from "../core/errors.ts";
import type { RegistryContext } from "./context.ts";
import type { Db, Tx } from "./db.ts";

/** What can happen to a job; the last three end it. */
export type JobEventType =
  | "queued"
  | "claimed"
  | "stage"
  | "progress-note"
  | "warning"
  | "retrying"
  | "succeeded"
  | "failed"
  | "cancelled";

const TERMINAL: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);
const CHANNEL = "graftwork_job_events";
const PAGE = 200;
/** Notifications wake a reader at once; this is for those that get lost with their connection. */
const POLL_MS = 1000;

/** A worker's right to write a job: void as soon as another attempt took the job over. */
export interface Claim {
  readonly jobId: string;
  readonly attempt: number;
}

export interface EventBody {
  readonly type: JobEventType;
  readonly data?: Prisma.InputJsonObject;
}

/** The answer to a worker that lost its job: it stops, and removes only its own staging folder. */
export function superseded({ jobId, attempt }: Claim): AppError {
  return new AppError(
    "SUPERSEDED",
    `Attempt ${attempt} of job ${jobId} no longer holds it: it ended, was cancelled, or a later attempt took over.`,
  );
}

/**
 * Adds an event to a job that this attempt holds, and returns its number.
 * @throws SUPERSEDED when it does not hold it any more; nothing is written then
 */
export async function appendEvent(db: Db | Tx, claim: Claim, event: EventBody): Promise<number> {
  // One statement: the number comes from the row that it locks, so numbers have no gaps, and a reader that has seen
  // number n will not meet a smaller one later.
  const rows = await db.$queryRaw<{ number: number }[]>`
    with bumped as (
      update jobs set last_event = last_event + 1
      where id = ${claim.jobId}::uuid and attempt = ${claim.attempt} and state = 'RUNNING'
      returning id, last_event
    ), added as (
      insert into job_events (job_id, number, type, data)
      select id, last_event, ${event.type}, ${JSON.stringify(event.data ?? {})}::jsonb from bumped
      returning job_id, number
    )
    select number from added, lateral (select pg_notify(${CHANNEL}, job_id::text)) told`;
  const [row] = rows;
  if (!row) throw superseded(claim);
  return row.number;
}

/** Adds an event inside a transaction that has locked the job's row by an update of it. */
export async function appendUnfenced(tx: Tx, jobId: string, event: EventBody): Promise<void> {
  await tx.$queryRaw`
    with bumped as (
      update jobs set last_event = last_event + 1 where id = ${jobId}::uuid returning id, last_event
    ), added as (
      insert into job_events (job_id, number, type, data)
      select id, last_event, ${event.type}, ${JSON.stringify(event.data ?? {})}::jsonb from bumped
      returning job_id
    )
    select 1 as told from added, lateral (select pg_notify(${CHANNEL}, job_id::text)) told`;
}

export interface Progress {
  readonly stage: string;
  readonly done: number | bigint;
  /** 0 while it is unknown. */
  readonly total: number | bigint;
  readonly unit?: string;
}

/** Overwrites how far the job is: a column, not an event. Throws SUPERSEDED. */
export async function setProgress(db: Db | Tx, claim: Claim, progress: Progress): Promise<void> {
  const { stage, done, total, unit = "bytes" } = progress;
  const { count } = await db.job.updateMany({
    where: { id: claim.jobId, attempt: claim.attempt, state: "RUNNING" },
    data: { stage, progressDone: BigInt(done), progressTotal: BigInt(total), progressUnit: unit },
  });
  if (count === 0) throw superseded(claim);
}

export type StoredEvent = Prisma.JobEventGetPayload<object>;

/**
 * The events of a job after number `after` (0: all), each exactly once and in order: what is there, then what comes,
 * until one that ends the job. Ends early when `signal` aborts. Whether the viewer may see the job is the caller's
 * business.
 */
export async function* tailEvents(
  ctx: Pick<RegistryContext, "db" | "pool">,
  input: { readonly jobId: string; readonly after: number; readonly signal: AbortSignal },
): AsyncGenerator<StoredEvent, void, undefined> {
  const { jobId, signal } = input;
  const bell = ringWhen(ctx.pool, jobId, signal);
  let last = input.after;
  try {
    while (!signal.aborted) {
      // Before the query: what is written while it runs must ring for the next round.
      const rung = bell.next();
      const events = await ctx.db.jobEvent.findMany({
        where: { jobId, number: { gt: last } },
        orderBy: { number: "asc" },
        take: PAGE,
      });
      for (const event of events) {
        last = event.number;
        yield event;
        if (TERMINAL.has(event.type)) return;
      }
      if (events.length === 0) {
        if (await hasEnded(ctx.db, jobId, last)) return;
        await rung;
      }
    }
  } finally {
    bell.close();
  }
}

/** A job that ended holds no events beyond its last; without this a reader who has it would wait for ever. */
async function hasEnded(db: Db, jobId: string, last: number): Promise<boolean> {
  const job = await db.job.findUnique({ where: { id: jobId }, select: { state: true, lastEvent: true } });
  return !job || (job.state !== "QUEUED" && job.state !== "RUNNING" && job.lastEvent <= last);
}

interface Bell {
  /** Resolves at the next notification, after a second, or when the reader leaves. */
  next(): Promise<void>;
  close(): void;
}

function ringWhen(pool: pg.Pool, jobId: string, signal: AbortSignal): Bell {
  const listener = listenerOf(pool);
  let wake = () => {};
  const ring = () => wake();
  listener.add(jobId, ring);
  signal.addEventListener("abort", ring);
  return {
    next: () =>
      new Promise((done) => {
        const timer = setTimeout(done, POLL_MS);
        wake = () => {
          clearTimeout(timer);
          done();
        };
        if (signal.aborted) wake();
      }),
    close: () => {
      wake();
      signal.removeEventListener("abort", ring);
      listener.remove(jobId, ring);
    },
  };
}

/** One LISTEN connection for all readers of a pool, while there are any. */
class Listener {
  readonly #pool: pg.Pool;
  readonly #readers = new Map<string, Set<() => void>>();
  #client: Promise<pg.PoolClient | undefined> | undefined;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  add(jobId: string, ring: () => void): void {
    const readers = this.#readers.get(jobId) ?? new Set();
    this.#readers.set(jobId, readers.add(ring));
    this.#client ??= this.#connect();
  }

  remove(jobId: string, ring: () => void): void {
    const readers = this.#readers.get(jobId);
    readers?.delete(ring);
    if (readers?.size === 0) this.#readers.delete(jobId);
    if (this.#readers.size > 0) return;
    // A connection that listens must not go back to the pool.
    this.#client?.then((client) => client?.release(true));
    this.#client = undefined;
  }

  async #connect(): Promise<pg.PoolClient | undefined> {
    let client: pg.PoolClient | undefined;
    try {
      client = await this.#pool.connect();
      client.on("notification", ({ payload }) => {
        for (const ring of this.#readers.get(payload ?? "") ?? []) ring();
      });
      client.once("error", () => {
        client?.release(true);
        this.#client = undefined;
      });
      await client.query(`listen ${CHANNEL}`);
      return client;
    } catch {
      // Readers go on by polling, and the next one tries to listen again.
      client?.release(true);
      this.#client = undefined;
      return undefined;
    }
  }
}

const listeners = new WeakMap<pg.Pool, Listener>();

function listenerOf(pool: pg.Pool): Listener {
  const listener = listeners.get(pool) ?? new Listener(pool);
  listeners.set(pool, listener);
  return listener;
}
