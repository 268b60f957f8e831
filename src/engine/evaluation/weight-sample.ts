import { DTYPE_BITS, elementCount, isMergeable, widen } from "../../core/dtype.ts";
import type { WeightSample } from "../../core/evaluation/retention.ts";
import type { Cut } from "../../core/leaf-part.ts";
import { type OpenFiles, readExact } from "../../storage/tensor-io.ts";
import type { StoredTensor } from "../pool.ts";
import { computed, pieceAt, placeOf } from "../sample.ts";
import type { CompareTask } from "./tensor-comparer.ts";

export type { WeightSample };

/** A touched tensor whose elements are wanted beside their exact change. */
export interface WeightSampleTask extends CompareTask {
  /** Also the change's transpose, of a square one. */
  readonly turned: boolean;
}

/** Elements of a sample: enough to tell changes apart, and 256 samples of them fit in memory. */
const SAMPLE = 16_384;
const PIECES = 8;

/**
 * Elements of the base, of the candidate and of the exact change at the same places, the same ones for every tensor of
 * a shape. Null where the tensor is no float, or even a piece of the change takes too much to compute by itself.
 */
export function sampleWeights(task: WeightSampleTask, files: OpenFiles): WeightSample | null {
  const { candidate, delta, expected } = task;
  if (!delta || !candidate || !isMergeable(candidate.dtype)) return null;
  const { shape, dtype } = candidate;
  const input = elementCount(expected.input?.shape ?? [0]) === elementCount(shape) ? expected.input : null;
  const pieces = piecesOf(shape);
  const turns = task.turned && shape.length === 2 && shape[0] === shape[1];
  const lots = { weights: [], stored: [], delta: [], transposed: [] } as Record<string, Float64Array[]>;
  for (const cuts of pieces) {
    const change = computed(delta, cuts, files);
    const turned = turns ? transposed(task, cuts, files) : null;
    if (!change || (turns && !turned)) return null;
    const place = placeOf(shape, cuts);
    lots.weights!.push(input ? stored(input, place, files) : new Float64Array(change.length));
    lots.stored!.push(stored(candidate, place, files));
    lots.delta!.push(change);
    if (turned) lots.transposed!.push(turned);
  }
  return {
    tensor: task.name,
    shape,
    dtype,
    weights: joined(lots.weights!),
    stored: joined(lots.stored!),
    delta: joined(lots.delta!),
    transposed: turns ? joined(lots.transposed!) : null,
  };
}

function piecesOf(shape: readonly number[]): Cut[][] {
  if (elementCount(shape) <= SAMPLE) return [[]];
  return Array.from({ length: PIECES }, (_, i) => pieceAt(shape, i / (PIECES - 1), SAMPLE / PIECES));
}

/** The piece of Δᵀ: the mirrored piece of Δ, turned. */
function transposed(
  { delta, expected }: CompareTask,
  cuts: readonly Cut[],
  files: OpenFiles,
): Float64Array | null {
  const mirrored = cuts.map((cut) => ({ ...cut, axis: 1 - cut.axis })).sort((a, b) => a.axis - b.axis);
  const values = computed(delta!, mirrored, files);
  if (!values) return null;
  const along = mirrored.find(({ axis }) => axis === 1);
  const columns = along ? along.stop - along.start : expected.shape[1]!;
  const rows = values.length / columns;
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
}

function stored(
  { path, offset, dtype }: StoredTensor,
  place: { readonly offset: number; readonly elements: number },
  files: OpenFiles,
): Float64Array {
  const width = DTYPE_BITS[dtype] / 8;
  const bytes = new Uint8Array(place.elements * width);
  readExact(files.reading(path), path, bytes, offset + place.offset * width);
  return widen(dtype, bytes);
}

function joined(parts: readonly Float64Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
