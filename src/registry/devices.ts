import type { Device } from "../../prisma/client/client.ts";
import type { DeviceName, DeviceStatus } from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import type { RegistryContext } from "./context.ts";
import type { Db, Tx } from "./db.ts";
import { appendUnfenced } from "./events.ts";

/** A worker that was not heard of for this long is taken for dead; it says that it is alive four times as often. */
const ALIVE_MS = 60_000;
/** How long a dead worker is remembered. */
const FORGET_MS = 3_600_000;

const DEVICES = {
  cpu: "CPU",
  webgpu: "WEBGPU",
  cuda: "CUDA",
  coreml: "COREML",
  dml: "DML",
  "onnx-cpu": "ONNX_CPU",
} as const satisfies Record<DeviceName, Device>;

const NAMES = Object.fromEntries(Object.entries(DEVICES).map(([name, device]) => [device, name]));

/** A device as the command line and the engine call it. */
export function deviceName(device: Device): DeviceName {
  return NAMES[device] as DeviceName;
}

export function deviceOf(name: DeviceName): Device {
  return DEVICES[name];
}

/** Notes a worker with what it found of its devices; one of the same name is replaced. */
export async function registerWorker(
  { db, now }: RegistryContext,
  { name, devices }: { readonly name: string; readonly devices: readonly DeviceStatus[] },
): Promise<void> {
  const rows = devices.map(({ device, memoryBytes, ...status }) => ({
    ...status,
    device: deviceOf(device),
    memoryBytes: memoryBytes === null ? null : BigInt(memoryBytes),
  }));
  await db.$transaction(async (tx) => {
    const times = { startedAt: now(), seenAt: now() };
    const { id } = await tx.worker.upsert({ where: { name }, create: { name, ...times }, update: times });
    await tx.workerDevice.deleteMany({ where: { workerId: id } });
    await tx.workerDevice.createMany({ data: rows.map((row) => ({ ...row, workerId: id })) });
  });
}

/** What a worker has room for; null where nothing tells. */
export interface WorkerRoom {
  readonly freeDiskBytes: number | null;
  readonly memoryBytes: number | null;
}

const bytes = (count: number | null) => (count === null ? null : BigInt(Math.floor(count)));

/** Says that a registered worker is alive and what it has room for, and forgets those that died long ago. */
export async function workerIsAlive(
  { db, now }: RegistryContext,
  name: string,
  room: WorkerRoom = { freeDiskBytes: null, memoryBytes: null },
): Promise<void> {
  const data = {
    seenAt: now(),
    freeDiskBytes: bytes(room.freeDiskBytes),
    memoryBytes: bytes(room.memoryBytes),
  };
  await db.worker.updateMany({ where: { name }, data });
  await db.worker.deleteMany({ where: { seenAt: { lt: new Date(now().getTime() - FORGET_MS) } } });
}

/** A worker that ends by itself is not waited for. */
export async function forgetWorker({ db }: RegistryContext, name: string): Promise<void> {
  await db.worker.deleteMany({ where: { name } });
}

/** The most that any one worker which is alive has free, for a plan's forecast; null where none tells. */
export async function roomOfWorkers({ db, now }: RegistryContext): Promise<WorkerRoom> {
  const { _max } = await db.worker.aggregate({
    where: aliveAt(now()),
    _max: { freeDiskBytes: true, memoryBytes: true },
  });
  const number = (value: bigint | null) => (value === null ? null : Number(value));
  return { freeDiskBytes: number(_max.freeDiskBytes), memoryBytes: number(_max.memoryBytes) };
}

/** Condition for workers that are taken to be alive. */
export function aliveAt(now: Date) {
  return { seenAt: { gt: new Date(now.getTime() - ALIVE_MS) } };
}

/**
 * @throws DEVICE_UNAVAILABLE where no worker that is alive has the device, with what each of them lacks
 */
export async function requireWorkerWith(
  tx: Db | Tx,
  { device, now }: { device: Device; now: Date },
): Promise<void> {
  if (device === "CPU") return;
  const found = await tx.workerDevice.findMany({
    where: { device, worker: aliveAt(now) },
    include: { worker: { select: { name: true } } },
    orderBy: { worker: { name: "asc" } },
  });
  if (found.some(({ available }) => available)) return;
  const lacks = found.map(({ worker, reason }) => `${worker.name}: ${reason ?? "nothing is known"}`);
  const why = lacks.length === 0 ? "none has registered its devices yet" : lacks.join(" ");
  throw new AppError(
    "DEVICE_UNAVAILABLE",
    `No worker can compute on ${device} now (${why}). Start one on a machine that has it, or take CPU.`,
    { field: "device", details: { device } },
  );
}

/**
 * Tells those who wait for jobs that no worker can take, once for each job: the last worker with their device has gone.
 * Returns how many were told.
 */
export async function tellStranded({ db, now }: RegistryContext): Promise<number> {
  const waiting = await db.job.findMany({
    where: { state: "QUEUED", device: { not: "CPU" } },
    select: { id: true, device: true },
  });
  if (waiting.length === 0) return 0;
  const able = await db.workerDevice.findMany({
    where: { available: true, worker: aliveAt(now()) },
    distinct: ["device"],
    select: { device: true },
  });
  const present = new Set(able.map(({ device }) => device));
  let told = 0;
  for (const { id, device } of waiting) {
    if (present.has(device)) continue;
    told += await db.$transaction(async (tx) => {
      await tx.$queryRaw`select 1 as locked from jobs where id = ${id}::uuid for update`;
      const job = await tx.job.findUniqueOrThrow({ where: { id } });
      const known = await tx.jobEvent.count({
        where: { jobId: id, type: "progress-note", data: { path: ["code"], equals: "WAITS_FOR_DEVICE" } },
      });
      if (job.state !== "QUEUED" || known > 0) return 0;
      const message = `waits for a worker that has ${device}: none is alive. Start one, or cancel the job and take CPU.`;
      await appendUnfenced(tx, id, { type: "progress-note", data: { code: "WAITS_FOR_DEVICE", message } });
      return 1;
    });
  }
  return told;
}
