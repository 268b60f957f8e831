import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { elementCount, type MergeableDtype, widen } from "../../src/core/dtype.ts";
import { AppError } from "../../src/core/errors.ts";
import { evaluate, type TensorLookup } from "../../src/core/evaluate.ts";
import type { Expr } from "../../src/core/expr.ts";
import { canonical, exact, roundOnce, roundToBits } from "../../src/core/numerics.ts";
import type { PlanStep } from "../../src/core/plan-layout.ts";
import { rowsOf } from "../../src/core/rows.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { type Part, peftTypeOf, RANDOM_ADAPTERS, type RandomAdapter } from "../support/random-adapters.ts";
import { safetensorsFile, type TestTensor } from "../support/safetensors.ts";
import { readTensors } from "../support/tensor-files.ts";

/*
 * Random adapters of every kind, of odd sizes, through the whole engine: against the slow interpreter in PEFT's float32
 * steps bit for bit, and in float64 within what rounding explains.
 */

const MODULE = "model.layers.0.self_attn.q_proj";
const DTYPES = ["BF16", "F16", "F32"] as const;
const RUNS_OF_EACH = 3;
/** Each run starts threads of its own, which takes a while on a busy machine. */
const TIMEOUT = 120_000;
/** Ranks around the lanes, the panels and the K-blocks of the kernels. */
const RANKS = [1, 3, 5, 24, 193, 400];
const ROWS = [1, 2, 3, 9, 17, 34];
const COLUMNS = [1, 7, 8, 9, 31, 66];

interface Drawn {
  readonly base: MergeableDtype;
  readonly adapter: MergeableDtype;
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
  readonly choice: number;
  readonly exactly: boolean;
  readonly seed: number;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  base: fc.constantFrom(...DTYPES),
  adapter: fc.constantFrom(...DTYPES),
  rows: fc.constantFrom(...ROWS),
  columns: fc.constantFrom(...COLUMNS),
  rank: fc.constantFrom(...RANKS),
  choice: fc.integer({ min: 0, max: 3 }),
  exactly: fc.boolean(),
  seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
});

let temporary: string;
let runs = 0;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-kinds-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

describe("a random adapter of any kind is merged as the oracle says", () => {
  it.each(Object.keys(RANDOM_ADAPTERS).map((name, seed) => [name, seed] as const))(
    "%s",
    async (name, seed) => {
      const property = fc.asyncProperty(drawn, async (one) => {
        const made = RANDOM_ADAPTERS[name]!(one);
        const folder = join(temporary, String(runs++));
        await writeModel(folder, { name, made, one });
        await checkMerge(folder, name, one);
        await rm(folder, { recursive: true });
      });
      await fc.assert(property, { seed, numRuns: RUNS_OF_EACH, endOnFailure: true });
    },
    TIMEOUT,
  );
});

async function checkMerge(folder: string, name: string, one: Drawn): Promise<void> {
  const request = {
    base: join(folder, "base"),
    adapter: join(folder, "adapter"),
    choices: { weights: [1], tokenizer: null, ...(one.exactly && { numerics: "exact-1" as const }) },
  };
  const planned = await finish(planLocal(request, { threads: 1 }));
  expect(planned.plan.refusals).toEqual([]);
  const lookup = await readAll(folder);
  const steps = planned.plan.steps.filter((step) => step.expr !== null);
  expect(steps.length).toBeGreaterThan(0);
  const wanted = steps.map((step) => bytesOf(step, lookup, one.exactly));
  for (const step of steps) checkRows(step, lookup);
  const input = await localMergeInput(request, planned, join(folder, "merged"));
  const changes = steps.some((step, i) => !wanted[i]!.equals(storedBase(lookup, step)));
  try {
    await finish(runMerge(input, { threads: 1 }));
  } catch (error) {
    // Where every change rounds away there is nothing to publish.
    if (!(error instanceof AppError && error.code === "NO_EFFECT" && !changes)) throw error;
    return;
  }
  const merged = await readTensors(join(folder, "merged", "model.safetensors"));
  for (const [i, step] of steps.entries()) {
    const found = merged.get(step.tensor)!.bytes;
    expect(found.equals(wanted[i]!), `${step.tensor}: the engine differs from the interpreter`).toBe(true);
    checkNear(step, { found, lookup, name });
  }
}

type Files = TensorLookup & { readonly bytes: (tensor: string) => Buffer };

async function readAll(folder: string): Promise<Files> {
  const base = await readTensors(join(folder, "base", "model.safetensors"));
  const adapter = await readTensors(join(folder, "adapter", "adapter_model.safetensors"));
  return {
    whole(leaf) {
      const { dtype, shape, bytes } = (leaf.op === "base" ? base : adapter).get(leaf.tensor)!;
      return { shape, values: widen(dtype as MergeableDtype, bytes) };
    },
    bytes: (tensor) => base.get(tensor)!.bytes,
  };
}

const storedBase = (lookup: Files, { tensor }: PlanStep) => lookup.bytes(tensor);

/** What the interpreter makes of a step, as stored bytes. */
function bytesOf({ expr, dtype }: PlanStep, lookup: Files, exactly: boolean): Buffer {
  const type = dtype as MergeableDtype;
  const { values } = evaluate(expr!, lookup, exactly ? exact : canonical(type));
  return packed(type, values, exactly ? roundOnce : roundToBits);
}

function packed(
  dtype: MergeableDtype,
  values: Float64Array,
  round: (dtype: MergeableDtype, value: number) => number,
): Buffer {
  const width = dtype === "F32" ? 4 : 2;
  const bytes = Buffer.alloc(values.length * width);
  for (const [i, value] of values.entries()) bytes.writeUIntLE(round(dtype, value) >>> 0, i * width, width);
  return bytes;
}

/** Rows that are computed apart are the rows of the whole, bit for bit. */
function checkRows({ expr, shape, dtype }: PlanStep, lookup: Files): void {
  const arithmetic = canonical(dtype as MergeableDtype);
  const whole = evaluate(expr!, lookup, arithmetic).values;
  const [rows] = shape as [number];
  const width = elementCount(shape.slice(1));
  const [start, stop] = [Math.floor(rows / 3), Math.max(Math.floor(rows / 3) + 1, rows - 1)];
  const cut: Expr = rowsOf(expr!, start, stop, (leaf) => lookup.whole(leaf).shape);
  const part = evaluate(cut, lookup, arithmetic);
  expect(part.shape).toEqual([stop - start, ...shape.slice(1)]);
  expect([...part.values]).toEqual([...whole.subarray(start * width, stop * width)]);
}

/** Units in the last place that the roundings of a kind on the way may cost, where they are more than the last one. */
const ULPS: Readonly<Record<string, number>> = {
  SUPERTUNING: 2,
  DELORA: 2,
  RANDLORA: 2,
  PEANUT: 2,
  DEFT: 2,
  C3A: 3,
  HIRA: 3,
  GLORA: 4,
  ROAD: 4,
};

/** Kinds that make an element of several of the base's, of which another one may be the largest. */
const MIXING: ReadonlySet<string> = new Set(["ROAD", "OFT", "BOFT", "HRA"]);

interface Near {
  readonly found: Buffer;
  readonly lookup: Files;
  readonly name: string;
}

/** The stored values are as close to the exact ones as the storage type and sums in float32 allow. */
function checkNear({ expr, dtype, tensor }: PlanStep, { found, lookup, name }: Near): void {
  const type = dtype as MergeableDtype;
  const truth = evaluate(expr!, lookup, exact).values;
  const before = widen(type, lookup.bytes(tensor));
  const after = widen(type, found);
  const most = Math.max(...truth.map(Math.abs), ...before.map(Math.abs));
  for (const [i, value] of truth.entries()) {
    const operand = MIXING.has(name) ? most : Math.max(Math.abs(before[i]!), Math.abs(value));
    const allowed = (ULPS[name] ?? 1) * ulpOf(type, operand) + 2 ** -19 * most;
    const off = Math.abs(after[i]! - value);
    if (!(off <= allowed))
      expect.fail(`${tensor}[${i}] is ${after[i]}, exactly ${value}; allowed ${allowed}`);
  }
}

function ulpOf(dtype: MergeableDtype, value: number): number {
  const [digits, lowest] = { BF16: [7, -126], F16: [10, -14], F32: [23, -126] }[dtype] as [number, number];
  return 2 ** (Math.floor(Math.log2(Math.max(value, 2 ** lowest))) - digits);
}

interface Model {
  readonly name: string;
  readonly made: RandomAdapter;
  readonly one: Drawn;
}

async function writeModel(folder: string, { name, made, one }: Model): Promise<void> {
  const random = randomNumbers(one.seed);
  const write = (key: string, { shape, values, size = 0.25, dtype = one.adapter }: Part): TestTensor => {
    const numbers = values ?? Array.from({ length: elementCount(shape) }, () => size * random());
    return { name: key, dtype, shape, bytes: encoded(dtype, numbers) };
  };
  const { rows, columns, bias } = made;
  const base = [
    write(`${MODULE}.weight`, { shape: [rows, columns], dtype: one.base, size: 1 }),
    ...(bias ? [write(`${MODULE}.bias`, { shape: [rows], dtype: one.base, size: 1 })] : []),
    write("model.norm.weight", { shape: [3], dtype: one.base }),
  ];
  const adapter = [
    ...Object.entries(made.parts).map(([end, part]) => write(`base_model.model.${MODULE}.${end}`, part)),
    ...Object.entries(made.shared ?? {}).map(([key, part]) => write(key, part)),
  ];
  const config = { peft_type: peftTypeOf(name), target_modules: ["q_proj"], ...made.config };
  await Promise.all(["base", "adapter"].map((side) => mkdir(join(folder, side), { recursive: true })));
  await writeFile(join(folder, "base", "config.json"), JSON.stringify({ model_type: "llama" }));
  await writeFile(join(folder, "base", "model.safetensors"), safetensorsFile(base));
  await writeFile(join(folder, "adapter", "adapter_config.json"), JSON.stringify(config));
  await writeFile(join(folder, "adapter", "adapter_model.safetensors"), safetensorsFile(adapter));
}

function encoded(dtype: string, numbers: readonly number[]): Uint8Array {
  if (dtype === "I32") return new Uint8Array(Int32Array.from(numbers).buffer);
  if (dtype === "I64") return new Uint8Array(BigInt64Array.from(numbers, BigInt).buffer);
  if (dtype === "U8") return Uint8Array.from(numbers);
  return packed(dtype as MergeableDtype, Float64Array.from(numbers, Math.fround), roundToBits);
}

/** Numbers from −1 to 1, the same at every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) / 2 ** 22 - 1;
  };
}
