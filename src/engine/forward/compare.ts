import type { LayerDistance, Measures } from "../../core/evaluation/measures.ts";
import { Batch } from "./batch.ts";
import type { Forward } from "./forward.ts";
import { runHead } from "./head.ts";
import { type Matrix, matrix } from "./matrix.ts";
import { joinMeasures, PairMeter } from "./meter.ts";
import { chunksOf, documentStarts, predictionsOf, type TokenSequence } from "./sequences.ts";

export interface Comparison {
  readonly measures: Measures;
  /** Between the first side and each one after the second, over the first sequences. */
  readonly others: readonly Measures[];
  readonly layers: readonly (LayerDistance & { readonly floor: number | null })[];
}

export interface CompareRequest {
  readonly sequences: readonly TokenSequence[];
  /** How many of the sequences the sides after the second run; the third is the noise floor of the layers' distances. */
  readonly otherSequences: number;
  /** Tokens that go through the model together. */
  readonly chunkTokens: number;
  /** So many of all layers of all chunks are done. */
  readonly progress: (done: number, total: number) => void;
  readonly between?: () => Promise<void> | void;
}

/** Runs reference, candidate and perhaps other sides over texts and compares what they give with the reference. */
export async function compareSides(forward: Forward, request: CompareRequest): Promise<Comparison> {
  const chunks = chunksOf(request.sequences, request.chunkTokens);
  const total = chunks.length * (forward.model.layers.length + 1);
  const distances = new Distances();
  const floors = new Distances();
  const found: { measures: Measures; others: readonly Measures[] }[] = [];
  let left = request.otherSequences;
  for (const [index, chunk] of chunks.entries()) {
    const count = Math.min(left, chunk.length);
    left -= count;
    found.push(
      await compareChunk(forward, chunk, {
        count,
        others: forward.sides - 2,
        seen: (name, [a, b, c]) => {
          distances.add(name, a!, b!);
          if (c && c.rows > 0) floors.add(name, a!, c);
        },
        between: async (layer) => {
          request.progress(index * (forward.model.layers.length + 1) + layer, total);
          await request.between?.();
        },
      }),
    );
  }
  request.progress(total, total);
  const documents = request.sequences.map(({ document }) => document);
  return {
    measures: joined(
      found.map(({ measures }) => measures),
      documents,
    ),
    others: Array.from({ length: request.otherSequences > 0 ? forward.sides - 2 : 0 }, (_, other) =>
      joined(
        found.flatMap(({ others }) => others[other] ?? []),
        documents.slice(0, request.otherSequences),
      ),
    ),
    layers: distances.list().map((layer) => ({ ...layer, floor: floors.relative(layer.name) })),
  };
}

interface ChunkRun {
  /** Sequences that the other sides run, and how many such sides there are. */
  readonly count: number;
  readonly others: number;
  readonly seen: (name: string, hidden: readonly Matrix[]) => void;
  readonly between: (layer: number) => Promise<void>;
}

async function compareChunk(forward: Forward, chunk: readonly TokenSequence[], run: ChunkRun) {
  const batch = new Batch(chunk.map(({ ids }) => ids));
  const documents = [chunk.length, chunk.length, ...new Array<number>(run.others).fill(run.count)];
  const hidden = await forward.run({ batch, documents, seen: run.seen, between: run.between });
  const isVocabulary = forward.model.head.form === "vocabulary";
  const { rows, labels, counts } = isVocabulary ? predictionsOf(chunk) : onePerSequence(chunk);
  const otherRows = counts.slice(0, run.count).reduce((sum, count) => sum + count, 0);
  const wanted = isVocabulary
    ? hidden.map((x, side) => gathered(x, side > 1 ? rows.subarray(0, otherRows) : rows))
    : hidden;
  const meter = new PairMeter(labels);
  const others = hidden.slice(2).map(() => new PairMeter(labels.subarray(0, otherRows)));
  await runHead(forward, wanted, {
    batch,
    documents,
    sees: ([a, b, ...more], column) => {
      if (!a || !b) return;
      meter.add(a, b, { first: 0, column });
      more.forEach((c, i) => {
        if (!c || c.rows === 0) return;
        const same = matrix(c.rows, a.cols, a.data.subarray(0, c.data.length));
        others[i]!.add(same, c, { first: 0, column });
      });
    },
  });
  for (const x of hidden) forward.ops.give(x);
  const starts = (n: number) => startsOf(counts.slice(0, n));
  return {
    measures: meter.measures(starts(chunk.length)),
    others: run.count > 0 ? others.map((other) => other.measures(starts(run.count))) : [],
  };
}

function onePerSequence(chunk: readonly TokenSequence[]) {
  return {
    rows: new Int32Array(0),
    labels: new Int32Array(chunk.length).fill(-1),
    counts: chunk.map(() => 1),
  };
}

function startsOf(counts: readonly number[]): number[] {
  const starts = [0];
  for (const count of counts) starts.push(starts.at(-1)! + count);
  return starts;
}

/** Measures of chunks, whose starts are of sequences, with starts of documents. */
function joined(parts: readonly Measures[], documents: readonly number[]): Measures {
  const all = joinMeasures(parts);
  const counts = all.starts.slice(1).map((start, i) => start - all.starts[i]!);
  return { ...all, starts: documentStarts(documents.slice(0, counts.length), counts) };
}

function gathered(x: Matrix, rows: Int32Array): Matrix {
  const made = matrix(rows.length, x.cols);
  rows.forEach((row, i) => {
    made.data.set(x.data.subarray(row * x.cols, (row + 1) * x.cols), i * x.cols);
  });
  return made;
}

/** Adds up how far hidden states are apart, layer by layer. */
class Distances {
  readonly #sums = new Map<string, { squares: number; differences: number; maxAbs: number }>();

  /** `b` may have fewer rows: those are compared. */
  add(name: string, a: Matrix, b: Matrix): void {
    const sum = this.#sums.get(name) ?? { squares: 0, differences: 0, maxAbs: 0 };
    let { squares, differences, maxAbs } = sum;
    const [left, right] = [a.data, b.data];
    for (let i = 0; i < right.length; i++) {
      const difference = left[i]! - right[i]!;
      squares += left[i]! * left[i]!;
      differences += difference * difference;
      const size = Math.abs(difference);
      if (size > maxAbs && size < Number.POSITIVE_INFINITY) maxAbs = size;
    }
    this.#sums.set(name, { squares, differences, maxAbs });
  }

  list(): LayerDistance[] {
    return [...this.#sums].map(([name, { maxAbs }]) => ({
      name,
      relativeError: this.relative(name),
      maxAbs,
    }));
  }

  /** Null where nothing was added, or something that is no number. */
  relative(name: string): number | null {
    const sum = this.#sums.get(name);
    if (!sum) return null;
    const error = sum.differences === 0 ? 0 : Math.sqrt(sum.differences / sum.squares);
    return Number.isFinite(error) ? error : null;
  }
}
