import { join } from "node:path";
import { type LocatedTensor, tensorsByName } from "../core/checkpoint.ts";
import { DTYPE_BITS, type MergeableDtype, widen } from "../core/dtype.ts";
import { asLowRankUpdate } from "../core/expr.ts";
import { mergeRow } from "../core/numerics.ts";
import type { SampledRows } from "../core/parity.ts";
import type { PlanStep } from "../core/plan.ts";
import { FileSource } from "../storage/file.ts";
import type { TaskInputs } from "./tasks.ts";

/** Rows taken of each touched tensor: first, last, and some between. */
const ROWS_PER_TENSOR = 4;
/** Multiply-adds spent on one row at most: a second opinion, not a second merge. */
const MAX_WORK_PER_ROW = 4_000_000;

/**
 * Reads sampled rows of every touched tensor back from the written files and computes them a second way, with the
 * slow implementation in core: a wrong offset, shard, factor or kernel shows as a differing element.
 */
export async function sampleRows(inputs: TaskInputs, written: string): Promise<SampledRows> {
  let rows = 0;
  let elements = 0;
  const differing: string[] = [];
  for (const step of inputs.plan.steps) {
    if (step.expr === null || step.bytes === 0) continue;
    const result = await sampleTensor(inputs, step, written);
    rows += result.rows;
    elements += result.elements;
    if (result.differs) differing.push(step.tensor);
  }
  return { rows, elements, differing };
}

async function sampleTensor({ base, sources }: TaskInputs, step: PlanStep, written: string) {
  const update = asLowRankUpdate(step.expr!);
  if (!update) throw new Error(`no check for the expression of ${step.tensor}`);
  const source = sources[update.source]!;
  const factors = tensorsByName(source.facts.weights);
  const factorA = factors.get(update.a)!;
  const factorB = factors.get(update.b)!;
  const [count, columns] = step.shape as [number, number];
  const dtype = step.dtype as MergeableDtype;
  const width = (columns * DTYPE_BITS[dtype]) / 8;
  const a = await readTensor(source.folder, factorA);
  await using before = await FileSource.open(join(base.folder, step.file));
  await using after = await FileSource.open(join(written, step.file));
  await using b = await FileSource.open(join(source.folder, factorB.file));
  const bWidth = (factorB.shape[1]! * DTYPE_BITS[factorB.dtype]) / 8;
  let differs = false;
  const chosen = chooseRows(count, factorA.shape[0]! * columns);
  for (const row of chosen) {
    const at = step.inputBegin + row * width;
    const out = step.outputBegin + row * width;
    const bAt = factorB.begin + row * bWidth;
    const expected = mergeRow({
      weight: widen(dtype, await before.read(at, at + width)),
      b: widen(factorB.dtype, await b.read(bAt, bAt + bWidth)),
      a,
      scale: update.scale,
      dtype,
    });
    if (!sameBits(await after.read(out, out + width), expected, dtype)) differs = true;
  }
  return { rows: chosen.length, elements: chosen.length * columns, differs };
}

async function readTensor(folder: string, tensor: LocatedTensor): Promise<Float64Array> {
  await using source = await FileSource.open(join(folder, tensor.file));
  return widen(tensor.dtype, await source.read(tensor.begin, tensor.end));
}

function chooseRows(count: number, workPerRow: number): number[] {
  const wanted = Math.max(
    1,
    Math.min(ROWS_PER_TENSOR, Math.floor((4 * MAX_WORK_PER_ROW) / Math.max(1, workPerRow))),
  );
  const rows = new Set<number>();
  for (let i = 0; i < wanted; i++)
    rows.add(wanted === 1 ? count - 1 : Math.floor((i * (count - 1)) / (wanted - 1)));
  return [...rows];
}

function sameBits(bytes: Uint8Array, expected: Uint32Array, dtype: MergeableDtype): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return expected.every((bits, i) =>
    dtype === "F32" ? view.getUint32(i * 4, true) === bits : view.getUint16(i * 2, true) === bits,
  );
}
