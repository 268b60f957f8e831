import type { LayerDistance, Measures } from "../../core/evaluation/measures.ts";
import { Batch } from "./batch.ts";
import type { Forward } from "./forward.ts";
import { runHead } from "./head.ts";
import { type Matrix, matrix } from "./matrix.ts";
import { joinMeasures, PairMeter } from "./meter.ts";
import { chunksOf, documentStarts, predictionsOf, type TokenSequence } from "./sequences.ts";

export interface Comparison {
  readonly measures: Measures;
  /** Between the first and the third side, over the first sequences; null without a third side. */
  readonly floor: Measures | null;
  readonly layers: readonly (LayerDistance & { readonly floor: number | null })[];
}

export interface CompareRequest {
  readonly sequences: readonly TokenSequence[];
  /** How many of the sequences the third side (the noise floor) runs; 0: none. */
  readonly floorSequences: number;
  /** Tokens that go through the model together. */
  readonly chunkTokens: number;
  /** So many of all layers of all chunks are done. */
  readonly progress: (done: number, total: number) => void;
  readonly between?: () => Promise<void> | void;
}

/** Runs reference, candidate and perhaps a third side over texts and compares what they give. */
export async function compareSides(forward: Forward, request: CompareRequest): Promise<Comparison> {
  const chunks = chunksOf(request.sequences, request.chunkTokens);
  const total = chunks.length * (forward.model.layers.length + 1);
  const distances = new Distances();
  const floors = new Distances();
  const found: { measures: Measures; floor: Measures | null }[] = [];
  let left = request.floorSequences;
  for (const [index, chunk] of chunks.entries()) {
    const floorCount = Math.min(left, chunk.length);
    left -= floorCount;
    found.push(
      await compareChunk(forward, chunk, {
        floorCount,
        seen: (name, [a, b, c]) => {
          distances.add(name, a!, b!);
          if (c && c.rows > 0) floors.add(name, a!, c);
        },
        between: async (layer) => {
          request.progress(index * (forward.model.layers.length + 1) + layer, total);
          await request.between?.();
        },
        hasFloor: request.floorSequences > 0,
      }),
    );
  }
  request.progress(total, total);
  const floorParts = found.flatMap(({ floor }) => floor ?? []);
  const documents = request.sequences.map(({ document }) => document);
  return {
    measures: joined(
      found.map(({ measures }) => measures),
      documents,
    ),
    floor: floorParts.length > 0 ? joined(floorParts, documents.slice(0, request.floorSequences)) : null,
    layers: distances.list().map((layer) => ({ ...layer, floor: floors.relative(layer.name) })),
  };
}

interface ChunkRun {
  readonly floorCount: number;
  readonly hasFloor: boolean;
  readonly seen: (name: string, hidden: readonly Matrix[]) => void;
  readonly between: (layer: number) => Promise<void>;
}

async function compareChunk(forward: Forward, chunk: readonly TokenSequence[], run: ChunkRun) {
  const batch = new Batch(chunk.map(({ ids }) => ids));
  const documents = [chunk.length, chunk.length, ...(run.hasFloor ? [run.floorCount] : [])];
  const hidden = await forward.run({ batch, documents, seen: run.seen, between: run.between });
  const isVocabulary = forward.model.head.form === "vocabulary";
  const { rows, labels, counts } = isVocabulary ? predictionsOf(chunk) : onePerSequence(chunk);
  const floorRows = counts.slice(0, run.floorCount).reduce((sum, count) => sum + count, 0);
  const wanted = isVocabulary
    ? hidden.map((x, side) => gathered(x, side === 2 ? rows.subarray(0, floorRows) : rows))
    : hidden;
  const meter = new PairMeter(labels);
  const floor = floorRows > 0 ? new PairMeter(labels.subarray(0, floorRows)) : null;
  await runHead(forward, wanted, {
    batch,
    documents,
    sees: ([a, b, c], column) => {
      if (!a || !b) return;
      meter.add(a, b, { first: 0, column });
      if (c && c.rows > 0)
        floor?.add(matrix(c.rows, a.cols, a.data.subarray(0, c.data.length)), c, { first: 0, column });
    },
  });
  for (const x of hidden) forward.ops.give(x);
  const starts = (n: number) => startsOf(counts.slice(0, n));
  return {
    measures: meter.measures(starts(chunk.length)),
    floor: floor?.measures(starts(run.floorCount)) ?? null,
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
      if (size > maxAbs) maxAbs = size;
    }
    this.#sums.set(name, { squares, differences, maxAbs });
  }

  list(): LayerDistance[] {
    return [...this.#sums].map(([name, { maxAbs }]) => ({
      name,
      relativeError: this.relative(name)!,
      maxAbs,
    }));
  }

  relative(name: string): number | null {
    const sum = this.#sums.get(name);
    if (!sum) return null;
    return sum.squares === 0 ? 0 : Math.sqrt(sum.differences / sum.squares);
  }
}
