import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { widen } from "../../src/core/dtype.ts";
import { roundToFloat8 } from "../../src/core/float8.ts";
import { cli } from "../support/cli.ts";
import { safetensorsFile, type TestTensor } from "../support/safetensors.ts";
import { readTensors } from "../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const BASE = join(FIXTURES, "models/llama-fp32");
const ADAPTER = join(FIXTURES, "merge/llama-fp32/adapter");

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-float8-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

type Layout = "blocks" | "rows" | "one";
const BLOCK = 24;

/** How many blocks of scales a matrix has, and how large they are, in each layout. */
function blocksOf(layout: Layout, [rows, columns]: readonly [number, number]) {
  if (layout === "one") return { high: rows, wide: columns, shape: [1] };
  if (layout === "rows") return { high: 1, wide: columns, shape: [rows, 1] };
  return { high: BLOCK, wide: BLOCK, shape: [Math.ceil(rows / BLOCK), Math.ceil(columns / BLOCK)] };
}

/** The fixture's linear layers in 8-bit floats with scales; 24 divides none of its widths. */
async function quantisedBase(name: string, layout: Layout, dtype: "F8_E4M3" | "F8_E5M2") {
  const folder = join(temporary, name);
  await mkdir(folder);
  const tensors: TestTensor[] = [];
  const largest = dtype === "F8_E4M3" ? 448 : 57_344;
  for (const [tensor, { shape, bytes }] of await readTensors(join(BASE, "model.safetensors"))) {
    if (!tensor.includes("_proj")) {
      tensors.push({ name: tensor, dtype: "F32", shape, bytes });
      continue;
    }
    const values = widen("F32", bytes);
    const size = shape as unknown as [number, number];
    const { high, wide, shape: scaleShape } = blocksOf(layout, size);
    const across = scaleShape[1] ?? 1;
    const at = (i: number) =>
      Math.floor(Math.floor(i / size[1]) / high) * across + Math.floor((i % size[1]) / wide);
    const scales = new Float32Array(scaleShape.reduce((a, b) => a * b, 1));
    for (const [i, value] of values.entries())
      scales[at(i)] = Math.max(scales[at(i)]!, Math.abs(value) / largest);
    const bits = Uint8Array.from(values, (value, i) => roundToFloat8(dtype, value / scales[at(i)]!));
    const suffix = layout === "blocks" ? "weight_scale_inv" : "weight_scale";
    tensors.push({ name: tensor, dtype, shape, bytes: bits });
    tensors.push({
      name: tensor.replace(/weight$/, suffix),
      dtype: "F32",
      shape: scaleShape,
      bytes: new Uint8Array(scales.buffer),
    });
  }
  await writeFile(join(folder, "model.safetensors"), safetensorsFile(tensors));
  await copyFile(join(BASE, "generation_config.json"), join(folder, "generation_config.json"));
  const config = JSON.parse(await readFile(join(BASE, "config.json"), "utf8"));
  const quantization_config =
    layout === "blocks"
      ? { quant_method: "fp8", weight_block_size: [BLOCK, BLOCK] }
      : { quant_method: "compressed-tensors" };
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, quantization_config }));
  return { folder, layout };
}

/** Dequantised values of every linear layer of a folder. */
async function values(folder: string, layout: Layout) {
  const tensors = await readTensors(join(folder, "model.safetensors"));
  const found = new Map<string, Float64Array>();
  for (const [name, { dtype, shape, bytes }] of tensors) {
    if (!name.endsWith("_proj.weight")) continue;
    const stored = widen(dtype as "F32", bytes);
    const size = shape as unknown as [number, number];
    const { high, wide, shape: scaleShape } = blocksOf(layout, size);
    const scale = tensors.get(`${name}_scale`) ?? tensors.get(`${name}_scale_inv`);
    const scales = scale && widen(scale.dtype as "F32", scale.bytes);
    const across = scaleShape[1] ?? 1;
    found.set(
      name,
      stored.map((value, i) => {
        const block = Math.floor(Math.floor(i / size[1]) / high) * across + Math.floor((i % size[1]) / wide);
        return scales ? Math.fround(value * scales[block]!) : value;
      }),
    );
  }
  return found;
}

const merge = (base: string, out: string, ...more: string[]) =>
  cli("merge", "--base", base, "--adapter", ADAPTER, "--out", out, "--json", ...more);

describe.each([
  ["blocks", "F8_E4M3"],
  ["rows", "F8_E4M3"],
  ["one", "F8_E4M3"],
  ["rows", "F8_E5M2"],
] as const)("a base in 8-bit floats with scales for %s (%s)", (layout, dtype) => {
  const name = `${layout}-${dtype}`;
  let base: string;
  let wide: Map<string, Float64Array>;
  beforeAll(async () => {
    ({ folder: base } = await quantisedBase(name, layout, dtype));
    const out = join(temporary, `${name}-f32`);
    const { code, stderr } = await merge(base, out, "--dtype", "fp32");
    expect([code, stderr]).toEqual([0, expect.not.stringContaining("graftwork:")]);
    wide = await values(out, layout);
  });

  it("written in another type is dequantised, merged and without scales", async () => {
    const out = join(temporary, `${name}-f32`);
    const tensors = await readTensors(join(out, "model.safetensors"));
    expect([...tensors.keys()].filter((tensor) => tensor.includes("scale"))).toEqual([]);
    expect(new Set([...tensors.values()].map((tensor) => tensor.dtype))).toEqual(new Set(["F32"]));
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    expect(config.quantization_config).toBeNull();
    // The change itself: what the same adapter adds to the dequantised weights, given as a plain base.
    const plain = join(temporary, `${name}-plain`);
    await mkdir(plain);
    const before = await values(base, layout);
    const source = await readTensors(join(BASE, "model.safetensors"));
    const file = [...source].map(([tensor, { shape, bytes }]): TestTensor => {
      const dequantised = before.get(tensor);
      const own = dequantised ? new Uint8Array(Float32Array.from(dequantised).buffer) : bytes;
      return { name: tensor, dtype: "F32", shape, bytes: own };
    });
    await writeFile(join(plain, "model.safetensors"), safetensorsFile(file));
    await copyFile(join(BASE, "config.json"), join(plain, "config.json"));
    expect((await merge(plain, `${plain}-merged`)).code).toBe(0);
    expect(wide).toEqual(await values(`${plain}-merged`, layout));
  });

  it("stays in its own format by default: new scales, each value within half a step, and proved again", async () => {
    const out = join(temporary, `${name}-own`);
    const { code, stdout } = await merge(base, out);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).warnings).toContainEqual(expect.objectContaining({ code: "REQUANTISED" }));
    const own = await values(out, layout);
    for (const [tensor, exact] of wide) {
      const rounded = own.get(tensor)!;
      const step = dtype === "F8_E4M3" ? 2 ** -4 : 2 ** -3;
      const largest = Math.max(...exact.map(Math.abs));
      for (const [i, value] of exact.entries()) {
        expect(Math.abs(rounded[i]! - value)).toBeLessThanOrEqual(Math.abs(value) * step + largest * 2 ** -9);
      }
    }
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    expect(config.quantization_config).not.toBeNull();
    const verified = await cli("verify", out);
    expect([verified.code, verified.stdout.includes("IDENTICAL")]).toEqual([0, true]);
  });
});

describe("a base in 8-bit floats", () => {
  it("is refused by name where its scales fit no layout", async () => {
    const { folder } = await quantisedBase("misfit", "blocks", "F8_E4M3");
    const config = JSON.parse(await readFile(join(folder, "config.json"), "utf8"));
    config.quantization_config.weight_block_size = [5, 7];
    await writeFile(join(folder, "config.json"), JSON.stringify(config));
    const { code, stderr } = await merge(folder, join(temporary, "misfit-out"));
    expect(code).toBe(1);
    expect(stderr).toContain("UNSUPPORTED_QUANTISATION");
    expect(stderr).toContain("weight_block_size");
  });
});
