import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { lowRankUpdate, source } from "../../src/core/expr.ts";
import { readSafetensorsHeader, type TensorHeader } from "../../src/core/safetensors.ts";
import {
  type ProgramLeaf,
  runTensorTasks,
  type TensorResult,
  type TensorTask,
} from "../../src/engine/pool.ts";
import { FileSource } from "../../src/storage/file.ts";

const demo = fileURLToPath(new URL("../fixtures/demo/", import.meta.url));

function sha(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

async function headers(path: string): Promise<Map<string, TensorHeader>> {
  const file = await FileSource.open(path);
  const { tensors } = await readSafetensorsHeader(file);
  await file[Symbol.asyncDispose]();
  return new Map(tensors.map((t) => [t.name, t]));
}

const leaf = (key: string, path: string, t: TensorHeader): ProgramLeaf => ({
  key,
  path,
  offset: t.begin,
  bytes: t.end - t.begin,
  dtype: t.dtype,
  shape: t.shape,
});

test.each(["sentiment", "polite-rewriter", "light-touch", "customer-support", "customer-support-2"])(
  "every tensor of demo/%s has the bytes that PEFT 0.21 wrote",
  async (name) => {
    const basePath = join(demo, "base/model.safetensors");
    const adapterPath = join(demo, "adapters", name, "adapter_model.safetensors");
    const [base, adapter] = await Promise.all([basePath, adapterPath].map(headers));
    const expected = JSON.parse(readFileSync(join(demo, "expected", name, "expected.json"), "utf8"));
    const config = JSON.parse(readFileSync(join(demo, "adapters", name, "adapter_config.json"), "utf8"));
    const scale = config.lora_alpha / (config.use_rslora ? Math.sqrt(config.r) : config.r);
    const adapterBytes = readFileSync(adapterPath);
    const factor = (module: string, letter: "A" | "B") => {
      const t = adapter!.get(`base_model.model.${module}.lora_${letter}.weight`);
      if (!t) return null;
      const digest = sha(adapterBytes.subarray(t.begin, t.end));
      return { ...leaf(`source 0 ${t.name}`, adapterPath, t), digest, name: t.name };
    };
    const tasks = [...base!.values()].map((t): TensorTask => {
      const module = t.name.replace(/\.weight$/, "");
      const [a, b] = [factor(module, "A"), factor(module, "B")];
      const input = leaf(`base ${t.name}`, basePath, t);
      const task = { name: t.name, dtype: t.dtype, shape: t.shape, input };
      if (!a || !b) return task;
      const [left, right] = [source(0, b.name), source(0, a.name)];
      const expr = lowRankUpdate({ base: t.name, left, right, scale, roundFirst: false });
      return { ...task, program: { expr, leaves: [a, b], numerics: "peft-1" } };
    });
    expect(tasks.filter((t) => t.program).length).toBe(adapter!.size / 2);
    const results: TensorResult[] = [];
    for await (const event of runTensorTasks(tasks, { threads: 2 }))
      if (event.type === "tensor") results.push(event.result);
    const different = results.filter((r) => r.outputDigest !== expected[r.name].digest).map((r) => r.name);
    expect(different).toEqual([]);
    expect(results.filter((r) => r.changed > 0).length).toBe(adapter!.size / 2);
  },
);
