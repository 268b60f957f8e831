import type { TensorStats } from "../core/checkpoint.ts";
import { elementCount } from "../core/dtype.ts";
import { fastUpdate } from "./fast-update.ts";
import type { TensorResult, TensorTask } from "./pool.ts";
import { graphOf } from "./program-leaves.ts";

/**
 * A tensor of at least this size is computed by several threads: one that alone takes a large part of a checkpoint
 * would leave the others with nothing to do. The cut depends on the tensor alone, so that every machine adds up the
 * same statistics.
 */
export const SPLIT_BYTES = 256 * 2 ** 20;
const PART_BYTES = 64 * 2 ** 20;

/** A task in pieces. */
export interface SplitTask {
  /** Each computes and writes some rows. */
  readonly parts: readonly TensorTask[];
  /** Reads the input for its digest; `null` where that is known or not wanted. */
  readonly input: TensorTask | null;
  /** Reads what the parts have written, for its digest, when all of them are done. `null`: not wanted. */
  readonly output: TensorTask | null;
}

/** A sha256 is a chain, but rows are not: low-rank updates of large matrices in parts, with digests apart. */
export function splitTask(
  task: TensorTask,
  splitBytes = SPLIT_BYTES,
  partBytes = PART_BYTES,
): SplitTask | null {
  const { input, output, program, shape, dtype, digests } = task;
  if (!input || !output || !program || input.bytes < splitBytes) return null;
  const update = fastUpdate(task, graphOf(task));
  if (!update?.a.stored || !update.b.stored) return null;
  const { rows } = update;
  const width = input.bytes / rows;
  const deep = Math.max(1, Math.floor(partBytes / width));
  const parts: TensorTask[] = [];
  for (let start = 0; start < rows; start += deep) {
    const stop = Math.min(rows, start + deep);
    parts.push({ ...task, part: { start, stop, bytes: (stop - start) * width } });
  }
  const { name, expectDigest } = task;
  const read = { name, dtype, shape, ...(digests && { digests }) };
  const written = { key: name, path: output.path, offset: output.offset, bytes: input.bytes, dtype, shape };
  return {
    parts,
    input:
      task.known || digests === "none" ? null : { ...read, input, ...(expectDigest && { expectDigest }) },
    output: digests === "none" ? null : { ...read, input: written },
  };
}

/** Results of the pieces of one task. */
export interface PieceResults {
  readonly parts: readonly TensorResult[];
  readonly input: TensorResult | null;
  readonly output: TensorResult | null;
}

/** What one thread alone would have told of the task. */
export function joinPieces(task: TensorTask, { parts, input, output }: PieceResults): TensorResult {
  return {
    name: task.name,
    inputDigest: task.known?.digest ?? input?.inputDigest ?? null,
    outputDigest: output?.inputDigest ?? null,
    compareDigest: null,
    inputStats: task.known?.stats ?? input?.inputStats ?? { absmax: null, rms: null, nonFinite: 0 },
    outputStats: joinStats(parts),
    changed: parts.reduce((sum, part) => sum + part.changed, 0),
    elements: elementCount(task.shape),
  };
}

function joinStats(parts: readonly TensorResult[]): TensorStats {
  let finite = 0;
  let squares = 0;
  let absmax = 0;
  let nonFinite = 0;
  for (const { outputStats: stats, elements } of parts) {
    const own = elements - stats.nonFinite;
    finite += own;
    nonFinite += stats.nonFinite;
    squares += own * (stats.rms ?? 0) ** 2;
    absmax = Math.max(absmax, stats.absmax ?? 0);
  }
  if (finite === 0) return { absmax: null, rms: null, nonFinite };
  return { absmax, rms: Math.sqrt(squares / finite), nonFinite };
}
