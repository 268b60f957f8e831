import { mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import type { OnnxDevice } from "../../src/core/devices.ts";
import { add, base, scale } from "../../src/core/expr.ts";
import type { MergePlan } from "../../src/core/plan.ts";
import { recompute } from "../../src/engine/device-merge.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal, prepareVerify } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { runTasks } from "../../src/engine/run-tasks.ts";
import { readRecord, runVerify } from "../../src/engine/verify.ts";
import { FileSource } from "../../src/storage/file.ts";
import { DeviceTasks } from "../support/device-tasks.ts";
import { requirement, SWIFTSHADER } from "../support/require.ts";

process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

const CASES = join(import.meta.dirname, "../fixtures/merge");
const options = { threads: 2 };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-device-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function merge(name: string, model: string, device: OnnxDevice | null) {
  const request = {
    base: join(CASES, "../models", model),
    adapter: join(CASES, name, "adapter"),
    choices: { weights: [1], tokenizer: null },
  };
  const planned = await finish(planLocal(request, options));
  const output = join(folder, `${name}-${device ?? "cpu"}`);
  const input = await localMergeInput(request, planned, output);
  return await finish(runMerge({ ...input, ...(device && { device }) }, options));
}

async function verify(merged: string) {
  return await finish(runVerify(await finish(prepareVerify({ merged }, options)), options));
}

/** Changes a stored value of a merged tensor by so many steps of its bits. */
async function nudge(merged: string, tensor: string, steps: number): Promise<void> {
  const { facts } = (await finish(prepareVerify({ merged }, options))).merged;
  const found = allTensors(facts).find(({ name }) => name === tensor)!;
  const file = facts.weights.find(({ tensors }) => tensors.some(({ name }) => name === tensor))!;
  const handle = await open(join(merged, file.path), "r+");
  try {
    const bytes = Buffer.alloc(2);
    await handle.read(bytes, 0, 2, found.begin);
    bytes.writeUInt16LE(bytes.readUInt16LE() + steps);
    await handle.write(bytes, 0, 2, found.begin);
  } finally {
    await handle.close();
  }
}

const KINDS = [
  ["LoRA", "llama-linear-r16", "llama-bf16"],
  ["DoRA", "llama-dora", "llama-bf16"],
  ["embeddings", "llama-embed-lora", "llama-bf16"],
  ["experts", "mixtral-experts", "mixtral-bf16"],
  ["LoHa, a Hadamard product", "loha", "llama-bf16"],
] as const;

const DEVICES: [OnnxDevice, boolean][] = [
  ["onnx-cpu", true],
  ["webgpu", requirement("webgpu")],
];

describe.each(DEVICES)("a merge on %s", (device, present) => {
  it.skipIf(!present).each(KINDS)(
    "is near the canonical value, says how near, and is proved: %s",
    async (_, name, model) => {
      const summary = await merge(name, model, device);
      const canonical = await merge(name, model, null);
      const use = summary.device!;
      expect(use).toMatchObject({ device, version: expect.stringMatching(/^\d+\.\d+/), onCpu: 0 });
      expect(use.maxUlp).toBeLessThanOrEqual(1);
      expect(summary.report.verdict).toBe("PASSED");
      // The recipe is the same; the bytes are the same exactly where nothing differs.
      expect(summary.recipeDigest).toBe(canonical.recipeDigest);
      expect(summary.digests.version === canonical.digests.version).toBe(use.differing === 0);
      expect((await readRecord(summary.output)).device).toEqual(use);
      expect((await readRecord(canonical.output)).device).toBeUndefined();
      const proof = await verify(summary.output);
      expect(proof.differences).toEqual([]);
      expect(proof.verdict).toBe(use.differing === 0 ? "IDENTICAL" : "PROVEN_CLOSE");
      const { differing, elements, maxUlp } = use;
      expect(proof.distance).toEqual({ differing, elements, maxUlp });
      await rm(summary.output, { recursive: true });
      await rm(canonical.output, { recursive: true });
    },
  );
});

describe("a merge on a device", () => {
  it("is different when a stored value was changed, however little", async () => {
    const { output, device } = await merge("loha", "llama-bf16", "onnx-cpu");
    expect(device).not.toBeNull();
    const tensor = Object.keys((await readRecord(output)).output.tensors).find((name) =>
      /weight/.test(name),
    )!;
    await nudge(output, tensor, 1);
    const proof = await verify(output);
    expect(proof).toMatchObject({ verdict: "DIFFERENT", differences: [{ name: tensor, what: "stored" }] });
  });

  it("is refused where all that changes is stored in float32, and leaves nothing", async () => {
    await expect(merge("llama-fp32", "llama-fp32", "onnx-cpu")).rejects.toMatchObject({
      code: "DEVICE_UNSUITABLE",
      message: expect.stringContaining("float32"),
    });
    expect((await readdir(folder)).filter((name) => name.includes("llama-fp32"))).toEqual([]);
  });

  it("is refused on a device that is not there, naming what is missing", async () => {
    const missing = process.platform === "win32" ? "coreml" : "dml";
    await expect(merge("loha", "llama-bf16", missing)).rejects.toMatchObject({
      code: "DEVICE_UNAVAILABLE",
      field: "device",
      message: expect.stringMatching(/is a part of (Windows|macOS)/),
    });
  });

  it("is refused where an element is further than one unit in the last place from its canonical value", async () => {
    const tasks = new DeviceTasks(folder);
    const w = tasks.store({ leaf: base("w"), shape: [8, 8] });
    // What stands in the output is taken for the canonical value: three quarters of what the device computes.
    const wrong = tasks.task("w", add(w, scale(0.5, w)), { base: w });
    const right = tasks.task("w", add(w, scale(1, w)), { base: w });
    const results = await finish(runTasks({ stage: "merge", tasks: [wrong] }, options));
    const { path } = wrong.output!;
    const plan = {
      steps: [{ tensor: "w", file: path.slice(folder.length + 1), outputBegin: 0 }],
      touched: ["w"],
    };
    const status = {
      device: "onnx-cpu" as const,
      provider: "p",
      name: null,
      memoryBytes: null,
      version: "1",
      available: true,
      reason: null,
    };
    const computing = recompute(
      {
        planned: { status, tasks: [right], onCpu: new Map() },
        plan: plan as unknown as MergePlan,
        staging: folder,
        results,
      },
      options,
    );
    await expect(finish(computing)).rejects.toMatchObject({
      code: "DEVICE_DIFFERS",
      message: expect.stringMatching(/tensor "w" an element is [\d.]+ units in the last place away/),
    });
    await using written = await FileSource.open(path);
    expect(written.size).toBe(128);
  });
});
