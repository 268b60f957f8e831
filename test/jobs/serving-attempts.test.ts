import { cp, utimes } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../src/core/errors.ts";
import type { adviseServing, ServingInputs } from "../../src/engine/evaluation/advice.ts";
import type { EngineEvent, EngineOptions } from "../../src/engine/events.ts";
import { importVersion } from "../../src/jobs/import-version.ts";
import { type JobContext, runDelivery } from "../../src/jobs/job.ts";
import { servingJob } from "../../src/jobs/measure-serving.ts";
import { MemoryBudget } from "../../src/jobs/memory.ts";
import { cancelJob, claimJob } from "../../src/registry/jobs.ts";
import { startImport } from "../../src/registry/models.ts";
import { startServingAdvice } from "../../src/registry/serving-advice.ts";
import { exampleMeasured } from "../support/example-advice.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

/*
 * What an attempt at an advice leaves when it goes well, is stopped, is taken over or fails. What an advice measures is
 * other tests' business: here it is a given one, at a moment of the test's choosing.
 */
let graft: Harness;
let folder: string;
beforeAll(async () => {
  graft = await startHarness({ worker: false });
  folder = join(graft.root, "base");
  await cp(join(DEMO, "base"), folder, { recursive: true });
  const adapter = { name: "demo/sentiment", path: join(DEMO, "adapters/sentiment"), base: "demo/base" };
  for (const request of [{ name: "demo/base", path: folder }, adapter]) {
    const { id } = await startImport(graft.ctx, request);
    await runDelivery(context(), importVersion, delivery(id));
    expect(await jobRow(id)).toMatchObject({ state: "SUCCEEDED" });
  }
});
afterAll(() => graft.close());

const delivery = (jobId: string) => ({ jobId, signal: new AbortController().signal, retriesLeft: 5 });
const context = (stopping = new AbortController().signal, memory = 2e9): JobContext => ({
  ...graft.jobContext,
  workerId: "test",
  stopping,
  memory: new MemoryBudget(memory),
});
const jobRow = (id: string) => graft.test.db.job.findUniqueOrThrow({ where: { id } });
const adviceOf = (jobId: string) => graft.test.db.servingAdvice.findUnique({ where: { jobId } });

type Midway = (options: EngineOptions) => Promise<void>;

/** A measurement that tells of a stage, does what the test wants in its middle, and has the example's advice. */
function fake(midway: Midway = async () => {}) {
  const seen: { inputs: ServingInputs; threads: number }[] = [];
  async function* run(inputs: ServingInputs, options: EngineOptions): AsyncGenerator<EngineEvent, unknown> {
    seen.push({ inputs, threads: options.threads });
    yield { type: "stage", stage: "measure", message: "timing both sides" };
    await midway(options);
    options.signal?.throwIfAborted();
    return exampleMeasured({ planned: inputs.planned }).advice;
  }
  return { job: servingJob(run as typeof adviseServing), seen };
}

async function start(): Promise<string> {
  const { id } = await startServingAdvice(graft.ctx, {
    of: { version: { ref: "demo/sentiment" } },
    adapters: 3,
    texts: { name: "two", jsonl: '{"text": "One."}\n{"text": "Two."}\n' },
  });
  return id;
}

const untilAborted: Midway = async ({ signal }) => {
  signal!.throwIfAborted();
  await new Promise((_, fail) => signal!.addEventListener("abort", () => fail(signal!.reason)));
};

describe("an attempt at an advice", () => {
  it("gets what was asked for, and records what was measured with the end of the job", async () => {
    const jobId = await start();
    const { job, seen } = fake(async () => {
      expect(await jobRow(jobId)).toMatchObject({ state: "RUNNING", stage: "measure" });
      expect(await adviceOf(jobId)).toBeNull();
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "SUCCEEDED" });
    expect(seen).toMatchObject([
      {
        inputs: {
          base: { folder },
          sources: [{ folder: join(DEMO, "adapters/sentiment"), weight: 1 }],
          merged: null,
          labels: { base: "demo/base@1", sources: ["demo/sentiment@1"], merged: null },
          planned: 3,
          texts: { name: "two", documents: [{ text: "One." }, { text: "Two." }] },
          gate: { name: "default" },
          device: "cpu",
        },
      },
    ]);
    const adapter = join(DEMO, "adapters/sentiment");
    expect(await adviceOf(jobId)).toMatchObject({
      document: { planned: 3 },
      commands: {
        merged: "vllm serve merged",
        separate: expect.stringContaining(
          `vllm serve ${folder} --enable-lora --lora-modules sentiment-1=${adapter}`,
        ),
      },
      environment: { device: "cpu", threads: 2, processor: expect.any(String) },
    });
    // Delivered once more, there is nothing to do.
    await runDelivery(context(), job, delivery(jobId));
    expect(seen).toHaveLength(1);
  });

  it("keeps weights in memory as far as the worker's share of it goes, and is refused where nothing fits", async () => {
    const attempt = async (memory: number) => {
      const jobId = await start();
      const { job, seen } = fake();
      await runDelivery(context(undefined, memory), job, delivery(jobId));
      return { seen: seen[0], job: await jobRow(jobId) };
    };
    const roomy = await attempt(2e9);
    expect(roomy.seen).toMatchObject({ threads: 2 });
    // Both sides of 2.8 million weights in float32, and a quarter more.
    expect(roomy.seen!.inputs.keep! / 2 / 4 / 1.25).toBeGreaterThan(2.5e6);
    const most = roomy.seen!.inputs.keep!;
    const tight = await attempt(4.6e8);
    expect(tight.seen).toMatchObject({ threads: 2, inputs: { keep: expect.any(Number) } });
    expect(tight.seen!.inputs.keep).toBeLessThan(most);
    expect((await attempt(1e8)).job).toMatchObject({
      state: "FAILED",
      error: { code: "NOT_ENOUGH_MEMORY" },
    });
  });

  it("that is cancelled in its middle stops, and there is no advice", async () => {
    const jobId = await start();
    const { job } = fake(async (options) => {
      await cancelJob(graft.ctx, { jobId });
      await untilAborted(options);
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "CANCELLED" });
    expect(await adviceOf(jobId)).toBeNull();
  });

  it("whose worker stops hands the job back, and the next attempt records the one advice", async () => {
    const jobId = await start();
    const stopping = new AbortController();
    const first = fake(async (options) => {
      stopping.abort(new Error("stopped"));
      await untilAborted(options);
    });
    await expect(runDelivery(context(stopping.signal), first.job, delivery(jobId))).rejects.toThrow();
    expect(await jobRow(jobId)).toMatchObject({ state: "QUEUED", attempt: 1 });
    await runDelivery(context(), fake().job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "SUCCEEDED", attempt: 2 });
    expect(await adviceOf(jobId)).not.toBeNull();
  });

  it("that was taken over while it measured records nothing", async () => {
    const jobId = await start();
    const { job } = fake(async () => {
      await claimJob(graft.ctx, { jobId, workerId: "another" });
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "RUNNING", attempt: 2, workerId: "another" });
    expect(await adviceOf(jobId)).toBeNull();
  });

  it("that meets an expected failure ends the job with its reason", async () => {
    const jobId = await start();
    const { job } = fake(async () => {
      throw new AppError("DEVICE_FAILED", "the device is gone");
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "FAILED", error: { code: "DEVICE_FAILED" } });
    expect(await adviceOf(jobId)).toBeNull();
  });

  it("measures no files but those that were recorded: one that is touched meanwhile fails it", async () => {
    const jobId = await start();
    const { job } = fake(async () => {
      await utimes(join(folder, "model.safetensors"), new Date(), new Date());
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "FAILED", error: { code: "INPUT_CHANGED" } });
    expect(await adviceOf(jobId)).toBeNull();
  });
});
