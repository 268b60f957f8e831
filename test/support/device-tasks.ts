import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ulpAt } from "../../src/core/devices.ts";
import { elementCount, type MergeableDtype, widen } from "../../src/core/dtype.ts";
import { evaluate } from "../../src/core/evaluate.ts";
import { type Expr, type Leaf, leafKey } from "../../src/core/expr.ts";
import { arithmeticOf, bitsToNumber, roundToBits } from "../../src/core/numerics.ts";
import { shapeOf } from "../../src/core/shapes.ts";
import type { ProgramLeaf, TensorTask } from "../../src/engine/pool.ts";
import { randomFloats } from "./tile.ts";

/** A stored tensor of a test, with what its bytes say. */
export interface TestLeaf {
  readonly leaf: Leaf;
  readonly shape: readonly number[];
  readonly dtype?: MergeableDtype;
  /** Largest magnitude of its random values. */
  readonly scale?: number;
}

function bytesOf(dtype: MergeableDtype, values: Iterable<number>): Uint8Array {
  const bits = Array.from(values, (value) => roundToBits(dtype, value));
  return new Uint8Array((dtype === "F32" ? Uint32Array.from(bits) : Uint16Array.from(bits)).buffer);
}

/** Tensors with random values in files below `folder`, and the tasks that compute from them. */
export class DeviceTasks {
  readonly #folder: string;
  readonly #leaves = new Map<string, ProgramLeaf>();
  #seed = 1;
  #files = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  store({ leaf, shape, dtype = "BF16", scale = 0.1 }: TestLeaf): Leaf {
    const values = randomFloats(elementCount(shape), this.#seed++, scale);
    const bytes = bytesOf(dtype, values);
    const path = this.#file(bytes);
    this.#leaves.set(leafKey(leaf), {
      key: leafKey(leaf),
      path,
      offset: 0,
      bytes: bytes.byteLength,
      dtype,
      shape,
    });
    return leaf;
  }

  /** A task whose output is a file of its own. `base`: the tensor that it starts from. */
  task(
    name: string,
    expr: Expr,
    { base = null, dtype = "BF16" as MergeableDtype }: { base?: Leaf | null; dtype?: MergeableDtype } = {},
  ): TensorTask {
    const shape = shapeOf(expr, (leaf) => this.#leaves.get(leafKey(leaf))!.shape);
    const input = base && this.#leaves.get(leafKey(base))!;
    const leaves = [...this.#leaves.values()].filter(({ key }) => key !== input?.key);
    const bytes = elementCount(shape) * (dtype === "F32" ? 4 : 2);
    const output = { path: this.#file(new Uint8Array(bytes)), offset: 0 };
    return { name, dtype, shape, input, program: { expr, leaves, numerics: "peft-1" }, output };
  }

  #file(bytes: Uint8Array): string {
    const path = join(this.#folder, `tensor-${this.#files++}.bin`);
    writeFileSync(path, bytes);
    return path;
  }
}

function values({ path, dtype }: { path: string; dtype: ProgramLeaf["dtype"] }): Float64Array {
  return widen(dtype, readFileSync(path));
}

/** A written tensor against core's canonical value, element by element. */
export function compare(task: TensorTask): { share: number; ulp: number } {
  const dtype = task.dtype as MergeableDtype;
  const all = new Map([...task.program!.leaves, ...(task.input ? [task.input] : [])].map((l) => [l.key, l]));
  const lookup = {
    whole: (leaf: Leaf) => {
      const stored = all.get(leafKey(leaf))!;
      return { shape: stored.shape, values: values(stored) };
    },
  };
  const canonical = evaluate(task.program!.expr, lookup, arithmeticOf("peft-1", dtype)).values;
  const written = values({ path: task.output!.path, dtype });
  const before =
    task.input && elementCount(task.input.shape) === canonical.length ? values(task.input) : null;
  let [differing, ulp] = [0, 0];
  for (const [i, value] of canonical.entries()) {
    const expected = bitsToNumber(dtype, roundToBits(dtype, value));
    if (expected === written[i]) continue;
    differing++;
    const at = Math.max(Math.abs(expected), Math.abs(before?.[i] ?? 0));
    ulp = Math.max(ulp, Math.abs(expected - written[i]!) / ulpAt(dtype, at));
  }
  return { share: differing / canonical.length, ulp };
}
