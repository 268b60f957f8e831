import { Worker } from "node:worker_threads";
import type { TensorStats } from "../core/checkpoint.ts";
import type { Dtype } from "../core/dtype.ts";
import type { Finding } from "../core/errors.ts";
import type { Expr } from "../core/expr.ts";
import type { Recipe } from "../core/recipe.ts";
import { Agenda } from "./agenda.ts";
import type { ComparedTensor, CompareTask } from "./evaluation/tensor-comparer.ts";
import type { WeightSample, WeightSampleTask } from "./evaluation/weight-sample.ts";
import { compileKernels } from "./kernels.ts";
import type { Nearness } from "./nearness.ts";
import type { SampledTensor, SampleTask } from "./sample.ts";
import type { Timings } from "./task-io.ts";
import { unpackError } from "./travel.ts";

/** The bytes of one tensor in a file; offset and length count from the file's start, in bytes. */
export interface TensorRange {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

/** A stored tensor with what its bytes mean. */
export interface StoredTensor extends TensorRange {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** A tensor that an expression reads; refused with INPUT_CHANGED where the bytes read have another digest. */
export interface ProgramLeaf extends StoredTensor {
  /** `leafKey` of the leaf. */
  readonly key: string;
  /** `sha256:…`; absent where it was not read before. */
  readonly digest?: string;
}

/** How the output's values come about. */
export interface Program {
  readonly expr: Expr;
  /** Every leaf but the task's own input. */
  readonly leaves: readonly ProgramLeaf[];
  readonly numerics: Recipe["numerics"];
}

/** What reading all of a tensor would tell. */
export interface KnownTensor {
  /** `sha256:…` */
  readonly digest: string;
  readonly stats: TensorStats;
}

/** What to do with one tensor: copy it, compute it, or only hash it. */
export interface TensorTask {
  /** Unique among the tasks of a run. */
  readonly name: string;
  /** Of the output. */
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** The base tensor that the output starts from: read once, tile by tile; null where there is none. */
  readonly input: ProgramLeaf | null;
  /** `sha256:…` of the input; another digest is INPUT_CHANGED (found after the last tile was written). */
  readonly expectDigest?: string;
  /** What is known of the input, whose file is as it was when this was learnt: it is not hashed again. */
  readonly known?: KnownTensor;
  /** `none`: nothing is hashed, for measurements; the digests of the result are null. Default: `all`. */
  readonly digests?: "all" | "none";
  /** Into BF16, F16 or F32 only. Absent: a plain copy of the input. */
  readonly program?: Program;
  /**
   * Compute and write these rows only, of a low-rank update seen as a matrix; see `split.ts`. The digests of the
   * result are null, but for a known one, and its counts and statistics are of the part.
   */
  readonly part?: { readonly start: number; readonly stop: number; readonly bytes: number };
  /** Where the result goes, in a file that exists. Absent: only digests are made. */
  readonly output?: { readonly path: string; readonly offset: number };
  /** Bytes to hash as well, such as a merged file that is being verified. */
  readonly compare?: TensorRange;
  /** What a device computed for this tensor, to be compared with the value element by element. */
  readonly near?: TensorRange;
}

export interface TensorResult {
  readonly name: string;
  /** `null` without an input, and without digests. */
  readonly inputDigest: string | null;
  /** Equal to `inputDigest` for a plain copy; `null` only without digests. */
  readonly outputDigest: string | null;
  readonly compareDigest: string | null;
  readonly inputStats: TensorStats;
  readonly outputStats: TensorStats;
  /** Elements whose stored bits differ from the input's, rounded into the output's type; all of them without such an input. */
  readonly changed: number;
  readonly elements: number;
  /** Of what the task named as `near`. */
  readonly near?: Nearness;
}

/** A whole file that the system copies, or links where both share one disk and the source never changes. */
export interface CopyTask {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
  /** A second name for the same bytes instead of a copy of them. */
  readonly link: boolean;
  /** Written over the start of the copy; as long as what it replaces. */
  readonly header?: Uint8Array;
}

/** One thing for a thread to do. */
export type Work = (
  | { readonly kind: "tensor"; readonly task: TensorTask }
  | { readonly kind: "copy"; readonly task: CopyTask }
  | { readonly kind: "sample"; readonly task: SampleTask }
  | { readonly kind: "compare"; readonly task: CompareTask }
  | { readonly kind: "weights"; readonly task: WeightSampleTask }
) & {
  /** Lower groups are begun first: so the shards of a checkpoint are finished one by one. Default 0. */
  readonly group?: number;
  /** Positions of works in the same list that must be done before. */
  readonly after?: readonly number[];
};

export type WorkResult =
  | { readonly kind: "tensor"; readonly result: TensorResult }
  | { readonly kind: "copy" }
  | { readonly kind: "sample"; readonly result: SampledTensor }
  | { readonly kind: "compare"; readonly result: ComparedTensor }
  /** Null where even a few elements take too much to compute by themselves. */
  | { readonly kind: "weights"; readonly result: WeightSample | null };

export type WorkEvent =
  /** `bytes`: how many of the bytes of all works are done; the last one equals `workBytes`. */
  | { type: "progress"; bytes: number }
  /** `index`: position of the work in the list given. */
  | { type: "done"; index: number; done: WorkResult };

export type PoolEvent =
  /** `bytes`: how many of the tasks' input and compare bytes are done in all; the last one equals `taskBytes`. */
  | { type: "progress"; bytes: number }
  /** `index`: position of the task in the list given. */
  | { type: "tensor"; index: number; result: TensorResult };

export interface PoolOptions {
  readonly threads: number;
  /** Stops between two tiles; the generator throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** `mid-tensor`: the process kills itself after the first tile was written, to test recovery. */
  readonly failpoint?: "mid-tensor" | undefined;
  /** For tests: each thread's writes fail as on a full disk after so many bytes. */
  readonly failWritesAfter?: number | undefined;
  /** For tests: the emulated fused multiply-add even where the processor has it. Same bits. */
  readonly emulateFma?: boolean | undefined;
  /** Called once at the end of a run that finished, with milliseconds summed over all threads. */
  readonly timings?: ((timings: Timings) => void) | undefined;
}

/** What a worker is started with. */
export interface WorkerSetup {
  readonly module: WebAssembly.Module;
  readonly stop: SharedArrayBuffer;
  readonly failpoint: "mid-tensor" | null;
  readonly failWritesAfter: number | null;
  readonly emulateFma: boolean;
}

export type ToWorker = { type: "work"; index: number; work: Work } | { type: "close" };

export type FromWorker =
  | { type: "progress"; bytes: number }
  | { type: "done"; index: number; done: WorkResult }
  | { type: "closed"; timings: Timings }
  | { type: "failed"; error: WorkerError };

export type WorkerError =
  | {
      kind: "expected";
      code: string;
      message: string;
      field: string | undefined;
      details: Readonly<Record<string, unknown>> | undefined;
      reasons: readonly Finding[] | undefined;
    }
  | { kind: "bug"; text: string };

/** The bytes that progress counts for a list of tasks. */
export function taskBytes(tasks: readonly TensorTask[]): number {
  return tasks.reduce((sum, task) => sum + inputBytes(task) + (task.compare?.bytes ?? 0), 0);
}

function inputBytes({ input, part }: TensorTask): number {
  return part?.bytes ?? input?.bytes ?? 0;
}

/** The bytes that progress counts for a list of works; samples count nothing. */
export function workBytes(works: readonly Work[]): number {
  return works.reduce((sum, work) => sum + weight(work), 0);
}

/**
 * Runs tensor tasks on `threads` worker threads, the largest first, one tensor a thread at a time. Results come in the
 * order in which they finish. The workers end with the generator, also when it is left early, aborted or fails.
 * @throws what `runWork` throws
 */
export async function* runTensorTasks(
  tasks: readonly TensorTask[],
  options: PoolOptions,
): AsyncGenerator<PoolEvent, void> {
  const works = tasks.map((task): Work => ({ kind: "tensor", task }));
  for await (const event of runWork(works, options)) {
    if (event.type === "progress") yield event;
    else if (event.done.kind === "tensor") {
      yield { type: "tensor", index: event.index, result: event.done.result };
    }
  }
}

/**
 * Runs works on `threads` worker threads: group by group, the largest of a group first, each one after what it waits
 * for. No thread waits for a group to end. Ends like `runTensorTasks`.
 * @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, NOT_FOUND, OUT_OF_MEMORY, KERNELS_MISSING; the reason of the signal
 */
export async function* runWork(
  works: readonly Work[],
  options: PoolOptions,
): AsyncGenerator<WorkEvent, void> {
  options.signal?.throwIfAborted();
  if (works.length === 0) return;
  const pool = new Pool(works, options, await compileKernels());
  try {
    yield* pool.events();
  } finally {
    await pool.close();
  }
}

/** How long a worker may take to reach the next tile after it was told to stop, in milliseconds. */
const STOP_GRACE = 2_000;

/** What a thread makes lives shortly and is small: a larger nursery would only hold garbage of many tensors at once. */
const LIMITS = { maxYoungGenerationSizeMb: 8 };

class Pool {
  readonly #works: readonly Work[];
  readonly #options: PoolOptions;
  readonly #agenda: Agenda;
  readonly #stop = new SharedArrayBuffer(4);
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #exits: Promise<void>[] = [];
  readonly #ready: WorkEvent[] = [];
  readonly #timings: Timings = { read: 0, hash: 0, compute: 0, write: 0 };
  readonly #onAbort = () => this.#fail(this.#options.signal?.reason);
  #running = 0;
  /** Works that were given out and are not done. */
  #busy = 0;
  #bytes = 0;
  #bytesShown = 0;
  #failure: { reason: unknown } | null = null;
  #wake: () => void = () => {};

  constructor(works: readonly Work[], options: PoolOptions, module: WebAssembly.Module) {
    this.#works = works;
    this.#options = options;
    this.#agenda = new Agenda(
      works.map((work) => ({ size: weight(work), group: work.group ?? 0, after: work.after ?? [] })),
    );
    const setup: WorkerSetup = {
      module,
      stop: this.#stop,
      failpoint: options.failpoint ?? null,
      failWritesAfter: options.failWritesAfter ?? null,
      emulateFma: options.emulateFma ?? false,
    };
    const heavy = works.filter(({ kind }) => kind !== "sample").length;
    const threads = Math.max(1, Math.min(Math.floor(options.threads), heavy));
    for (let i = 0; i < threads; i++) this.#start(setup);
    this.#requireProgress();
    options.signal?.addEventListener("abort", this.#onAbort, { once: true });
    if (options.signal?.aborted) this.#onAbort();
  }

  #start(workerData: WorkerSetup): void {
    // Compiled for publishing, the worker lies beside this file as .js.
    const file = import.meta.url.endsWith(".ts") ? "./tile-worker.ts" : "./tile-worker.js";
    const worker = new Worker(new URL(file, import.meta.url), { workerData, resourceLimits: LIMITS });
    let closed = false;
    this.#running++;
    worker.on("message", (message: FromWorker) => {
      if (message.type === "closed") closed = true;
      this.#receive(worker, message);
    });
    worker.on("error", (error) => this.#fail(error));
    this.#exits.push(
      new Promise((resolve) =>
        worker.on("exit", (code) => {
          this.#running--;
          if (!closed) this.#fail(new Error(`A merge thread ended unexpectedly (exit code ${code}).`));
          this.#wake();
          resolve();
        }),
      ),
    );
    this.#workers.push(worker);
    this.#feed(worker);
  }

  #feed(worker: Worker): void {
    const index = this.#failure ? null : this.#agenda.next();
    if (index === "later") {
      this.#idle.push(worker);
      return;
    }
    if (index !== null) this.#busy++;
    const message: ToWorker =
      index === null ? { type: "close" } : { type: "work", index, work: this.#works[index]! };
    worker.postMessage(message);
  }

  /** Works that wait for each other would wait for ever: a bug, and better said than hung. */
  #requireProgress(): void {
    if (this.#busy === 0 && this.#idle.length > 0)
      this.#fail(new Error("the works left wait for each other"));
  }

  #receive(worker: Worker, message: FromWorker): void {
    switch (message.type) {
      case "progress":
        this.#bytes += message.bytes;
        break;
      case "done":
        this.#ready.push(message);
        this.#agenda.done(message.index);
        this.#busy--;
        this.#feed(worker);
        for (const idle of this.#idle.splice(0)) this.#feed(idle);
        this.#requireProgress();
        break;
      case "failed":
        this.#fail(unpackError(message.error, "A merge thread"));
        break;
      case "closed":
        for (const key of ["read", "hash", "compute", "write"] as const) {
          this.#timings[key] += message.timings[key];
        }
    }
    this.#wake();
  }

  #fail(reason: unknown): void {
    this.#failure ??= { reason };
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    this.#wake();
  }

  async *events(): AsyncGenerator<WorkEvent, void> {
    while (true) {
      if (this.#failure) throw this.#failure.reason;
      if (this.#bytes > this.#bytesShown) {
        this.#bytesShown = this.#bytes;
        yield { type: "progress", bytes: this.#bytes };
        continue;
      }
      const event = this.#ready.shift();
      if (event) {
        yield event;
        continue;
      }
      if (this.#running === 0) break;
      // No await between the checks above and here: nothing can arrive unseen.
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#options.timings?.(this.#timings);
  }

  /** Waits until every worker is gone, by force where one hangs (say, in a read from a dead network disk). */
  async close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    if (this.#running > 0) {
      this.#fail(new Error("the generator was left early"));
      for (const worker of this.#workers) worker.postMessage({ type: "close" } satisfies ToWorker);
    }
    const kill = setTimeout(() => {
      for (const worker of this.#workers) void worker.terminate();
    }, STOP_GRACE);
    await Promise.all(this.#exits);
    clearTimeout(kill);
  }
}

function weight(work: Work): number {
  if (work.kind === "tensor") return taskBytes([work.task]);
  if (work.kind === "compare")
    return (work.task.candidate?.bytes ?? 0) + (work.task.expected.input?.bytes ?? 0);
  return work.kind === "copy" ? work.task.bytes : 0;
}
