import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { factorPairs } from "../core/adapters/factor-pairs.ts";
import { type CheckpointFacts, tensorsByName } from "../core/checkpoint.ts";
import type { Dtype } from "../core/dtype.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { WorkerError } from "./pool.ts";
import { unpackError } from "./travel.ts";

/** A factor's bytes, as the worker reads them. */
export interface NormFactor {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
  readonly dtype: Dtype;
}

export interface NormTask {
  readonly name: string;
  readonly rank: number;
  readonly a: NormFactor;
  readonly b: NormFactor;
}

export type NormMessage = { readonly name: string; readonly norm: number } | { readonly failed: WorkerError };

/**
 * Adds the size of every low-rank change to an adapter's facts, so that a plan can forecast what rounding costs.
 * The work is r²·(in+out) multiplications a module, on a thread of its own.
 */
export async function* measureUpdates(
  { folder, facts }: Located,
  { signal }: Pick<EngineOptions, "signal">,
): AsyncGenerator<EngineEvent, CheckpointFacts> {
  const factor = (tensor: { file: string; begin: number; end: number; dtype: Dtype }): NormFactor => ({
    path: join(folder, tensor.file),
    offset: tensor.begin,
    bytes: tensor.end - tensor.begin,
    dtype: tensor.dtype,
  });
  const tasks = factorPairs(tensorsByName(facts.weights).values()).map(
    ({ a, b, rank }): NormTask => ({ name: b.name, rank, a: factor(a), b: factor(b) }),
  );
  if (tasks.length === 0) return facts;
  yield { type: "stage", stage: "digest", message: `measuring ${tasks.length} changes` };
  const norms = await measured(tasks, signal);
  const weights = facts.weights.map((file) => ({
    ...file,
    tensors: file.tensors.map((tensor) => {
      const updateNorm = norms.get(tensor.name);
      return updateNorm === undefined ? tensor : { ...tensor, updateNorm };
    }),
  }));
  return { ...facts, weights };
}

async function measured(
  tasks: readonly NormTask[],
  signal: AbortSignal | undefined,
): Promise<Map<string, number>> {
  signal?.throwIfAborted();
  const file = import.meta.url.endsWith(".ts") ? "./norm-worker.ts" : "./norm-worker.js";
  const worker = new Worker(new URL(file, import.meta.url), { workerData: tasks });
  const norms = new Map<string, number>();
  const abort = () => void worker.terminate();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on("message", (message: NormMessage) => {
        if ("failed" in message) reject(unpackError(message.failed, "The measuring of changes"));
        // A change with NaN in it is refused by the plan; here it only has no size.
        else if (Number.isFinite(message.norm)) norms.set(message.name, message.norm);
      });
      worker.on("error", reject);
      worker.on("exit", (code) => {
        // An abort ends it with a code as well, and is told by the signal.
        if (code === 0 || signal?.aborted) resolve();
        else reject(new Error(`the thread that measures changes ended unexpectedly (exit code ${code})`));
      });
    });
  } finally {
    signal?.removeEventListener("abort", abort);
    await worker.terminate();
  }
  signal?.throwIfAborted();
  return norms;
}
