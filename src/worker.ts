import { hostname } from "node:os";
import { readSettings } from "./config.ts";
import type { DeviceStatus } from "./core/devices.ts";
import { AppError } from "./core/errors.ts";
import { deviceStatus, listDevices } from "./engine/devices.ts";
import { prepareHome } from "./home.ts";
import { JOBS } from "./jobs/index.ts";
import { type JobContext, runDelivery } from "./jobs/job.ts";
import { MemoryBudget } from "./jobs/memory.ts";
import { sweepMerged } from "./jobs/sweep.ts";
import { logFor, openRegistry, runMain, stopOnSignals } from "./process.ts";
import {
  deviceOf,
  forgetWorker,
  registerWorker,
  tellStranded,
  type WorkerRoom,
  workerIsAlive,
} from "./registry/devices.ts";
import { failLostJobs } from "./registry/jobs.ts";
import { DEVICE_KINDS } from "./registry/queue.ts";
import { freeDisk } from "./storage/staging.ts";

/** How often what lost workers left is looked for, in milliseconds. */
const TIDY_MS = 15_000;

export interface WorkerParts extends Omit<JobContext, "workerId" | "stopping" | "memory"> {
  /** What the worker can merge on; default: the processor alone. Found out while it takes jobs already. */
  readonly devices?: () => Promise<readonly DeviceStatus[]>;
}

export interface RunningWorker {
  /** Hands running jobs back to the queue. Close the registry with it, which waits for them to let go. */
  stop(): void;
}

/** Takes jobs of every kind from the queue until it is stopped. */
export async function startWorker(parts: WorkerParts): Promise<RunningWorker> {
  const stopping = new AbortController();
  const ctx: JobContext = {
    ...parts,
    memory: new MemoryBudget(parts.settings.memory),
    workerId: `${hostname()}/${process.pid}`,
    stopping: stopping.signal,
  };
  const { registry, log } = parts;
  const tidy = () => keepTidy(ctx).catch((error) => log.warn("tidying up failed", { error }));
  await tidy();
  const timer = setInterval(tidy, TIDY_MS);
  for (const job of JOBS) {
    await registry.queue.work(job.kind, job.concurrency, (delivery) => runDelivery(ctx, job, delivery));
  }
  const offering = offerDevices(ctx, parts.devices ?? (async () => [await deviceStatus("cpu")])).catch(
    (error) => log.warn("the devices of this worker are not known", { error }),
  );
  return {
    stop: () => {
      clearInterval(timer);
      stopping.abort(new Error("the worker is being stopped"));
      void offering.then(() => forgetWorker(registry, ctx.workerId)).catch(() => {});
    },
  };
}

/** Tries the devices out, tells everybody, and takes merges and evaluations for those that work. */
async function offerDevices(ctx: JobContext, find: () => Promise<readonly DeviceStatus[]>): Promise<void> {
  const { registry, log, workerId } = ctx;
  const devices = await find();
  if (ctx.stopping.aborted) return;
  for (const { device, available } of devices) {
    if (!available || device === "cpu") continue;
    for (const job of JOBS.filter(({ kind }) => DEVICE_KINDS.includes(kind))) {
      const key = { kind: job.kind, device: deviceOf(device) };
      await registry.queue.work(key, 1, (delivery) => runDelivery(ctx, job, delivery));
    }
  }
  await registerWorker(registry, { name: workerId, devices });
  await workerIsAlive(registry, workerId, await roomOf(ctx.settings));
  const usable = devices.flatMap(({ device, available }) => (available ? [device] : []));
  log.info("devices found", { devices: usable });
}

/** Ends jobs that the queue has given up, and removes folders that belong to no merge any more. */
async function keepTidy({ registry, settings, log, workerId }: JobContext): Promise<void> {
  await workerIsAlive(registry, workerId, await roomOf(settings));
  const stranded = await tellStranded(registry);
  if (stranded > 0) log.warn("jobs wait for a device that no worker has", { jobs: stranded });
  const lost = await failLostJobs(registry);
  if (lost > 0) log.warn("jobs failed because their workers were lost", { jobs: lost });
  const removed = await sweepMerged(registry, settings.home);
  if (removed.length > 0) log.info("folders of merges that ended without a result removed", { removed });
}

async function roomOf({ home, memory }: JobContext["settings"]): Promise<WorkerRoom> {
  return { freeDiskBytes: await freeDisk(home).catch(() => null), memoryBytes: memory };
}

async function main(): Promise<void> {
  const settings = readSettings();
  if (settings.databaseUrl === null) {
    throw new AppError(
      "BAD_SETTING",
      "the environment variable DATABASE_URL is not set: a worker of its own needs the Postgres that its server uses. " +
        "Without one, `npm start` runs server and worker in one process.",
    );
  }
  await prepareHome(settings.home);
  const log = logFor(settings);
  const registry = await openRegistry(settings.databaseUrl, log);
  const worker = await startWorker({ registry, settings, log, devices: listDevices });
  stopOnSignals(async () => {
    const closed = registry.close();
    worker.stop();
    await closed;
  }, log);
  process.stdout.write(`Graftwork worker is ready (process ${process.pid})\n`);
}

if (import.meta.main) await runMain(main);
