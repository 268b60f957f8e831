import { allTensors, type CheckpointFacts } from "../checkpoint.ts";
import { elementCount } from "../dtype.ts";
import { type MemoryEstimate, memoryOf } from "../plan-memory.ts";

/** Two processes with their engines, headers, tokenizer, texts and report. */
const PROCESS_BYTES = 350_000_000;
/** What hidden states and everything made of them in a layer may take together. */
const ACTIVATION_BYTES = 640 * 2 ** 20;
/** A thread with its engine and a tile, while weights are compared. */
const THREAD_BYTES = 48_000_000;
/** Widened matrices that are there at once: the one that is multiplied, and the next. */
const MATRICES = 2;
const FLOAT32 = 4;
/** Sides that run together: the reference, the candidate, the noise floor, and the base alone. */
const SIDES = 4;

/**
 * How much memory an evaluation will take, from above. Weights stream through layer by layer, and those of the
 * vocabulary in slices, so what counts is the widest matrix of a layer, whatever the model's size.
 * @param base facts of the checkpoint that both sides run on
 * @param documents bytes of all texts together: a token is a byte at least; null where they are the built-in ones
 */
export function estimateEvaluation(
  { weights, config }: Pick<CheckpointFacts, "weights" | "config">,
  documents: number | null = null,
): MemoryEstimate {
  const vocabulary = typeof config.vocab_size === "number" ? config.vocab_size : Number.POSITIVE_INFINITY;
  let widest = 0;
  let [hidden, wide] = [0, 0];
  for (const { shape } of allTensors({ weights })) {
    // An embedding is read by rows and a head multiplied in slices of the vocabulary.
    if (shape.length < 2 || shape[0]! >= vocabulary) continue;
    widest = Math.max(widest, elementCount(shape));
    hidden = Math.max(hidden, Math.min(...shape));
    wide = Math.max(wide, ...shape);
  }
  const rows = SIDES * FLOAT32 * (6 * hidden + 3 * wide) * (documents ?? Number.POSITIVE_INFINITY);
  return {
    process:
      PROCESS_BYTES + MATRICES * FLOAT32 * widest + Math.min(ACTIVATION_BYTES, rows || ACTIVATION_BYTES),
    thread: THREAD_BYTES,
  };
}

/** What keeping the widened weights of a side takes beside their own bytes. */
const KEPT = 1.25;
/** Sides that are timed: the base with its adapters, and the merged model. */
const TIMED = 2;

/** How much memory an advice will take, from above. */
export interface ServingEstimate extends MemoryEstimate {
  /** Bytes of widened weights that it may keep while both sides are timed; part of `process`. */
  readonly keep: number;
}

/**
 * How much memory an advice will take: a short evaluation, and then the weights of both sides, as far as all threads
 * leave room for them. Weights that are not kept are read again for each token.
 * @param room bytes that it may take, and threads that it would like
 */
export function estimateServing(
  base: Pick<CheckpointFacts, "weights" | "config">,
  { documents, room, threads }: { documents: number | null; room: number; threads: number },
): ServingEstimate {
  const { process, thread } = estimateEvaluation(base, documents);
  const elements = allTensors(base).reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const wanted = TIMED * FLOAT32 * KEPT * elements;
  const keep = Math.floor(Math.max(0, Math.min(wanted, room - memoryOf({ process, thread }, threads))));
  return { process: process + keep, thread, keep };
}
