import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../src/core/errors.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";

/*
 * Every golden case on the device that every machine has. SwiftShader is too slow for all of them: device-merge.test.ts
 * takes one of each form to WebGPU.
 */
const CASES = join(import.meta.dirname, "../fixtures/merge");
const options = { threads: 1 };

const folders = (await readdir(CASES, { withFileTypes: true })).filter((entry) => entry.isDirectory());
const cases = await Promise.all(
  folders.map(async ({ name }) => ({
    ...JSON.parse(await readFile(join(CASES, name, "case.json"), "utf8")),
    name,
  })),
);

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-golden-device-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

async function merge({ name, base, adapter }: { name: string; base: string; adapter: string }) {
  const folder = join(CASES, name);
  const request = {
    base: join(folder, base),
    adapter: join(folder, adapter),
    choices: { weights: [1], tokenizer: null },
  };
  const planned = await finish(planLocal(request, options));
  const input = await localMergeInput(request, planned, join(temporary, name));
  return await finish(runMerge({ ...input, device: "onnx-cpu" }, options));
}

/** What a device cannot compute is said before anything is written: float32 storage, functions without a graph, copies. */
const kept: string[] = [];

describe("a golden case on ONNX Runtime", () => {
  it.each(cases.filter(({ want }) => want.verdict !== "refuse"))(
    "$name is within one unit in the last place of the canonical value, or refused as unsuitable",
    async (golden) => {
      const outcome = await merge(golden).catch((error: unknown) => error);
      if (outcome instanceof AppError) {
        expect(outcome.code).toBe("DEVICE_UNSUITABLE");
        kept.push(golden.name);
        return;
      }
      if (outcome instanceof Error) throw outcome;
      const { device, report } = outcome as Awaited<ReturnType<typeof merge>>;
      expect(device!.tensors).toBeGreaterThan(0);
      expect(device!.maxUlp).toBeLessThanOrEqual(1);
      expect(report.verdict).toBe("PASSED");
    },
  );

  it("computes most kinds: what it leaves to the kernels is a minority", () => {
    expect(kept.length).toBeLessThan(cases.length / 2);
  });
});
