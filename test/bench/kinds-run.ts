import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { elementCount } from "../../src/core/dtype.ts";
import { type Leaf, leafKey, leaves } from "../../src/core/expr.ts";
import type { Kernels } from "../../src/engine/kernels.ts";
import type { ProgramLeaf, TensorTask } from "../../src/engine/pool.ts";
import { TensorRunner } from "../../src/engine/tensor-runner.ts";
import { type KindExample, kindExamples } from "./kinds.ts";

const SIDE = 4096;
const ROUNDS = 4;

export interface KindSpeed {
  readonly kind: string;
  /** GB of stored weights in a second of processor time. */
  readonly gbps: number;
}

/** Each kind on a BF16 matrix: read, computed and counted; nothing hashed or written. */
export function measureKinds(kernels: Kernels): KindSpeed[] {
  const folder = mkdtempSync(join(tmpdir(), "graftwork-kinds-"));
  const runner = new TensorRunner(kernels, { checkStopped: () => {}, advance: () => {}, wrote: () => {} });
  try {
    const path = join(folder, "w");
    // Numbers of both signs from 2⁻⁷ to 2⁻⁶, in no order.
    const weights = Uint16Array.from({ length: SIDE * SIDE }, (_, i) => {
      const noise = Math.imul(i, 2654435761) >>> 24;
      return ((noise & 1) << 15) | (0x3c00 + (noise >>> 1));
    });
    writeFileSync(path, weights);
    const input = storedLeaf("base w", path, { dtype: "BF16", shape: [SIDE, SIDE] });
    const copy: TensorTask = { name: "no change", dtype: "BF16", shape: input.shape, digests: "none", input };
    const speed = (task: TensorTask): KindSpeed => ({
      kind: task.name,
      gbps: input.bytes / fastestRun(runner, task) / 1e9,
    });
    return [speed(copy), ...kindExamples(SIDE, SIDE).map((one) => speed(taskOf(one, input, folder)))];
  } finally {
    runner.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function fastestRun(runner: TensorRunner, task: TensorTask): number {
  const once = () => {
    const start = process.threadCpuUsage();
    runner.run(task);
    const { user, system } = process.threadCpuUsage(start);
    return (user + system) / 1e6;
  };
  return Math.min(...Array.from({ length: ROUNDS }, once));
}

function taskOf(example: KindExample, input: ProgramLeaf, folder: string): TensorTask {
  const own = leaves(example.expr).filter((leaf) => leaf.op === "source");
  return {
    name: example.kind,
    dtype: "BF16",
    shape: [SIDE, SIDE],
    digests: "none",
    input,
    program: {
      expr: example.expr,
      leaves: own.map((leaf) => writeLeaf(leaf, example, folder)),
      numerics: "peft-1",
    },
  };
}

function writeLeaf(leaf: Leaf, { stored, places }: KindExample, folder: string): ProgramLeaf {
  const path = join(folder, leaf.tensor);
  const count = places?.[leaf.tensor];
  if (count !== undefined) {
    const rows = Array.from({ length: count }, (_, i) => Math.floor((i * SIDE) / count));
    const columns = rows.map((_, i) => (i * 97) % SIDE);
    writeFileSync(path, Int32Array.from([...rows, ...columns]));
    return storedLeaf(leafKey(leaf), path, { dtype: "I32", shape: [2, count] });
  }
  const shape = stored[leaf.tensor]!;
  writeFileSync(
    path,
    Float32Array.from({ length: elementCount(shape) }, (_, i) => Math.sin(i * 1.7) * 0.01),
  );
  return storedLeaf(leafKey(leaf), path, { dtype: "F32", shape });
}

function storedLeaf(key: string, path: string, tensor: Pick<ProgramLeaf, "dtype" | "shape">): ProgramLeaf {
  const width = tensor.dtype === "BF16" ? 2 : 4;
  return { key, path, offset: 0, bytes: elementCount(tensor.shape) * width, ...tensor };
}
