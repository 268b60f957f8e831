import type { OnnxDevice } from "../core/devices.ts";
import { Child } from "./child.ts";
import type { ProbedDevice } from "./onnx-probe.ts";
import type { TensorTask, WorkerError } from "./pool.ts";
import type { WrittenTensor } from "./tensor-sink.ts";

export type ToProcess =
  | { readonly type: "probe"; readonly device: OnnxDevice }
  | {
      readonly type: "run";
      readonly device: OnnxDevice;
      readonly tasks: readonly TensorTask[];
      readonly failWritesAfter: number | null;
      readonly compare: boolean;
    };

export type FromProcess =
  | { readonly type: "probed"; readonly found: ProbedDevice }
  /** `part`: of the tensor, from 0 to 1. */
  | { readonly type: "progress"; readonly name: string; readonly part: number }
  | ({ readonly type: "tensor"; readonly name: string } & WrittenTensor)
  /** The device lacks an operator: the tensor has to be computed elsewhere. */
  | { readonly type: "declined"; readonly name: string; readonly why: string }
  | { readonly type: "done" }
  | { readonly type: "failed"; readonly error: WorkerError };

export type DeviceEvent =
  /** `bytes`: how many of the tasks' input bytes are done in all. */
  | { readonly type: "progress"; readonly bytes: number }
  /** Written as a whole. */
  | ({ readonly type: "tensor"; readonly name: string } & WrittenTensor)
  | { readonly type: "declined"; readonly name: string; readonly why: string };

export interface DevicePoolOptions {
  readonly device: OnnxDevice;
  readonly signal?: AbortSignal | undefined;
  /** The outputs hold the canonical values: each is compared before it is overwritten. */
  readonly compare?: boolean | undefined;
  /** For tests: writes fail as on a full disk after so many bytes. */
  readonly failWritesAfter?: number | undefined;
}

/** A process that uses a device, as a stream of its messages. Ended by `kill`, and by itself after `done`. */
export class DeviceProcess extends Child<ToProcess, FromProcess> {
  constructor() {
    super({
      url: new URL("./onnx-process.ts", import.meta.url),
      what: "the process that uses the device",
      advice: "Merge on another device, or with --device cpu.",
    });
  }
}

/**
 * Computes tensors on a device, one after another, into their outputs, which must exist.
 * @throws DEVICE_FAILED, BAD_FILE, DISK_FULL, NOT_FOUND; the reason of the signal
 */
export async function* runOnDevice(
  tasks: readonly TensorTask[],
  { device, signal, failWritesAfter, compare = false }: DevicePoolOptions,
): AsyncGenerator<DeviceEvent, void> {
  signal?.throwIfAborted();
  if (tasks.length === 0) return;
  const child = new DeviceProcess();
  const abort = () => child.fail(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  const byName = new Map(tasks.map((task) => [task.name, task]));
  let bytes = 0;
  try {
    child.send({ type: "run", device, tasks, failWritesAfter: failWritesAfter ?? null, compare });
    for (let m = await child.next(); m.type !== "done"; m = await child.next()) {
      if (m.type === "progress") {
        bytes += m.part * deviceBytes([byName.get(m.name)!]);
        yield { type: "progress", bytes: Math.round(bytes) };
      } else if (m.type !== "probed") yield m;
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    await child.kill();
  }
}

/** The bytes that progress counts. */
export function deviceBytes(tasks: readonly TensorTask[]): number {
  return tasks.reduce((sum, { input }) => sum + (input?.bytes ?? 0), 0);
}
