import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readModelSpec } from "../../../src/core/decoder/read.ts";
import { widen } from "../../../src/core/dtype.ts";
import { roundToFloat8 } from "../../../src/core/float8.ts";
import { finish } from "../../../src/engine/digest.ts";
import { checkpointSide, recipeSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { compareWeights } from "../../../src/engine/evaluation/weights-pass.ts";
import { type LocalPlan, localMergeInput, planLocal } from "../../../src/engine/local.ts";
import { runMerge } from "../../../src/engine/merge.ts";
import { located, relativeDifference } from "../../support/merge-cases.ts";
import { safetensorsFile, type TestTensor } from "../../support/safetensors.ts";
import { type Forms, openForms } from "../../support/side-forms.ts";
import { readTensors } from "../../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../../fixtures");
const BASE = join(FIXTURES, "models/llama-fp32");
const ADAPTER = join(FIXTURES, "merge/llama-fp32/adapter");
const choices = { weights: [1], tokenizer: null } as const;
const TOUCHED = "model.layers.1.mlp.down_proj.weight";

let temporary: string;
let forms: Forms;
let planned: LocalPlan;
/** The base's weights times their scales. */
const dequantised = new Map<string, Float64Array>();

beforeAll(async () => {
  forms = await openForms();
  temporary = await mkdtemp(join(tmpdir(), "graftwork-float8-sides-"));
  await quantise(join(temporary, "base"));
  planned = await finish(planLocal(request(), { threads: 1 }));
});
afterAll(async () => {
  forms.close();
  await rm(temporary, { recursive: true, force: true });
});

const request = () => ({ base: join(temporary, "base"), adapter: ADAPTER, choices });

/** Linear layers as e4m3 with one scale a row, as compressed-tensors writes them. */
async function quantise(folder: string): Promise<void> {
  const tensors: TestTensor[] = [];
  for (const [name, { dtype, shape, bytes }] of await readTensors(join(BASE, "model.safetensors"))) {
    const values = widen("F32", bytes);
    if (!name.includes("_proj")) {
      tensors.push({ name, dtype: dtype as "F32", shape, bytes });
      dequantised.set(name, values);
      continue;
    }
    const [rows, columns] = shape as [number, number];
    const scales = Float32Array.from({ length: rows }, (_, row) =>
      Math.max(...values.subarray(row * columns, (row + 1) * columns).map((v) => Math.abs(v) / 448)),
    );
    const bits = Uint8Array.from(values, (v, i) =>
      roundToFloat8("F8_E4M3", v / scales[Math.floor(i / columns)]!),
    );
    const stored = widen("F8_E4M3", bits);
    dequantised.set(
      name,
      stored.map((v, i) => Math.fround(v * scales[Math.floor(i / columns)]!)),
    );
    tensors.push({ name, dtype: "F8_E4M3", shape, bytes: bits });
    const scale = { dtype: "F32", shape: [rows, 1], bytes: new Uint8Array(scales.buffer) } as const;
    tensors.push({ name: `${name}_scale`, ...scale });
  }
  await mkdir(folder);
  await writeFile(join(folder, "model.safetensors"), safetensorsFile(tensors));
  const config = JSON.parse(await readFile(join(BASE, "config.json"), "utf8"));
  const quantization_config = { quant_method: "compressed-tensors" };
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, quantization_config }));
}

describe("of a base in 8-bit floats", () => {
  it("the checkpoint's side is its weights times their scales, and a forward pass can be read from it", async () => {
    const { side, config, shapes } = checkpointSide(planned.base);
    expect(new Set(shapes.keys())).toEqual(new Set(dequantised.keys()));
    expect(readModelSpec(config, shapes).layers).toHaveLength(2);
    for (const [tensor, values] of dequantised)
      expect(await forms.value(side.weights[tensor]!), tensor).toEqual(values);
  });

  it("the un-merged side adds the change to the dequantised weight and quantises nothing", async () => {
    const reference = referenceSide({
      base: planned.base,
      sources: [{ ...planned.adapter, weight: 1 }],
      choices,
    });
    expect(readModelSpec(reference.config, reference.shapes).layers).toHaveLength(2);
    expect(reference.forms).toMatchObject({ branches: 0, stored: 0 });
    expect(reference.note).toContain("The base is stored in 8-bit floats, and dequantised in float32.");
    // The plan that comes with it is the one that was asked for: it quantises again.
    expect(reference.plan!.warnings.map(({ code }) => code)).toContain("REQUANTISED");
    const values = dequantised.get(TOUCHED)!.slice();
    await addChange(values);
    const found = await forms.value(reference.side.weights[TOUCHED]!);
    expect(relativeDifference(found, values)).toBeLessThan(1e-6);
    for (const { tensor } of reference.plan!.steps.filter(({ expr }) => expr === null))
      expect(await forms.value(reference.side.weights[tensor]!), tensor).toEqual(dequantised.get(tensor));
  });

  it("the recipe's side is what a reader makes of the bytes that its merge writes", async () => {
    const output = join(temporary, "merged");
    await finish(runMerge(await localMergeInput(request(), planned, output), { threads: 1 }));
    const written = checkpointSide(await located(output));
    const computed = recipeSide(planned.plan, planned.base, [planned.adapter]);
    expect(computed.shapes).toEqual(written.shapes);
    expect(computed.config).toEqual(written.config);
    for (const [tensor, form] of Object.entries(written.side.weights))
      expect(await forms.value(computed.side.weights[tensor]!), tensor).toEqual(await forms.value(form));
    const merged = await forms.value(computed.side.weights[TOUCHED]!);
    expect(relativeDifference(merged, dequantised.get(TOUCHED)!)).toBeGreaterThan(1e-3);
  });

  it("a merge is compared byte for byte where it stays in them, and by value where it leaves them", async () => {
    const weights = async (dtype: "BF16" | null, output: string, damage = false) => {
      const wanted = { ...request(), choices: { ...choices, dtype } };
      const { plan, base, adapter } = await finish(planLocal(wanted, { threads: 1 }));
      const local = { plan, base, adapter };
      await finish(runMerge(await localMergeInput(wanted, local, output), { threads: 1 }));
      if (damage) {
        const tensors = await readTensors(join(output, "model.safetensors"));
        const { bytes, offset } = tensors.get(TOUCHED)!;
        const file = await readFile(join(output, "model.safetensors"));
        file[offset! + 5] = bytes[5]! ^ 0x10;
        await writeFile(join(output, "model.safetensors"), file);
      }
      const sources = [{ ...adapter, weight: 1 }];
      const candidate = await located(output);
      return finish(compareWeights({ plan, base, sources, candidate }, { threads: 1 }));
    };
    const same = await weights(null, join(temporary, "same"));
    expect(same.reasons).toEqual([]);
    expect(same.weights!.tensors.find(({ tensor }) => tensor === TOUCHED)).toMatchObject({
      dtype: "F8_E4M3",
      differing: 0,
      maxUlp: null,
      projection: null,
    });
    const left = await weights("BF16", join(temporary, "left"));
    expect(left.reasons).toEqual([]);
    expect(left.weights).toMatchObject({ maxUlp: 0 });
    const damaged = await weights(null, join(temporary, "damaged"), true);
    expect(damaged.reasons).toMatchObject([{ code: "TENSOR_DIFFERS", subject: TOUCHED }]);
  });
});

/** s·B·A of the fixture's adapter. */
async function addChange(values: Float64Array): Promise<void> {
  const config = JSON.parse(await readFile(join(ADAPTER, "adapter_config.json"), "utf8"));
  const tensors = await readTensors(join(ADAPTER, "adapter_model.safetensors"));
  const key = `base_model.model.${TOUCHED.replace(/\.weight$/, "")}`;
  const [a, b] = ["A", "B"].map((side) => tensors.get(`${key}.lora_${side}.weight`)!);
  const [left, right] = [widen("F32", b!.bytes), widen("F32", a!.bytes)];
  const [rank, columns] = a!.shape as [number, number];
  for (let at = 0; at < values.length; at++)
    for (let k = 0; k < rank; k++)
      values[at]! +=
        (config.lora_alpha / config.r) *
        left[Math.floor(at / columns) * rank + k]! *
        right[k * columns + (at % columns)]!;
}
