import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAdvice } from "../../src/core/evaluation/advice.ts";
import { deviceStatus } from "../../src/engine/devices.ts";
import { type ServingRequest, startServingAdvice } from "../../src/registry/serving-advice.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

/** ONNX Runtime's processor provider is on every machine; it stands for a graphics card here. */
const devices = async () => [await deviceStatus("cpu"), await deviceStatus("onnx-cpu")];

let graft: Harness;
beforeAll(async () => {
  graft = await startHarness({ worker: true, devices });
  await graft.import({ name: "demo/base", path: join(DEMO, "base") });
  await graft.import({ name: "demo/sentiment", path: join(DEMO, "adapters/sentiment"), base: "demo/base" });
  expect((await graft.merge("demo/base", "demo/sentiment", "demo/merged")).state).toBe("SUCCEEDED");
  while ((await graft.test.db.worker.count()) === 0) await sleep(50);
});
afterAll(() => graft.close());

/** The shortest of the texts: enough for a verdict, and over soon. */
const jsonl = readFileSync(join(DEMO, "eval.jsonl"), "utf8")
  .trim()
  .split("\n")
  .sort((a, b) => a.length - b.length);

async function advised(request: ServingRequest) {
  const ended = await graft.end((await startServingAdvice(graft.ctx, request)).id);
  expect(ended.error).toBeNull();
  const row = await graft.test.db.servingAdvice.findUniqueOrThrow({ where: { jobId: ended.id } });
  return { ended, row, advice: parseAdvice(row.document) };
}

describe("an advice as a job", () => {
  it("measures a merge that was made here against its base and adapter, on every line of the table", async () => {
    const before = await graft.merged();
    const { advice, row, ended } = await advised({
      of: { version: { ref: "demo/merged" } },
      texts: { name: "short ones", jsonl: jsonl.slice(0, 30).join("\n") },
      adapters: 1,
    });
    expect(advice).toMatchObject({
      recommendation: "MERGE",
      labels: { base: "demo/base@1", sources: ["demo/sentiment@1"], merged: "demo/merged@1" },
      mergedExists: true,
      times: { standIn: false, weightsKept: true, promptTokens: 128 },
      parity: { verdict: "PASSED", documents: 30 },
      breakEven: { disk: 2, memory: 2 },
      quantisation: { base: null, training: null },
    });
    expect(advice.reasons[0]).toMatchObject({ code: "SINGLE_TASK", favours: "MERGE" });
    const { separate, merged } = advice.times!;
    for (const { load, prefill, perToken } of [separate, merged]) {
      expect(Math.min(load, prefill, perToken)).toBeGreaterThan(0);
    }
    expect(advice.retention!.relativeError).toBeLessThan(0.05);
    const size = async (name: string) =>
      Number((await graft.test.db.version.findFirstOrThrow({ where: { model: { name } } })).sizeBytes);
    expect(advice.disk).toEqual({
      base: await size("base"),
      adapter: await size("sentiment"),
      merged: await size("merged"),
    });
    const folders = await graft.test.db.version.findFirstOrThrow({ where: { model: { name: "merged" } } });
    expect(row.commands).toMatchObject({ merged: `vllm serve ${folders.location}` });
    expect(ended.events.at(-1)).toMatchObject({ type: "succeeded", data: { recommendation: "MERGE" } });
    expect(await graft.merged()).toEqual(before);
  });

  it("measures on a worker's device what was not merged yet", async () => {
    const { advice, row, ended } = await advised({
      of: { version: { ref: "demo/sentiment" } },
      device: "ONNX_CPU",
      texts: { jsonl: jsonl.slice(0, 2).join("\n") },
      adapters: 12,
    });
    expect(ended).toMatchObject({ device: "ONNX_CPU" });
    expect(row).toMatchObject({ device: "ONNX_CPU", environment: { device: "onnx-cpu" } });
    expect(advice).toMatchObject({
      recommendation: "SEPARATE",
      mergedExists: false,
      times: { standIn: true, device: "onnx-cpu" },
      // Two texts are too few for a verdict.
      parity: { verdict: "INCONCLUSIVE", documents: 2 },
    });
    expect(advice.reasons[0]).toMatchObject({ code: "SEVERAL_TASKS", favours: "SEPARATE" });
  });
});
