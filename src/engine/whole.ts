import { DTYPE_BITS, type Dtype, elementCount, type MergeableDtype, widen } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { evaluate, type NdArray } from "../core/evaluate.ts";
import { leafKey } from "../core/expr.ts";
import { arithmeticOf, storedBits } from "../core/numerics.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";

/** Elements of a tensor that is computed in memory as a whole: 8 bytes each, several times over. */
const MAX_ELEMENTS = 2 ** 25;

/** The output's bytes, and how many elements differ from the input's. */
export interface WholeResult {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly changed: number;
}

/**
 * Evaluates a task's expression with core's slow interpreter.
 * @param input bytes of the task's input, read already
 * @throws TENSOR_TOO_LARGE
 */
export function computeWhole(
  task: TensorTask,
  input: Uint8Array | null,
  read: (leaf: ProgramLeaf) => Uint8Array,
): WholeResult {
  const { program, shape } = task;
  const dtype = task.dtype as MergeableDtype;
  const count = elementCount(shape);
  if (count > MAX_ELEMENTS) {
    throw new AppError(
      "TENSOR_TOO_LARGE",
      `tensor "${task.name}" has ${count} elements, and its kind of change is computed in memory for at most ${MAX_ELEMENTS}. Merge it with PEFT and import the result.`,
    );
  }
  const leaves = new Map(program!.leaves.map((leaf) => [leaf.key, leaf]));
  const value = evaluate(
    program!.expr,
    {
      whole: (leaf) => {
        const key = leafKey(leaf);
        if (input && key === task.input!.key) return widened(task.input!, input);
        const stored = leaves.get(key)!;
        return widened(stored, read(stored));
      },
    },
    arithmeticOf(program!.numerics, dtype),
  );
  if (value.values.length !== count) throw new Error(`${task.name}: [${value.shape}] instead of [${shape}]`);
  const bits = value.values.length === 0 ? [] : value.values;
  const bytes = packed(
    dtype,
    Uint32Array.from(bits, (v) => storedBits(program!.numerics, dtype, v)),
  );
  const comparable = input !== null && task.input!.dtype === dtype && input.byteLength === bytes.byteLength;
  return { bytes, changed: comparable ? differing(dtype, input, bytes) : count };
}

const INTEGERS: Partial<Record<Dtype, (bytes: ArrayBuffer) => ArrayLike<number | bigint>>> = {
  I64: (bytes) => new BigInt64Array(bytes),
  I32: (bytes) => new Int32Array(bytes),
  I16: (bytes) => new Int16Array(bytes),
  I8: (bytes) => new Int8Array(bytes),
  U8: (bytes) => new Uint8Array(bytes),
  BOOL: (bytes) => new Uint8Array(bytes),
};

function widened({ dtype, shape }: ProgramLeaf, bytes: Uint8Array): NdArray {
  const integers = INTEGERS[dtype];
  if (!integers) return { shape, values: widen(dtype, bytes) };
  const aligned = bytes.slice().buffer as ArrayBuffer;
  return { shape, values: Float64Array.from(Array.from(integers(aligned), Number)) };
}

function packed(dtype: MergeableDtype, bits: Uint32Array): Uint8Array<ArrayBuffer> {
  const words = dtype === "F32" ? bits : Uint16Array.from(bits);
  return new Uint8Array(words.buffer as ArrayBuffer);
}

function differing(dtype: MergeableDtype, before: Uint8Array, after: Uint8Array): number {
  const width = DTYPE_BITS[dtype] / 8;
  let changed = 0;
  for (let i = 0; i < after.byteLength; i += width) {
    for (let j = 0; j < width; j++) {
      if (before[i + j] === after[i + j]) continue;
      changed++;
      break;
    }
  }
  return changed;
}
