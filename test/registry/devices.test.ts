import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DeviceStatus } from "../../src/core/devices.ts";
import { forgetWorker, registerWorker, tellStranded, workerIsAlive } from "../../src/registry/devices.ts";
import { startMerge } from "../../src/registry/merges.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  await s.imported({
    name: "demo/sentiment",
    kind: "ADAPTER",
    folder: "adapters/sentiment",
    base: "demo/base",
  });
});
afterAll(() => test.close());

const cuda: DeviceStatus = {
  device: "cuda",
  provider: "ONNX Runtime CUDA",
  name: "a card",
  memoryBytes: 80 * 2 ** 30,
  version: "1.30.0",
  available: true,
  reason: null,
};
const later = (seconds: number) => ({ ...s.worker, now: () => new Date(Date.now() + seconds * 1000) });
const start = (output: string) =>
  startMerge(s.admin, {
    base: { ref: "demo/base" },
    sources: [{ ref: "demo/sentiment" }],
    output,
    device: "CUDA",
  });

describe("devices", () => {
  it("put a merge into a queue of their own, where only workers that have them look", async () => {
    await registerWorker(s.worker, { name: "gpu/1", devices: [cuda] });
    const { job } = await start("demo/on-card");
    const rows = await test.db.$queryRaw`select name from pgboss.job where id = ${job.id}::uuid`;
    expect(rows).toEqual([{ name: "run-merge-cuda" }]);
  });

  it("are those of workers that said within a minute that they are alive", async () => {
    await registerWorker(later(-70), { name: "gpu/1", devices: [cuda] });
    await expect(start("demo/late")).rejects.toMatchObject({ code: "DEVICE_UNAVAILABLE", field: "device" });
    await workerIsAlive(s.worker, "gpu/1");
    expect((await start("demo/late")).job.state).toBe("QUEUED");
  });

  it("replace what an earlier worker of the same name had", async () => {
    await registerWorker(s.worker, {
      name: "gpu/1",
      devices: [{ ...cuda, available: false, reason: "No card." }],
    });
    await expect(start("demo/other")).rejects.toThrow(/gpu\/1: No card\./);
  });

  it("that went away are told of once to those whose merge waits for them", async () => {
    await registerWorker(s.worker, { name: "gpu/1", devices: [cuda] });
    const { job } = await start("demo/waits");
    expect(await tellStranded(s.worker)).toBe(0);
    await forgetWorker(s.worker, "gpu/1");
    // The merges of the tests above wait as well.
    expect(await tellStranded(s.worker)).toBe(3);
    expect(await tellStranded(s.worker)).toBe(0);
    const events = await test.db.jobEvent.findMany({ where: { jobId: job.id }, orderBy: { number: "asc" } });
    expect(events.map(({ type }) => type)).toEqual(["queued", "progress-note"]);
    expect(events[1]!.data).toMatchObject({
      code: "WAITS_FOR_DEVICE",
      message: expect.stringContaining("waits for a worker that has CUDA"),
    });
  });

  it("of workers that died an hour ago are forgotten", async () => {
    await registerWorker(later(-4000), { name: "dead/1", devices: [cuda] });
    await workerIsAlive(s.worker, "alive/1");
    expect(await test.db.worker.count({ where: { name: "dead/1" } })).toBe(0);
    expect(await test.db.workerDevice.count({ where: { worker: { name: "dead/1" } } })).toBe(0);
  });
});
