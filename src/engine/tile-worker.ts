import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../core/errors.ts";
import { copyWhole, diskOfSize, OpenFiles } from "../storage/tensor-io.ts";
import { Kernels } from "./kernels.ts";
import type { FromWorker, ToWorker, Work, WorkerSetup, WorkResult } from "./pool.ts";
import { sampleTensor } from "./sample.ts";
import { Stopped } from "./task-io.ts";
import { TensorRunner } from "./tensor-runner.ts";

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

const samples = new OpenFiles();

function perform(work: Work): WorkResult {
  switch (work.kind) {
    case "tensor":
      return { kind: "tensor", result: runner.run(work.task) };
    case "copy":
      copyWhole(work.task);
      unreported += work.task.bytes;
      return { kind: "copy" };
    case "sample":
      return { kind: "sample", result: sampleTensor(work.task, samples) };
  }
}

function finish(): void {
  report();
  runner.close();
  samples.closeAll();
  send({ type: "closed", timings: runner.timings });
  parentPort!.close();
}

parentPort!.on("message", (message: ToWorker) => {
  if (message.type === "close") return finish();
  try {
    send({ type: "done", index: message.index, done: perform(message.work) });
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
