import { Batch } from "./batch.ts";
import { KeyValueCache } from "./cache.ts";
import type { Forward } from "./forward.ts";
import { runHead } from "./head.ts";
import { type Matrix, matrix } from "./matrix.ts";

export interface GenerateRequest {
  readonly prompts: readonly Int32Array[];
  readonly maxNewTokens: number;
  /** Tokens that end a text; they are kept in it. */
  readonly ends: readonly number[];
  /** `next` of one side's texts, one token each; after every step. */
  readonly stepped?: (step: number, next: readonly (readonly (number | null)[])[]) => void;
  readonly between?: () => Promise<void> | void;
}

/**
 * Greedy continuations of all prompts by all sides in lockstep, so that weights are read once a token; keys and values
 * of earlier tokens are kept. The first of equal logits wins, as torch's argmax has it.
 * @returns new tokens by side and prompt
 */
export async function generate(
  forward: Forward,
  request: GenerateRequest,
  sides: number,
): Promise<number[][][]> {
  const { prompts, maxNewTokens } = request;
  const texts: number[][][] = Array.from({ length: sides }, () => prompts.map(() => []));
  const cache = new KeyValueCache();
  const ends = new Set(request.ends);
  let feeds: Int32Array[][] = texts.map(() => [...prompts]);
  let offsets = prompts.map(() => 0);
  for (let step = 0; step < maxNewTokens; step++) {
    await request.between?.();
    const next = await nextTokens(forward, { feeds, offsets, cache });
    const shown = texts.map((side, s) =>
      side.map((tokens, i) => {
        if (tokens.length > 0 && ends.has(tokens.at(-1)!)) return null;
        tokens.push(next[s]![i]!);
        return next[s]![i]!;
      }),
    );
    request.stepped?.(step, shown);
    if (texts.every((side) => side.every((tokens) => ends.has(tokens.at(-1)!)))) break;
    offsets = offsets.map((offset, i) => offset + feeds[0]![i]!.length);
    // A text that ended runs on beside the others, unseen: all documents keep their places in the cache.
    feeds = next.map((side) => side.map((token) => Int32Array.of(token)));
  }
  return texts;
}

/** The most likely next token by side and document. */
async function nextTokens(
  forward: Forward,
  {
    feeds,
    offsets,
    cache,
  }: { feeds: readonly (readonly Int32Array[])[]; offsets: readonly number[]; cache: KeyValueCache },
): Promise<number[][]> {
  const batch = new Batch(feeds as Int32Array[][], offsets);
  const count = feeds[0]!.length;
  const documents = feeds.map(() => count);
  const hidden = await forward.run({ batch, documents, cache });
  const last = hidden.map((x) => lastRows(x, batch));
  for (const x of hidden) forward.ops.give(x);
  const best = last.map(() => new Float64Array(count).fill(Number.NEGATIVE_INFINITY));
  const tokens = last.map(() => new Array<number>(count).fill(0));
  await runHead(forward, last, {
    batch,
    documents,
    sees: (parts, column) => {
      parts.forEach((part, side) => {
        if (part) keepLargest(part, { column, best: best[side]!, tokens: tokens[side]! });
      });
    },
  });
  return tokens;
}

function lastRows(x: Matrix, { sequences }: Batch): Matrix {
  const made = matrix(sequences.length, x.cols);
  sequences.forEach(({ end }, i) => {
    made.data.set(x.data.subarray((end - 1) * x.cols, end * x.cols), i * x.cols);
  });
  return made;
}

function keepLargest(
  { rows, cols, data }: Matrix,
  { column, best, tokens }: { column: number; best: Float64Array; tokens: number[] },
): void {
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < cols; i++) {
      const value = data[row * cols + i]!;
      if (value > best[row]!) {
        best[row] = value;
        tokens[row] = column + i;
      }
    }
  }
}
