import { parentPort, workerData } from "node:worker_threads";
import { DTYPE_BITS } from "../core/dtype.ts";
import { copyWhole, diskOfSize, OpenFiles, readExact } from "../storage/tensor-io.ts";
import { TensorComparer } from "./evaluation/tensor-comparer.ts";
import { sampleWeights } from "./evaluation/weight-sample.ts";
import { Kernels } from "./kernels.ts";
import { NearnessMeter } from "./nearness.ts";
import type {
  FromWorker,
  TensorResult,
  TensorTask,
  ToWorker,
  Work,
  WorkerSetup,
  WorkResult,
} from "./pool.ts";
import { sampleTensor } from "./sample.ts";
import { Stopped } from "./task-io.ts";
import { TensorRunner } from "./tensor-runner.ts";
import { packError } from "./travel.ts";

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

/** For looks at what was written. */
const others = new OpenFiles();
/** Of the task at hand. */
let meter: NearnessMeter | null = null;

const checkStopped = () => {
  if (Atomics.load(stop, 0) !== 0) throw new Stopped();
};
const advance = (bytes: number) => {
  unreported += bytes;
  if (performance.now() - reportedAt >= REPORT_EVERY) report();
};

const runner = new TensorRunner(new Kernels(setup.module, { emulateFma: setup.emulateFma }), {
  checkStopped,
  advance,
  wrote: () => {
    if (setup.failpoint === "mid-tensor") process.kill(process.pid, "SIGKILL");
  },
  write: setup.failWritesAfter === null ? undefined : diskOfSize(setup.failWritesAfter),
  near: (task, at, bytes) => {
    const { path, offset } = task.near!;
    const found = new Uint8Array(bytes.byteLength);
    readExact(others.reading(path), path, found, offset + at);
    meter ??= new NearnessMeter(task, others, { projects: true });
    meter.compare(bytes, found, (at * 8) / DTYPE_BITS[task.dtype]);
  },
});

/** Made for the first comparison: its memory is not needed by merges. */
let comparer: TensorComparer | null = null;

function runTask(task: TensorTask): TensorResult {
  meter = null;
  const result = runner.run(task);
  return meter ? { ...result, near: (meter as NearnessMeter).found } : result;
}

function perform(work: Work): WorkResult {
  switch (work.kind) {
    case "tensor":
      return { kind: "tensor", result: runTask(work.task) };
    case "copy":
      copyWhole(work.task);
      unreported += work.task.bytes;
      return { kind: "copy" };
    case "sample":
      return { kind: "sample", result: sampleTensor(work.task, others) };
    case "compare":
      comparer ??= new TensorComparer(setup.module, { checkStopped, advance, emulateFma: setup.emulateFma });
      return { kind: "compare", result: comparer.run(work.task) };
    case "weights":
      return { kind: "weights", result: sampleWeights(work.task, others) };
  }
}

function finish(): void {
  report();
  runner.close();
  comparer?.close();
  others.closeAll();
  send({ type: "closed", timings: runner.timings });
  parentPort!.close();
}

parentPort!.on("message", (message: ToWorker) => {
  if (message.type === "close") return finish();
  try {
    send({ type: "done", index: message.index, done: perform(message.work) });
  } catch (error) {
    if (!(error instanceof Stopped)) send({ type: "failed", error: packError(error) });
  }
});
