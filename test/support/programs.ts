import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { elementCount, type MergeableDtype, widen } from "../../src/core/dtype.ts";
import { evaluate } from "../../src/core/evaluate.ts";
import { type Expr, type Leaf, leafKey, leaves } from "../../src/core/expr.ts";
import { arithmeticOf, roundToBits, storedBits } from "../../src/core/numerics.ts";
import type { Recipe } from "../../src/core/recipe.ts";
import type { Kernels } from "../../src/engine/kernels.ts";
import type { ProgramLeaf, TensorResult, TensorTask } from "../../src/engine/pool.ts";
import { TensorRunner } from "../../src/engine/tensor-runner.ts";
import { fromBytes, toBytes } from "./canonical.ts";

/** Stored tensors of an example, by the keys of their leaves. */
export type Tensors = Map<
  string,
  { dtype: MergeableDtype; shape: readonly number[]; bytes: Uint8Array<ArrayBuffer> }
>;

export function sha(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Stores numbers in a type. */
export function stored(dtype: MergeableDtype, shape: readonly number[], value: (i: number) => number) {
  const bits = Array.from({ length: elementCount(shape) }, (_, i) => roundToBits(dtype, value(i)));
  return { dtype, shape, bytes: Uint8Array.from(toBytes(dtype, bits)) };
}

export interface Example {
  readonly expr: Expr;
  readonly shape: readonly number[];
  readonly dtype: MergeableDtype;
  readonly tensors: Tensors;
  readonly numerics?: Recipe["numerics"];
  /** Key of the leaf that is the input; default `base w`, where there is one. */
  readonly input?: string;
}

/** The task of an example, its tensors in one file of a folder, each at an odd offset. */
export function taskOf(example: Example, folder: string, name = "t"): TensorTask {
  const { expr, shape, dtype, tensors, numerics = "peft-1", input = "base w" } = example;
  const path = join(folder, `${name}.in`);
  const parts: Uint8Array[] = [];
  let at = 0;
  const located = new Map<string, ProgramLeaf>();
  for (const [key, { bytes, ...rest }] of tensors) {
    parts.push(new Uint8Array(3), bytes);
    located.set(key, {
      key,
      path,
      offset: at + 3,
      bytes: bytes.byteLength,
      digest: sha(bytes),
      dtype: rest.dtype,
      shape: rest.shape,
    });
    at += 3 + bytes.byteLength;
  }
  writeFileSync(path, Buffer.concat(parts));
  const output = join(folder, `${name}.out`);
  writeFileSync(output, "");
  return {
    name,
    dtype,
    shape,
    input: located.get(input) ?? null,
    ...(located.has(input) && { expectDigest: located.get(input)!.digest! }),
    program: {
      expr,
      numerics,
      leaves: leaves(expr)
        .map((leaf) => located.get(leafKey(leaf))!)
        .filter((leaf) => leaf.key !== input),
    },
    output: { path: output, offset: 0 },
  };
}

/** Stored bits of the slow interpreter's value; every NaN is the one quiet NaN that kernels store. */
export function expectedBits({ expr, dtype, tensors, numerics = "peft-1" }: Example): number[] {
  const lookup = (leaf: Leaf) => {
    const tensor = tensors.get(leafKey(leaf))!;
    return { shape: tensor.shape, values: widen(tensor.dtype, tensor.bytes) };
  };
  const { values } = evaluate(expr, { whole: lookup }, arithmeticOf(numerics, dtype));
  return Array.from(values, (value) => bitsOf(value, numerics, dtype));
}

/** As a kernel stores it: every NaN is the one quiet NaN. */
function bitsOf(value: number, numerics: Recipe["numerics"], dtype: MergeableDtype): number {
  const nan = { BF16: 0x7fc0, F16: 0x7e00, F32: 0x7fc00000 }[dtype];
  return Number.isNaN(value) ? nan : storedBits(numerics, dtype, value);
}

export interface Run {
  readonly bits: number[];
  readonly result: TensorResult;
  readonly progress: number;
}

/** Runs a task on this thread. */
export function runTask(task: TensorTask, kernels: Kernels, tileElements?: number): Run {
  let progress = 0;
  const runner = new TensorRunner(kernels, {
    checkStopped: () => {},
    advance: (bytes) => {
      progress += bytes;
    },
    wrote: () => {},
    tileElements,
  });
  try {
    const result = runner.run(task);
    const bytes = Uint8Array.from(readFileSync(task.output!.path));
    const buffer = bytes.buffer;
    const bits = Array.from(task.dtype === "F32" ? new Uint32Array(buffer) : new Uint16Array(buffer));
    return { bits, result, progress };
  } finally {
    runner.close();
  }
}

/** The stored input, rounded into the output's type where that is another one. */
function inputBits(
  { dtype: from, bytes }: { dtype: MergeableDtype; bytes: Uint8Array },
  dtype: MergeableDtype,
) {
  if (from === dtype) return fromBytes(dtype, bytes);
  return Array.from(widen(from, bytes), (value) => bitsOf(value, "peft-1", dtype));
}

/** Runs an example in tiles of a size and compares bits, changes, digests and progress with the interpreter's. */
export function check(
  example: Example,
  { folder, kernels, tileElements }: { folder: string; kernels: Kernels; tileElements?: number | undefined },
): void {
  const task = taskOf(example, folder);
  const bits = expectedBits(example);
  const input = example.tensors.get(example.input ?? "base w");
  const before = input && inputBits(input, example.dtype);
  const { bits: got, result, progress } = runTask(task, kernels, tileElements);
  expect(got).toEqual(bits);
  expect(result.outputDigest).toBe(sha(toBytes(example.dtype, bits)));
  // What a cast alone does to the input is no change.
  const changed =
    before?.length === bits.length ? bits.filter((word, i) => word !== before[i]).length : bits.length;
  expect(result.changed).toBe(changed);
  expect(result.inputDigest).toBe(input ? sha(input.bytes) : null);
  expect(progress).toBe(input?.bytes.byteLength ?? 0);
}
