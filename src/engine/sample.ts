import { join } from "node:path";
import { DTYPE_BITS, elementCount, type MergeableDtype, widen } from "../core/dtype.ts";
import { evaluate, type NdArray } from "../core/evaluate.ts";
import { leafKey } from "../core/expr.ts";
import { arithmeticOf, bitsToNumber, storedBits } from "../core/numerics.ts";
import type { SampledRows } from "../core/parity.ts";
import { rowsOf } from "../core/rows.ts";
import { OpenFiles, readExact } from "../storage/tensor-io.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import { type TaskInputs, tensorTasks } from "./tasks.ts";

/** Rows taken of each touched tensor: first, last, and some between. */
const ROWS_PER_TENSOR = 4;
/** Elements of leaves and results that one sampled row may take: a second opinion, not a second merge. */
const MAX_WORK_PER_ROW = 4_000_000;

/**
 * Reads sampled rows of every touched tensor back from the written files and computes them a second way, with the
 * slow implementation in core: a wrong offset, shard, factor or kernel shows as a differing element.
 */
export async function sampleRows(inputs: TaskInputs, written: string): Promise<SampledRows> {
  let rows = 0;
  let elements = 0;
  const differing: string[] = [];
  const files = new OpenFiles();
  try {
    for (const [i, step] of inputs.plan.steps.entries()) {
      const task = tasksOf(inputs)[i]!;
      if (!task.program || step.bytes === 0) continue;
      const output = { path: join(written, step.file), offset: step.outputBegin };
      const result = sampleTensor(task, output, files);
      rows += result.rows;
      elements += result.elements;
      if (result.differs) differing.push(step.tensor);
      // Reading is synchronous: let others on this thread have their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    files.closeAll();
  }
  return { rows, elements, differing };
}

const known = new WeakMap<TaskInputs, TensorTask[]>();

function tasksOf(inputs: TaskInputs): TensorTask[] {
  const tasks = known.get(inputs) ?? tensorTasks(inputs);
  known.set(inputs, tasks);
  return tasks;
}

function sampleTensor(task: TensorTask, output: { path: string; offset: number }, files: OpenFiles) {
  const program = task.program!;
  const dtype = task.dtype as MergeableDtype;
  const count = task.shape[0] ?? 1;
  const columns = elementCount(task.shape) / Math.max(1, count);
  const work = program.leaves.reduce((sum, leaf) => sum + elementCount(leaf.shape), columns);
  const leaves = new Map([...program.leaves, ...(task.input ? [task.input] : [])].map((l) => [l.key, l]));
  const shapes = (leaf: Parameters<typeof leafKey>[0]) => leaves.get(leafKey(leaf))!.shape;
  const lookup = {
    whole: (leaf: Parameters<typeof leafKey>[0]) => readRows(leaves.get(leafKey(leaf))!, files, null),
    rows: (leaf: Parameters<typeof leafKey>[0], start: number, stop: number) =>
      readRows(leaves.get(leafKey(leaf))!, files, { start, stop }),
  };
  const chosen = task.shape.length === 0 || work > MAX_WORK_PER_ROW ? [0] : chosenRows(count);
  let differs = false;
  for (const row of chosen) {
    const expr = task.shape.length === 0 ? program.expr : rowsOf(program.expr, row, row + 1, shapes);
    const expected = evaluate(expr, lookup, arithmeticOf(program.numerics, dtype)).values;
    const width = (columns * DTYPE_BITS[dtype]) / 8;
    const bytes = new Uint8Array(width);
    readExact(files.reading(output.path), output.path, bytes, output.offset + row * width);
    const actual = widen(dtype, bytes);
    differs ||= expected.some((value, j) => {
      const stored = bitsToNumber(dtype, storedBits(program.numerics, dtype, value));
      return !Object.is(stored, actual[j]);
    });
  }
  return { rows: chosen.length, elements: chosen.length * columns, differs };
}

function readRows(
  leaf: ProgramLeaf,
  files: OpenFiles,
  rows: { start: number; stop: number } | null,
): NdArray {
  const [count = 1, ...rest] = leaf.shape;
  const { start, stop } = rows ?? { start: 0, stop: count };
  const width = leaf.bytes / Math.max(1, count);
  const bytes = new Uint8Array((stop - start) * width);
  readExact(files.reading(leaf.path), leaf.path, bytes, leaf.offset + start * width);
  const shape = leaf.shape.length === 0 ? [] : [stop - start, ...rest];
  return { shape, values: widen(leaf.dtype, bytes) };
}

/** First, last and evenly spread rows, each once. */
function chosenRows(count: number): number[] {
  const spread = Array.from({ length: ROWS_PER_TENSOR }, (_, i) =>
    Math.round((i * (count - 1)) / (ROWS_PER_TENSOR - 1)),
  );
  return [...new Set(spread)];
}
