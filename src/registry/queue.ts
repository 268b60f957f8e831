import { fromPrisma, PgBoss } from "pg-boss";
import type { Device, JobKind } from "../../prisma/client/client.ts";
import { HeardClient, type Tx } from "./db.ts";

export type { JobKind };

/** The queue's name for each kind of job. */
export const QUEUE_OF: Readonly<Record<JobKind, string>> = {
  IMPORT_VERSION: "import-version",
  RUN_MERGE: "run-merge",
  VERIFY_MERGE: "verify-merge",
  RUN_EVALUATION: "run-evaluation",
  MEASURE_SERVING: "measure-serving",
};

/** Work on other devices than the processor has queues of its own: only workers that have them look there. */
const DEVICES: readonly Device[] = ["WEBGPU", "CUDA", "COREML", "DML", "ONNX_CPU"];

/** Kinds of jobs that can ask for a device. */
export const DEVICE_KINDS: readonly JobKind[] = ["RUN_MERGE", "RUN_EVALUATION", "MEASURE_SERVING"];

/** What decides which queue a job is in. */
export interface QueueKey {
  readonly kind: JobKind;
  /** Default CPU. */
  readonly device?: Device;
}

function queueOf({ kind, device = "CPU" }: QueueKey): string {
  return device === "CPU" ? QUEUE_OF[kind] : `${QUEUE_OF[kind]}-${device.toLowerCase().replace("_", "-")}`;
}

const QUEUES: readonly string[] = [
  ...Object.values(QUEUE_OF),
  ...DEVICE_KINDS.flatMap((kind) => DEVICES.map((device) => queueOf({ kind, device }))),
];

const SCHEMA = "pgboss";
// pg-boss hands a job to another worker after this long without a sign of life; 10 is its least.
const HEARTBEAT_SECONDS = 10;
// Its default of 15 minutes would start a longer merge a second time while the first still runs; a day is its most.
const EXPIRE_SECONDS = 86_400;
// Counts starts that ended in a crash or a lost database, not refusals: those end a job at once.
const RETRIES = 20;

export interface QueueOptions {
  readonly url: string;
  /** How often lost workers are looked for, in seconds; default 5. */
  readonly superviseSeconds?: number;
  /** Told what pg-boss complains about, for example while Postgres is started again. */
  readonly log?: (message: string) => void;
}

/** What a handler gets: which job, and when to stop. */
export interface Delivery {
  readonly jobId: string;
  /** Aborted when the queue took the job away (stopped, expired). */
  readonly signal: AbortSignal;
  /** How many more times the queue would deliver this job. */
  readonly retriesLeft: number;
}

// pg-boss hands its options on to its pool; its types do not say so.
const HEARD = { Client: HeardClient };

type JobRef = QueueKey & { readonly id: string };

export interface JobQueue {
  /**
   * Puts a job into its queue as part of `tx`: delivered if that commits, never if it does not. There is no way to
   * enqueue without a transaction, so a job row that its queue never heard of cannot come to be.
   */
  enqueue(tx: Tx, job: JobRef): Promise<void>;
  /** Takes a job out of its queue as part of `tx`; a handler that runs it has its signal aborted within seconds. */
  cancel(tx: Tx, job: JobRef): Promise<void>;
  /**
   * Runs `handler` for jobs of a kind (and a device), `concurrency` at a time. Returning completes the delivery; throwing has it
   * delivered again after a pause. The handler re-reads the job's row and may run twice without harm.
   */
  work(
    key: JobKind | QueueKey,
    concurrency: number,
    handler: (delivery: Delivery) => Promise<void>,
  ): Promise<void>;
  /**
   * Has every job that is out with a worker delivered again at once. Only for a start-up at which no other worker
   * can be alive (the embedded server): elsewhere the missing heartbeat does it within 15 seconds.
   */
  releaseOrphans(): Promise<number>;
  /** Stops taking jobs, aborts handlers that have not ended after `timeoutMs` (default 10 s), and disconnects. */
  stop(timeoutMs?: number): Promise<void>;
}

/** Connects to the queues and makes those that are missing; they live in a schema of their own, `pgboss`. */
export async function openQueue(options: QueueOptions): Promise<JobQueue> {
  const supervise = options.superviseSeconds ?? 5;
  const boss = new PgBoss({
    ...HEARD,
    connectionString: options.url,
    schema: SCHEMA,
    application_name: "graftwork-queue",
    max: 6,
    supervise: true,
    schedule: false,
    superviseIntervalSeconds: supervise,
    monitorIntervalSeconds: supervise,
    useListenNotify: true,
    registerInstance: false,
  });
  // It goes on by itself after a lost connection; without a listener the error would end the process.
  boss.on("error", (error) => options.log?.(`queue: ${error.message}`));
  boss.on("warning", (warning) => options.log?.(`queue: ${warning.message}`));
  await boss.start();
  for (const name of QUEUES) await makeQueue(boss, name);
  return {
    enqueue: async (tx, job) => {
      const sent = await boss.send(queueOf(job), { jobId: job.id }, { id: job.id, db: fromPrisma(tx) });
      if (sent !== job.id) throw new Error(`the queue did not take job ${job.id}`);
    },
    cancel: async (tx, job) => {
      await boss.cancel(queueOf(job), job.id, { db: fromPrisma(tx) });
    },
    work: async (key, concurrency, handler) => {
      const name = queueOf(typeof key === "string" ? { kind: key } : key);
      await work(boss, { name, concurrency, handler });
    },
    releaseOrphans: async () => await releaseOrphans(boss),
    stop: async (timeoutMs = 10_000) => await boss.stop({ graceful: true, timeout: timeoutMs }),
  };
}

async function makeQueue(boss: PgBoss, name: string): Promise<void> {
  await boss.createQueue(name, {
    notify: true,
    expireInSeconds: EXPIRE_SECONDS,
    heartbeatSeconds: HEARTBEAT_SECONDS,
    retryLimit: RETRIES,
    retryDelay: 1,
    retryBackoff: true,
    retryDelayMax: 10,
  });
}

interface WorkParts {
  name: string;
  concurrency: number;
  handler: (delivery: Delivery) => Promise<void>;
}

async function work(boss: PgBoss, { name, concurrency, handler }: WorkParts): Promise<void> {
  const options = {
    batchSize: 1,
    localConcurrency: concurrency,
    includeMetadata: true as const,
    pollingIntervalSeconds: 1,
    notifyPollingIntervalSeconds: 2,
  };
  await boss.work<{ jobId: string }, void, typeof options>(name, options, async ([job]) => {
    if (!job) return;
    const retriesLeft = job.retryLimit - job.retryCount;
    await handler({ jobId: job.data.jobId, signal: job.signal, retriesLeft });
  });
}

async function releaseOrphans(boss: PgBoss): Promise<number> {
  const db = boss.getDb();
  const { rows } = await db.executeSql(
    `select name, array_agg(id) as ids from ${SCHEMA}.job where state = 'active' and name = any($1) group by name`,
    [QUEUES],
  );
  let released = 0;
  for (const { name, ids } of rows as { name: string; ids: string[] }[]) {
    await boss.fail(name, ids, { message: "the server was started again" });
    // The pause between retries is for failures that may pass; this one has.
    await db.executeSql(
      `update ${SCHEMA}.job set start_after = now() where name = $1 and id = any($2::uuid[]) and state = 'retry'`,
      [name, ids],
    );
    released += ids.length;
  }
  return released;
}

/** Jobs that their queue will never deliver again, out of `ids`: failed too often there, or gone from it. */
export async function undeliverable(tx: Tx, ids: readonly string[]): Promise<string[]> {
  const rows = await tx.$queryRaw<{ id: string }[]>`
    select wanted.id::text as id from unnest(${[...ids]}::uuid[]) as wanted(id)
    where not exists (
      select 1 from pgboss.job queued
      where queued.id = wanted.id and queued.state in ('created', 'retry', 'active'))`;
  return rows.map((row) => row.id);
}
