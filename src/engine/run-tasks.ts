import type { EngineEvent, EngineOptions, Stage } from "./events.ts";
import {
  runWork,
  type TensorResult,
  type TensorTask,
  type Work,
  type WorkResult,
  workBytes,
} from "./pool.ts";

export interface TaskRun {
  readonly stage: Stage;
  readonly tasks: readonly TensorTask[];
}

/** Runs tasks on the pool, tells the progress as bytes of the whole stage, and returns the results by tensor name. */
export async function* runTasks(
  { stage, tasks }: TaskRun,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Map<string, TensorResult>> {
  const results = new Map<string, TensorResult>();
  const works = tasks.map((task): Work => ({ kind: "tensor", task }));
  const done = async (_: number, result: WorkResult) => {
    if (result.kind === "tensor") results.set(result.result.name, result.result);
  };
  yield* runWorks({ stage, works, done }, options);
  return results;
}

export interface WorkRun {
  readonly stage: Stage;
  readonly works: readonly Work[];
  /** Told of every work that is done, with its position. */
  readonly done: (index: number, result: WorkResult) => Promise<void>;
  /** Test hook: the disk is full after so many bytes. */
  readonly failWritesAfter?: number | undefined;
}

/** Runs works on the pool and tells the progress as bytes of the whole stage. */
export async function* runWorks(
  { stage, works, done, failWritesAfter }: WorkRun,
  { threads, signal, failpoint, timings }: EngineOptions,
): AsyncGenerator<EngineEvent, void> {
  const total = workBytes(works);
  const pool = runWork(works, {
    threads,
    ...(signal && { signal }),
    ...(failpoint === "mid-tensor" && { failpoint: "mid-tensor" as const }),
    ...(failWritesAfter !== undefined && { failWritesAfter }),
    ...(timings && { timings }),
  });
  for await (const event of pool) {
    if (event.type === "done") await done(event.index, event.done);
    else yield { type: "progress", stage, done: event.bytes, total };
  }
}
