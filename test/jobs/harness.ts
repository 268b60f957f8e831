import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobContext } from "../../src/jobs/job.ts";
import { authenticateToken, ensureAdmin } from "../../src/registry/accounts.ts";
import type { RegistryContext, ViewerContext } from "../../src/registry/context.ts";
import { startMerge } from "../../src/registry/merges.ts";
import { type ImportRequest, startImport } from "../../src/registry/models.ts";
import { startWorker, type WorkerParts } from "../../src/worker.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";

export const DEMO = join(import.meta.dirname, "../fixtures/demo");

export type EndedJob = Awaited<ReturnType<Harness["end"]>>;

/** A registry with a worker in this process, an admin who asks, and folders that are removed at the end. */
export interface Harness {
  readonly test: TestDatabase;
  readonly ctx: ViewerContext;
  /** GRAFTWORK_HOME. */
  readonly home: string;
  /** An allowed import root, besides the demo. */
  readonly root: string;
  readonly jobContext: Omit<JobContext, "workerId" | "stopping" | "memory">;
  /** Waits for a job to end; with its events. */
  end(jobId: string): ReturnType<typeof readEnded>;
  /** Imports and returns the ended job. */
  import(request: ImportRequest): ReturnType<typeof readEnded>;
  /** Merges the newest versions and returns the ended job. */
  merge(base: string, adapter: string, output: string): ReturnType<typeof readEnded>;
  /** What stands below `$GRAFTWORK_HOME/merged`. */
  merged(): Promise<string[]>;
  close(): Promise<void>;
}

const quiet = { info: () => {}, warn: () => {}, error: () => {} };

export async function startHarness(
  options: { readonly worker: boolean; readonly devices?: WorkerParts["devices"] } = { worker: true },
): Promise<Harness> {
  const { devices } = options;
  const test = await testDatabase();
  const queue = await test.queue();
  const folder = await mkdtemp(join(tmpdir(), "graftwork-jobs-"));
  const home = join(folder, "home");
  const root = join(folder, "models");
  const registry: RegistryContext = { db: test.db, pool: test.pool, queue, now: () => new Date() };
  const settings = { home, importRoots: [DEMO, root], threads: 2, memory: 2_000_000_000, failpoint: null };
  const jobContext = { registry, settings, log: quiet };
  const worker = options.worker ? await startWorker({ ...jobContext, ...(devices && { devices }) }) : null;
  const ctx: ViewerContext = { ...registry, viewer: await admin(registry) };
  const end = (jobId: string) => readEnded(registry, jobId);
  return {
    test,
    ctx,
    home,
    root,
    jobContext,
    end,
    import: async (request) => await end((await startImport(ctx, request)).id),
    merge: async (base, adapter, output) =>
      await end((await startMerge(ctx, { base: { ref: base }, sources: [{ ref: adapter }], output })).job.id),
    merged: () => readdir(join(home, "merged")).catch(() => []),
    close: async () => {
      worker?.stop();
      await test.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function admin(registry: RegistryContext) {
  const { token } = await ensureAdmin(registry, { presetToken: null });
  const who = await authenticateToken(registry, token!);
  return who!.viewer;
}

async function readEnded({ db }: RegistryContext, id: string, ms = 30_000) {
  for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(20)) {
    const job = await db.job.findUniqueOrThrow({
      where: { id },
      include: { events: { orderBy: { number: "asc" } } },
    });
    if (job.state !== "QUEUED" && job.state !== "RUNNING") return job;
  }
  throw new Error(`job ${id} did not end within ${ms} ms`);
}
