import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DTYPE_BITS, type MergeableDtype, widen } from "../../src/core/dtype.ts";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { roundOnce } from "../../src/core/numerics.ts";
import { finish } from "../../src/engine/digest.ts";
import { compareWeights, type WeightsOutcome } from "../../src/engine/evaluation/weights-pass.ts";
import { type LocalPlan, planLocal } from "../../src/engine/local.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";
import { type RawTensor, readTensors, writeTensors } from "./tensor-files.ts";

export type Tensors = Map<string, RawTensor>;

/** A base and what a plain LoRA adds to it, worked out in float64 without the code under test. */
export interface LoraFamily {
  readonly folder: { readonly base: string; readonly adapter: string };
  readonly base: Tensors;
  /** By the name of the weight: scale · B·A, row-major. */
  readonly deltas: ReadonlyMap<string, Float64Array>;
  readonly scale: number;
}

/** Reads a LoRA adapter on linear layers, all with the same rank and alpha. */
export async function loraFamily(base: string, adapter: string): Promise<LoraFamily> {
  const config = JSON.parse(await readFile(join(adapter, "adapter_config.json"), "utf8"));
  const factors = await readTensors(join(adapter, "adapter_model.safetensors"));
  const scale = config.lora_alpha / (config.use_rslora ? Math.sqrt(config.r) : config.r);
  const deltas = new Map<string, Float64Array>();
  for (const [name, a] of factors) {
    if (!name.endsWith(".lora_A.weight")) continue;
    const b = factors.get(name.replace(".lora_A.", ".lora_B."))!;
    const module = name.replace(/^base_model\.model\./, "").replace(/\.lora_A\.weight$/, "");
    deltas.set(`${module}.weight`, product(b, a, scale));
  }
  return {
    folder: { base, adapter },
    base: await readTensors(join(base, "model.safetensors")),
    deltas,
    scale,
  };
}

function product(left: RawTensor, right: RawTensor, scale: number): Float64Array {
  const [rows, rank] = left.shape as [number, number];
  const columns = right.shape[1]!;
  const [b, a] = [valuesOf(left), valuesOf(right)];
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let k = 0; k < rank; k++) {
      const factor = scale * b[i * rank + k]!;
      for (let j = 0; j < columns; j++) out[i * columns + j]! += factor * a[k * columns + j]!;
    }
  return out;
}

export function valuesOf({ dtype, bytes }: RawTensor): Float64Array {
  return widen(dtype as MergeableDtype, bytes);
}

/** Values as a stored tensor, each rounded once. */
export function storedAs(dtype: MergeableDtype, shape: readonly number[], values: Float64Array): RawTensor {
  const width = DTYPE_BITS[dtype] / 8;
  const bytes = Buffer.alloc(values.length * width);
  for (const [i, value] of values.entries()) {
    const bits = roundOnce(dtype, value);
    if (width === 2) bytes.writeUInt16LE(bits, 2 * i);
    else bytes.writeUInt32LE(bits, 4 * i);
  }
  return { dtype, shape: [...shape], bytes };
}

/** Says what is stored of one tensor, given W and Δ; `null` leaves the base's. */
export type Editor = (weight: Float64Array, delta: Float64Array, tensor: string) => Float64Array | null;

export const addTimes =
  (factor: number): Editor =>
  (weight, delta) =>
    weight.map((value, i) => value + factor * delta[i]!);

/** A merge of the family, each tensor as the editor says; the usual one adds Δ once. */
export function mergeBy(
  { base, deltas }: LoraFamily,
  edit: Editor = addTimes(1),
  dtype: MergeableDtype | null = null,
): Tensors {
  const out: Tensors = new Map();
  for (const [name, tensor] of base) {
    const delta = deltas.get(name);
    const values = delta && edit(valuesOf(tensor), delta, name);
    const type = dtype ?? (tensor.dtype as MergeableDtype);
    const plain = type === tensor.dtype ? tensor : storedAs(type, tensor.shape, valuesOf(tensor));
    out.set(name, values ? storedAs(type, tensor.shape, values) : plain);
  }
  return out;
}

/** Writes tensors beside the other files of a checkpoint. */
export async function writeCheckpoint(
  folder: string,
  tensors: Tensors,
  { base, config = {} }: { readonly base: string; readonly config?: Record<string, Json | undefined> },
): Promise<string> {
  await mkdir(folder, { recursive: true });
  await cp(base, folder, { recursive: true, filter: (path) => !path.endsWith(".safetensors") });
  const own: JsonObject = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...own, ...config }));
  await writeTensors(join(folder, "model.safetensors"), tensors);
  return folder;
}

/** One thread: starting more takes longer than what they would do here. */
const OPTIONS = { threads: 1 };
/** Plans by what they are of: inputs of one test file do not change. */
const planned = new Map<string, Promise<LocalPlan>>();

/** Levels 0 and 1 of a candidate against base + adapter, from their folders; null: of what the merge would write. */
export async function weigh(
  folder: { readonly base: string; readonly adapter: string },
  candidate: string | null,
  choices: Record<string, unknown> = {},
): Promise<WeightsOutcome> {
  const request = { ...folder, choices: { weights: [1], tokenizer: null, ...choices } };
  const key = JSON.stringify(request);
  planned.set(key, planned.get(key) ?? finish(planLocal(request, OPTIONS)));
  const { plan, base, adapter } = await planned.get(key)!;
  const found = candidate === null ? null : await readModelFolder(candidate, { roots: null });
  return finish(
    compareWeights({ plan, base, sources: [{ ...adapter, weight: 1 }], candidate: found }, OPTIONS),
  );
}

export const codesOf = ({ reasons }: WeightsOutcome) => reasons.map(({ code }) => code);
