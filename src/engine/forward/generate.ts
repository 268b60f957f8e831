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
 *
 * Where angles depend on a text's length ("dynamic", "longrope"), kept keys stay turned as they were, as in transformers;
 * running the whole text again would turn them by its new length. (Phi-3's class in transformers drops its cache there.)
 *
 * A text ends at the model's last learned position as it does at `maxNewTokens`.
 * @returns new tokens by side and prompt
 * @throws TEXT_TOO_LONG for a prompt that is longer than the model's learned positions
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
  const ended = (tokens: readonly number[]) => tokens.length > 0 && ends.has(tokens.at(-1)!);
  const room = forward.model.embedding.positions ? forward.model.maxPositions! : Number.POSITIVE_INFINITY;
  // What each text has run so far; one that has ended on every side runs no further.
  const lengths = prompts.map(() => 0);
  let feeds: Int32Array[][] = texts.map(() => [...prompts]);
  for (let step = 0; step < maxNewTokens; step++) {
    await request.between?.();
    const next = await nextTokens(forward, { feeds, offsets: [...lengths], cache });
    feeds[0]!.forEach((ids, i) => {
      lengths[i]! += ids.length;
    });
    const runs = feeds[0]!.map((ids) => ids.length > 0);
    const shown = texts.map((side, s) =>
      side.map((tokens, i) => {
        if (!runs[i] || ended(tokens)) return null;
        tokens.push(next[s]![i]!);
        return next[s]![i]!;
      }),
    );
    request.stepped?.(step, shown);
    const goesOn = prompts.map(
      (_, i) => runs[i]! && lengths[i]! < room && texts.some((side) => !ended(side[i]!)),
    );
    if (!goesOn.includes(true)) break;
    // All documents keep their places in the cache. One that has ended on this side alone runs on beside the other.
    feeds = next.map((side) => side.map((token, i) => (goesOn[i] ? Int32Array.of(token) : NOTHING)));
  }
  return texts;
}

const NOTHING = new Int32Array(0);

/** The most likely next token by side and document; of a document that runs nothing any. */
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
  sequences.forEach(({ begin, end }, i) => {
    if (end === begin) return;
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
