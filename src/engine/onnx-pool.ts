import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { OnnxDevice } from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import type { ProbedDevice } from "./onnx-probe.ts";
import type { TensorTask, WorkerError } from "./pool.ts";
import type { WrittenTensor } from "./tensor-sink.ts";
import { unpackError } from "./travel.ts";

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

/** What the end of its stderr may add to a message. */
const MAX_STDERR = 1_000;

/** A process that uses a device, as a stream of its messages. Ended by `kill`, and by itself after `done`. */
export class DeviceProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #received: FromProcess[] = [];
  #stderr = "";
  #ended: { code: number | null; signal: NodeJS.Signals | null } | null = null;
  #failure: Error | null = null;
  #wake: () => void = () => {};

  constructor() {
    // Compiled for publishing, the program lies beside this file as .js.
    const file = import.meta.url.endsWith(".ts") ? "./onnx-process.ts" : "./onnx-process.js";
    this.#child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-MAX_STDERR);
    });
    this.#child.on("message", (message: FromProcess) => {
      this.#received.push(message);
      this.#wake();
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#failure = error;
        this.#wake();
        resolve();
      });
      this.#child.once("exit", (code, signal) => {
        this.#ended = { code, signal };
        this.#wake();
        resolve();
      });
    });
  }

  send(message: ToProcess): void {
    // A process that died meanwhile is noticed by its end.
    this.#child.send(message, () => {});
  }

  /** The next message. @throws DEVICE_FAILED where the process ended without a last word, and what it was sent */
  async next(): Promise<Exclude<FromProcess, { type: "failed" }>> {
    while (true) {
      const message = this.#received.shift();
      if (message?.type === "failed") throw unpackError(message.error, "the process that uses the device");
      if (message) return message;
      if (this.#failure) throw this.#failure;
      if (this.#ended) throw crashed(this.#ended, this.#stderr);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Wakes up whoever waits in `next`, with a reason. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    this.#wake();
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }
}

function crashed({ code, signal }: { code: number | null; signal: string | null }, stderr: string): AppError {
  const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
  const lines = stderr.split("\n").filter((line) => line.trim() !== "");
  const line = lines.find((text) => /error/i.test(text)) ?? lines.at(-1);
  const said = line === undefined ? "" : ` It said: ${line.trim()}`;
  return new AppError(
    "DEVICE_FAILED",
    `the process that uses the device ended ${how}: its driver is broken, or the machine is out of memory. Merge on another device, or with --device cpu.${said}`,
    { details: { code, signal } },
  );
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
