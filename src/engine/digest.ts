import { join } from "node:path";
import type { CheckpointFacts, TensorFacts, TensorStats, WeightFile } from "../core/checkpoint.ts";
import type { Digest } from "../core/identity.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { TensorTask } from "./pool.ts";
import { runTasks } from "./run-tasks.ts";

/**
 * Reads every tensor of a folder once and returns its facts with a sha256 digest and statistics for each.
 * @throws BAD_FILE where a file ends early
 */
export async function* digestCheckpoint(
  { folder, facts }: Located,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, CheckpointFacts> {
  const tasks = facts.weights.flatMap((file) => file.tensors.map((tensor) => readTask(folder, file, tensor)));
  yield { type: "stage", stage: "digest", message: `reading ${tasks.length} tensors` };
  const results = yield* runTasks({ stage: "digest", tasks }, options);
  return withResults(facts, (tensor) => {
    const result = results.get(tensor.name)!;
    return { digest: result.inputDigest!, stats: result.inputStats };
  });
}

function readTask(folder: string, file: WeightFile, tensor: TensorFacts): TensorTask {
  return {
    name: tensor.name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    input: {
      key: tensor.name,
      path: join(folder, file.path),
      offset: tensor.begin,
      bytes: tensor.end - tensor.begin,
      dtype: tensor.dtype,
      shape: tensor.shape,
    },
  };
}

/** Facts with digests and statistics filled in. */
export function withResults(
  facts: CheckpointFacts,
  of: (tensor: TensorFacts) => { digest: string; stats: TensorStats },
): CheckpointFacts {
  const weights = facts.weights.map((file) => ({
    ...file,
    tensors: file.tensors.map((tensor): TensorFacts => {
      const { digest, stats } = of(tensor);
      return { ...tensor, digest: digest as Digest, stats };
    }),
  }));
  return { ...facts, weights };
}

/** Runs a generator to its end and returns its result, for callers that do not watch. */
export async function finish<T>(work: AsyncGenerator<EngineEvent, T>): Promise<T> {
  let step = await work.next();
  while (!step.done) step = await work.next();
  return step.value;
}
