import { AppError } from "./errors.ts";
import type { Arithmetic, NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";
import { expFloat32 } from "./numerics-exp.ts";

/** A weighted sum of some vectors of the bank. */
interface Mix {
  readonly weights: readonly number[];
  readonly vectors: readonly number[];
}

/**
 * VB-LoRA's sub-vectors from all logits: args [logits (a×b×n), bank (n×l)], params { topk } → a×b×l. Each is the sum
 * of the `topk` bank vectors with the largest logits, weighted by the softmax over those logits.
 */
const bankMix: ExprFunction = {
  shape: ([logits, bank]) => [logits![0]!, logits![1]!, bank![1]!],
  value([logits, bank], { topk }, arithmetic) {
    const width = logits!.shape[2]!;
    return mixed(logits!.shape, bank!, arithmetic, (i) => {
      const own = logits!.values.subarray(i * width, (i + 1) * width);
      const vectors = Array.from(own.keys())
        .sort((a, b) => own[b]! - own[a]! || a - b)
        .slice(0, topk);
      return {
        vectors,
        weights: softmax(
          vectors.map((vector) => own[vector]!),
          arithmetic,
        ),
      };
    });
  },
};

/** As torch has it on a CPU: its own exponential in float32, and a product with the inverse of the sum. */
function softmax(logits: readonly number[], { step }: Arithmetic): number[] {
  const most = Math.max(...logits);
  const exp = step(1 / 3) === 1 / 3 ? Math.exp : expFloat32;
  const powers = logits.map((logit) => exp(step(logit - most)));
  const inverse = step(1 / powers.reduce((total, power) => step(total + power)));
  return powers.map((power) => step(power * inverse));
}

/**
 * The same from what `save_only_topk_weights` stores: args [weights (a×b×(k−1)), indices (a×b×k), bank (n×l)]. The last
 * weight is what the others lack of one.
 */
const bankMixStored: ExprFunction = {
  shape: ([weights, , bank]) => [weights![0]!, weights![1]!, bank![1]!],
  value([weights, indices, bank], _, arithmetic) {
    const stored = weights!.shape[2]!;
    const { step } = arithmetic;
    return mixed(weights!.shape, bank!, arithmetic, (i) => {
      const own = Array.from(weights!.values.subarray(i * stored, (i + 1) * stored));
      const rest = step(1 - own.reduce((total, weight) => step(total + weight), 0));
      const vectors = Array.from(indices!.values.subarray(i * (stored + 1), (i + 1) * (stored + 1)));
      return { vectors, weights: [...own, rest] };
    });
  },
};

/** Sums in the order of the weights, product and sum rounded apart. */
function mixed(
  [down, across]: readonly number[],
  bank: NdArray,
  { step }: Arithmetic,
  mixOf: (i: number) => Mix,
): NdArray {
  const [count, length] = bank.shape as [number, number];
  const values = new Float64Array(down! * across! * length);
  for (let i = 0; i < down! * across!; i++) {
    const { vectors, weights } = mixOf(i);
    for (const [k, vector] of vectors.entries()) {
      if (!Number.isInteger(vector) || vector < 0 || vector >= count) throw noVector(vector, count);
      for (let j = 0; j < length; j++) {
        const at = i * length + j;
        values[at] = step(values[at]! + step(weights[k]! * bank.values[vector * length + j]!));
      }
    }
  }
  return { shape: [down!, across!, length], values };
}

const noVector = (vector: number, count: number) =>
  new AppError(
    "INDEX_OUT_OF_RANGE",
    `the adapter uses vector ${vector} of its bank, which has ${count}: the file is damaged. Save the adapter again.`,
  );

export const BANK: Readonly<Record<string, ExprFunction>> = {
  "bank-mix": bankMix,
  "bank-mix-stored": bankMixStored,
};
