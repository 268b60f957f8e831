import { allTensors, type CheckpointFacts } from "../checkpoint.ts";
import { elementCount } from "../dtype.ts";
import type { MemoryEstimate } from "../plan-memory.ts";

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
