import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../core/errors.ts";
import { diskOfSize } from "../storage/tensor-io.ts";
import { Kernels } from "./kernels.ts";
import type { FromWorker, ToWorker, WorkerSetup } from "./pool.ts";
import { Stopped, TensorRunner } from "./tensor-runner.ts";

/** Milliseconds between two reports of progress from one thread. */
const REPORT_EVERY = 100;

const setup = workerData as WorkerSetup;
const stop = new Int32Array(setup.stop);
let unreported = 0;
let reportedAt = 0;

function send(message: FromWorker): void {
  parentPort!.postMessage(message);
}

function report(): void {
  if (unreported > 0) send({ type: "progress", bytes: unreported });
  unreported = 0;
  reportedAt = performance.now();
}

const runner = new TensorRunner(new Kernels(setup.module, { emulateFma: setup.emulateFma }), {
  checkStopped: () => {
    if (Atomics.load(stop, 0) !== 0) throw new Stopped();
  },
  advance: (bytes) => {
    unreported += bytes;
    if (performance.now() - reportedAt >= REPORT_EVERY) report();
  },
  wrote: () => {
    if (setup.failpoint === "mid-tensor") process.kill(process.pid, "SIGKILL");
  },
  write: setup.failWritesAfter === null ? undefined : diskOfSize(setup.failWritesAfter),
});

function finish(): void {
  report();
  runner.close();
  send({ type: "closed", timings: runner.timings });
  parentPort!.close();
}

parentPort!.on("message", (message: ToWorker) => {
  if (message.type === "close") return finish();
  try {
    const result = runner.run(message.task);
    send({ type: "tensor", index: message.index, result });
  } catch (error) {
    if (!(error instanceof Stopped)) send({ type: "failed", error: describe(error) });
  }
});

/** Errors lose their class and fields on the way between threads: an AppError travels as plain data. */
function describe(error: unknown): Extract<FromWorker, { type: "failed" }>["error"] {
  if (error instanceof AppError) {
    const { code, message, field, details, reasons } = error;
    return { kind: "expected", code, message, field, details, reasons };
  }
  return { kind: "bug", text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
