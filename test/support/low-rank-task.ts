import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { base, type Leaf, leafKey, lowRankUpdate, source } from "../../src/core/expr.ts";
import { NUMERICS } from "../../src/core/numerics-versions.ts";
import type { ProgramLeaf, TensorTask } from "../../src/engine/pool.ts";
import { mergeReference, randomCase, roundToBits, toBytes } from "./canonical.ts";

export interface LowRankSize {
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
}

/** A task that updates a BF16 matrix, over files in a folder, without an output; and the bytes that must come out. */
export function lowRankTask(folder: string, size: LowRankSize): { task: TensorTask; output: Uint8Array } {
  const { rows, cols, rank } = size;
  const input = randomCase({ dtype: "BF16", ...size }, 1);
  const f32 = (values: readonly number[]) => values.map((value) => roundToBits("F32", value));
  const stored = (
    leaf: Leaf,
    dtype: "BF16" | "F32",
    shape: number[],
    bits: readonly number[],
  ): ProgramLeaf => {
    const path = join(folder, `${leaf.tensor}.bin`);
    const bytes = toBytes(dtype, bits);
    writeFileSync(path, bytes);
    return { key: leafKey(leaf), path, offset: 0, bytes: bytes.byteLength, dtype, shape };
  };
  const [a, b] = [source(0, "a"), source(0, "b")];
  const expr = lowRankUpdate({ base: "w", left: b, right: a, scale: input.scale, roundFirst: false });
  const leaves = [stored(b, "F32", [rows, rank], f32(input.b)), stored(a, "F32", [rank, cols], f32(input.a))];
  const task: TensorTask = {
    name: "w",
    dtype: "BF16",
    shape: [rows, cols],
    input: stored(base("w"), "BF16", [rows, cols], input.w),
    program: { expr, leaves, numerics: NUMERICS },
  };
  return { task, output: toBytes("BF16", mergeReference(input)) };
}
