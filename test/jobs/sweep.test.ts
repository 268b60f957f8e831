import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { importVersion } from "../../src/jobs/import-version.ts";
import { type JobDefinition, runDelivery } from "../../src/jobs/job.ts";
import { MemoryBudget } from "../../src/jobs/memory.ts";
import { runMerge } from "../../src/jobs/run-merge.ts";
import { sweepMerged } from "../../src/jobs/sweep.ts";
import { cancelJob, claimJob } from "../../src/registry/jobs.ts";
import { startMerge } from "../../src/registry/merges.ts";
import { startImport } from "../../src/registry/models.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

// No worker: merges stay in the state they are put into.
let graft: Harness;
beforeAll(async () => {
  graft = await startHarness({ worker: false });
  for (const [name, path] of [
    ["demo/base", "base"],
    ["demo/sentiment", "adapters/sentiment"],
  ] as const) {
    await deliver(importVersion, (await startImport(graft.ctx, { name, path: join(DEMO, path) })).id);
  }
});
afterAll(() => graft.close());

async function deliver(definition: JobDefinition, jobId: string): Promise<void> {
  const { signal } = new AbortController();
  const ctx = { ...graft.jobContext, workerId: "test", stopping: signal, memory: new MemoryBudget(1e9) };
  await runDelivery(ctx, definition, { jobId, signal, retriesLeft: 1 });
}

function newMerge(output: string) {
  const request = { base: { ref: "demo/base" }, sources: [{ ref: "demo/sentiment" }], output, force: true };
  return startMerge(graft.ctx, request);
}

it("removes what ended merges left, but no result, nothing of a running merge and nothing unknown", async () => {
  const done = await newMerge("demo/done");
  await deliver(runMerge, done.job.id);
  const running = await newMerge("demo/running");
  await claimJob(graft.ctx, { jobId: running.job.id, workerId: "a" });
  const cancelled = await newMerge("demo/cancelled");
  await claimJob(graft.ctx, { jobId: cancelled.job.id, workerId: "a" });
  await cancelJob(graft.ctx, { jobId: cancelled.job.id });
  const stranger = "01a20d18-973d-740f-b0f6-a4cd74fb2c35";
  const left = [`.staging-${done.mergeId}-1`, `.staging-${cancelled.mergeId}-2`, cancelled.mergeId];
  const kept = [`.staging-${running.mergeId}-1`, stranger, `.staging-${stranger}-1`, "notes"];
  const merged = join(graft.home, "merged");
  for (const name of [...left, ...kept]) await mkdir(join(merged, name));

  const removed = await sweepMerged(graft.ctx, graft.home);
  expect(removed.sort()).toEqual(left.map((name) => join(merged, name)).sort());
  expect((await readdir(merged)).sort()).toEqual([...kept, done.mergeId].sort());
});

it("finds nothing to do where there is no merged folder", async () => {
  expect(await sweepMerged(graft.ctx, join(graft.home, "elsewhere"))).toEqual([]);
});
