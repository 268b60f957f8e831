import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readSafetensorsHeader, type TensorHeader } from "../../src/core/safetensors.ts";
import { runTensorTasks, type TensorResult, type TensorTask } from "../../src/engine/pool.ts";
import { FileSource } from "../../src/storage/file.ts";
import type { FloatDtype } from "../support/canonical.ts";

const demo = fileURLToPath(new URL("../fixtures/demo/", import.meta.url));

function sha(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

async function headers(path: string): Promise<Map<string, TensorHeader>> {
  const source = await FileSource.open(path);
  const { tensors } = await readSafetensorsHeader(source);
  await source[Symbol.asyncDispose]();
  return new Map(tensors.map((t) => [t.name, t]));
}

test.each(["sentiment", "polite-rewriter", "light-touch", "customer-support", "customer-support-2"])(
  "every tensor of demo/%s has the bytes that PEFT 0.21 wrote",
  async (name) => {
    const basePath = join(demo, "base/model.safetensors");
    const adapterPath = join(demo, "adapters", name, "adapter_model.safetensors");
    const mergedPath = join(demo, "expected", name, "model.safetensors");
    const [base, adapter, merged] = await Promise.all([basePath, adapterPath, mergedPath].map(headers));
    const config = JSON.parse(readFileSync(join(demo, "adapters", name, "adapter_config.json"), "utf8"));
    const scale = config.lora_alpha / (config.use_rslora ? Math.sqrt(config.r) : config.r);
    const range = (path: string, t: TensorHeader) => ({ path, offset: t.begin, bytes: t.end - t.begin });
    const adapterBytes = readFileSync(adapterPath);
    const factor = (module: string, letter: "A" | "B") => {
      const t = adapter!.get(`base_model.model.${module}.lora_${letter}.weight`);
      if (!t) return null;
      const [rows, cols] = t.shape as [number, number];
      const digest = sha(adapterBytes.subarray(t.begin, t.end));
      return { ...range(adapterPath, t), dtype: t.dtype as FloatDtype, rows, cols, digest };
    };
    const tasks = [...base!.values()].map((t): TensorTask => {
      const module = t.name.replace(/\.weight$/, "");
      const [a, b] = [factor(module, "A"), factor(module, "B")];
      return {
        name: t.name,
        dtype: t.dtype,
        shape: t.shape,
        input: range(basePath, t),
        ...(a && b ? { lora: { a, b, scale } } : {}),
        compare: range(mergedPath, merged!.get(t.name)!),
      };
    });
    expect(tasks.filter((t) => t.lora).length).toBe(adapter!.size / 2);
    const results: TensorResult[] = [];
    for await (const event of runTensorTasks(tasks, { threads: 2 }))
      if (event.type === "tensor") results.push(event.result);
    const different = results.filter((r) => r.outputDigest !== r.compareDigest).map((r) => r.name);
    expect(different).toEqual([]);
    expect(results.filter((r) => r.changed > 0).length).toBe(adapter!.size / 2);
  },
);
