import { join } from "node:path";
import type { CheckpointFacts, TensorFacts, WeightFile } from "../core/checkpoint.ts";
import type { Digest } from "../core/identity.ts";
import { realPathOf } from "../storage/digest-cache.ts";
import { fingerprintFile } from "../storage/file.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { KnownTensor, TensorTask } from "./pool.ts";
import { runTasks } from "./run-tasks.ts";

/**
 * Reads every tensor of a folder once and returns its facts with a sha256 digest and statistics for each, and a
 * fingerprint for each file that stayed as it was meanwhile. Files whose digests are known already are not read.
 * @throws BAD_FILE where a file ends early
 */
export async function* digestCheckpoint(
  { folder, facts }: Located,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, CheckpointFacts> {
  const before = await fingerprintsOf(facts);
  const unread = facts.weights.filter(
    (file) => !isDigested(file) || file.fingerprint !== before.get(file.path),
  );
  const tasks = unread.flatMap((file) => file.tensors.map((tensor) => readTask(folder, file, tensor)));
  if (tasks.length > 0) yield { type: "stage", stage: "digest", message: `reading ${tasks.length} tensors` };
  const results = yield* runTasks({ stage: "digest", tasks }, options);
  const digested = withResults(facts, (tensor) => {
    const result = results.get(tensor.name);
    if (!result) return { digest: tensor.digest!, stats: tensor.stats! };
    return { digest: result.inputDigest!, stats: result.inputStats };
  });
  return withFingerprints(digested, before, await fingerprintsOf(facts));
}

function isDigested({ fingerprint, tensors }: WeightFile): boolean {
  return fingerprint !== undefined && tensors.every(({ digest, stats }) => digest && stats);
}

/** The state of every weights file now; `null` where it is too new to tell a later change. */
export async function fingerprintsOf(
  facts: Pick<CheckpointFacts, "files" | "weights">,
): Promise<Map<string, string | null>> {
  const entries = facts.weights.map(async ({ path }): Promise<[string, string | null]> => {
    const real = realPathOf(facts, path);
    return [path, real === null ? null : await fingerprintFile(real)];
  });
  return new Map(await Promise.all(entries));
}

type Fingerprints = ReadonlyMap<string, string | null>;

/** Facts whose digests were taken between two looks at the files: where both saw the same, the digests will hold. */
export function withFingerprints(
  facts: CheckpointFacts,
  before: Fingerprints,
  after: Fingerprints,
): CheckpointFacts {
  const weights = facts.weights.map(({ fingerprint: _, ...file }): WeightFile => {
    const seen = before.get(file.path);
    return seen && seen === after.get(file.path) ? { ...file, fingerprint: seen } : file;
  });
  return { ...facts, weights };
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
  of: (tensor: TensorFacts) => KnownTensor,
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
export async function finish<T>(work: AsyncGenerator<unknown, T>): Promise<T> {
  let step = await work.next();
  while (!step.done) step = await work.next();
  return step.value;
}
