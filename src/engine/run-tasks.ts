import type { EngineEvent, EngineOptions, Stage } from "./events.ts";
import { runTensorTasks, type TensorResult, type TensorTask, taskBytes } from "./pool.ts";

export interface TaskRun {
  readonly stage: Stage;
  readonly tasks: readonly TensorTask[];
  /** Test hook: the disk is full after so many bytes. */
  readonly failWritesAfter?: number | undefined;
}

/** Runs tasks on the pool, tells the progress as bytes of the whole stage, and returns the results by tensor name. */
export async function* runTasks(
  { stage, tasks, failWritesAfter }: TaskRun,
  { threads, signal, failpoint }: EngineOptions,
): AsyncGenerator<EngineEvent, Map<string, TensorResult>> {
  const results = new Map<string, TensorResult>();
  const total = taskBytes(tasks);
  const pool = runTensorTasks(tasks, {
    threads,
    ...(signal && { signal }),
    ...(failpoint === "mid-tensor" && { failpoint: "mid-tensor" as const }),
    ...(failWritesAfter !== undefined && { failWritesAfter }),
  });
  for await (const event of pool) {
    if (event.type === "tensor") results.set(event.result.name, event.result);
    else yield { type: "progress", stage, done: event.bytes, total };
  }
  return results;
}
