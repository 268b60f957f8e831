import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deviceStatus } from "../../src/engine/devices.ts";
import { readRecord } from "../../src/engine/verify.ts";
import { startEvaluation } from "../../src/registry/evaluations.ts";
import { type MergeRequest, startMerge, startVerify } from "../../src/registry/merges.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

/** ONNX Runtime's processor provider is on every machine; it stands for a graphics card here. */
const devices = async () => [
  await deviceStatus("cpu"),
  await deviceStatus("onnx-cpu"),
  await deviceStatus("dml"),
];

let graft: Harness;
let api: TestApi;
beforeAll(async () => {
  graft = await startHarness({ worker: true, devices });
  api = await testApi();
  await graft.import({ name: "demo/base", path: join(DEMO, "base") });
  await graft.import({ name: "demo/sentiment", path: join(DEMO, "adapters/sentiment"), base: "demo/base" });
  while ((await graft.test.db.worker.count()) === 0) await sleep(50);
});
afterAll(async () => {
  await api.apollo.stop();
  await graft.close();
});

const request = (output: string, more: Partial<MergeRequest> = {}): MergeRequest => ({
  base: { ref: "demo/base" },
  sources: [{ ref: "demo/sentiment" }],
  output,
  ...more,
});

const DEVICES = "{ devices { device provider name memoryBytes version available reason worker seenAt } }";

describe("workers and their devices", () => {
  it("are listed for members with what they have and what they lack, and not for strangers", async () => {
    const { data } = await api.ask(graft.ctx, DEVICES);
    expect(data.devices).toMatchObject([
      { device: "CPU", available: true, reason: null, memoryBytes: expect.stringMatching(/^\d+$/) },
      { device: "DML", available: false, reason: expect.stringContaining("Windows"), version: null },
      {
        device: "ONNX_CPU",
        available: true,
        version: expect.stringMatching(/^1\./),
        provider: "ONNX Runtime CPU",
      },
    ]);
    expect((await api.ask(stranger(graft.ctx), DEVICES)).data).toEqual({ devices: [] });
  });

  it("refuse a merge on a device that none of them has, and say what is missing", async () => {
    for (const device of ["DML", "CUDA"] as const) {
      await expect(startMerge(graft.ctx, request("demo/none", { device }))).rejects.toMatchObject({
        code: "DEVICE_UNAVAILABLE",
        field: "device",
        message: expect.stringContaining(
          device === "DML" ? "DirectML is a part of Windows" : "No worker can",
        ),
      });
    }
    expect(await graft.test.db.merge.count({ where: { outputModel: { name: "none" } } })).toBe(0);
  });
});

describe("a merge on a worker's device", () => {
  it("runs there, keeps how near it is, is verified, and answers no request for another device", async () => {
    const { job, mergeId } = await startMerge(graft.ctx, request("demo/near", { device: "ONNX_CPU" }));
    expect(job.device).toBe("ONNX_CPU");
    const ended = await graft.end(job.id);
    expect(ended.error).toBeNull();
    const merge = await graft.test.db.merge.findUniqueOrThrow({
      where: { id: mergeId },
      include: { version: true },
    });
    expect(merge).toMatchObject({ device: "ONNX_CPU", verdict: "PASSED", state: "SUCCEEDED" });
    expect(merge.deviceUse).toMatchObject({ device: "onnx-cpu", onCpu: 0, provider: "ONNX Runtime CPU" });
    expect((await readRecord(merge.version!.location)).device).toEqual(merge.deviceUse);

    const verify = await graft.end((await startVerify(graft.ctx, { ref: "demo/near" })).id);
    expect(verify.state).toBe("SUCCEEDED");
    const verified = await graft.test.db.merge.findUniqueOrThrow({ where: { id: mergeId } });
    expect(verified.verifyVerdict).toBe("PASSED");
    expect(verified.verification).toMatchObject({
      distance: { elements: expect.any(Number) },
      differences: [],
    });

    const again = await startMerge(graft.ctx, request("demo/near", { device: "ONNX_CPU" }));
    const onCpu = await startMerge(graft.ctx, request("demo/exact"));
    const rows = await graft.test.db.merge.findMany({
      where: { id: { in: [again.mergeId, onCpu.mergeId] } },
      orderBy: { id: "asc" },
    });
    expect(rows.map(({ device, cachedFromId }) => [device, cachedFromId])).toEqual([
      ["ONNX_CPU", mergeId],
      ["CPU", null],
    ]);
    expect((await graft.end(again.job.id)).state).toBe("SUCCEEDED");
    expect((await graft.end(onCpu.job.id)).state).toBe("SUCCEEDED");
    const query = `query ($id: ID!) { node(id: $id) { ... on Merge { device deviceUse { provider tensors onCpu elements differing maxUlp } } } }`;
    const id = Buffer.from(`Merge:${again.mergeId}`).toString("base64url");
    const { data } = await api.ask(graft.ctx, query, { id });
    expect(data.node).toMatchObject({
      device: "ONNX_CPU",
      deviceUse: { onCpu: 0, elements: expect.stringMatching(/^\d+$/) },
    });
  });
});

describe("an evaluation on a worker's device", () => {
  it("runs there, and says so in its report", async () => {
    const { job, evaluationId } = await startEvaluation(graft.ctx, {
      base: { ref: "demo/base" },
      sources: [{ ref: "demo/sentiment" }],
      candidate: { recipe: {} },
      device: "ONNX_CPU",
      texts: { jsonl: '{"text": "Review by Yuki: Worst thin drum I have ever used."}' },
      options: { prompts: [], floorTokens: 0 },
    });
    expect(job.device).toBe("ONNX_CPU");
    expect((await graft.end(job.id)).error).toBeNull();
    const found = await graft.test.db.evaluation.findUniqueOrThrow({ where: { id: evaluationId } });
    expect(found).toMatchObject({
      device: "ONNX_CPU",
      state: "SUCCEEDED",
      // One document is too little for a verdict.
      verdict: "INCONCLUSIVE",
      summary: { environment: { device: "onnx-cpu" } },
    });
  });
});
