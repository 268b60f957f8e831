import { cp, utimes } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../src/core/errors.ts";
import type { EvaluationInputs, evaluate } from "../../src/engine/evaluation/evaluate.ts";
import type { EngineEvent, EngineOptions } from "../../src/engine/events.ts";
import { importVersion } from "../../src/jobs/import-version.ts";
import { type JobContext, runDelivery } from "../../src/jobs/job.ts";
import { MemoryBudget } from "../../src/jobs/memory.ts";
import { evaluationJob } from "../../src/jobs/run-evaluation.ts";
import { startEvaluation } from "../../src/registry/evaluations.ts";
import { cancelJob, claimJob } from "../../src/registry/jobs.ts";
import { startImport } from "../../src/registry/models.ts";
import { reportOf } from "../support/seed.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

/*
 * What an attempt at an evaluation leaves when it goes well, is stopped, is taken over or fails. What an evaluation
 * computes is other tests' business: here it is a given report, at a moment of the test's choosing.
 */
let graft: Harness;
let folder: string;
beforeAll(async () => {
  graft = await startHarness({ worker: false });
  folder = join(graft.root, "base");
  await cp(join(DEMO, "base"), folder, { recursive: true });
  const states = await importDemo();
  expect(states).toEqual(["SUCCEEDED", "SUCCEEDED"]);
});
afterAll(() => graft.close());

/** Imports with deliveries of the test's own, since no worker runs. */
async function importDemo(): Promise<string[]> {
  const jobs = [
    await startImport(graft.ctx, { name: "demo/base", path: folder }),
    await startImport(graft.ctx, { name: "demo/sentiment", path: join(DEMO, "adapters/sentiment") }),
  ];
  for (const { id } of jobs) await runDelivery(context(), importVersion, delivery(id));
  const rows = await Promise.all(
    jobs.map(({ id }) => graft.test.db.job.findUniqueOrThrow({ where: { id } })),
  );
  return rows.map(({ state }) => state);
}

const delivery = (jobId: string) => ({ jobId, signal: new AbortController().signal, retriesLeft: 5 });
const context = (stopping = new AbortController().signal, memory = 2e9): JobContext => ({
  ...graft.jobContext,
  workerId: "test",
  stopping,
  memory: new MemoryBudget(memory),
});

type Midway = (options: EngineOptions) => Promise<void>;

/** An evaluation that tells of some progress, does what the test wants in its middle, and has the example's report. */
function fake(evaluationId: string, midway: Midway = async () => {}) {
  const seen: EvaluationInputs[] = [];
  async function* run(
    inputs: EvaluationInputs,
    options: EngineOptions,
  ): AsyncGenerator<EngineEvent, Awaited<ReturnType<typeof reportOf>>> {
    seen.push(inputs);
    yield { type: "stage", stage: "logits", message: "running both sides" };
    yield { type: "progress", stage: "logits", done: 1, total: 2 };
    await midway(options);
    options.signal?.throwIfAborted();
    yield { type: "progress", stage: "logits", done: 2, total: 2 };
    return await reportOf(graft.test, evaluationId);
  }
  return { job: evaluationJob(run as typeof evaluate), seen };
}

async function start() {
  const { job, evaluationId } = await startEvaluation(graft.ctx, {
    base: { ref: "demo/base" },
    sources: [{ ref: "demo/sentiment" }],
    candidate: { ref: "demo/base" },
    texts: { name: "two", jsonl: '{"text": "One."}\n{"text": "Two."}\n' },
    tasks: { jsonl: '{"prompt": "1+1=", "expected": "2"}\n' },
    options: { prompts: ["Once"], seed: 5 },
  });
  return { jobId: job.id, evaluationId };
}

const evaluationRow = (id: string) =>
  graft.test.db.evaluation.findUniqueOrThrow({ where: { id }, include: { report: true } });
const jobRow = (id: string) => graft.test.db.job.findUniqueOrThrow({ where: { id } });

const untilAborted: Midway = async ({ signal }) => {
  signal!.throwIfAborted();
  await new Promise((_, fail) => signal!.addEventListener("abort", () => fail(signal!.reason)));
};

describe("an attempt at an evaluation", () => {
  it("gets what was asked for, tells how far it is, and records its report with the end of the job", async () => {
    const { jobId, evaluationId } = await start();
    const { job, seen } = fake(evaluationId, async () => {
      expect(await evaluationRow(evaluationId)).toMatchObject({ state: "RUNNING", report: null });
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await evaluationRow(evaluationId)).toMatchObject({ state: "SUCCEEDED", verdict: "PASSED" });
    expect(await jobRow(jobId)).toMatchObject({
      state: "SUCCEEDED",
      stage: "logits",
      progressDone: 2n,
      progressUnit: "layers",
    });
    expect(seen).toMatchObject([
      {
        base: { folder },
        candidate: { folder },
        labels: { base: "demo/base@1", sources: ["demo/sentiment@1"], candidate: "demo/base@1" },
        texts: { name: "two", documents: [{ text: "One." }, { text: "Two." }] },
        tasks: { name: "tasks", examples: [{ prompt: "1+1=", expected: "2" }] },
        prompts: ["Once"],
        gate: { name: "default" },
        options: { seed: 5, device: "cpu", maxNewTokens: 32 },
      },
    ]);
    // Delivered once more, there is nothing to do.
    await runDelivery(context(), job, delivery(jobId));
    expect(seen).toHaveLength(1);
  });

  it("that is cancelled in its middle stops, and there is no report", async () => {
    const { jobId, evaluationId } = await start();
    const { job } = fake(evaluationId, async (options) => {
      await cancelJob(graft.ctx, { jobId });
      await untilAborted(options);
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await evaluationRow(evaluationId)).toMatchObject({
      state: "CANCELLED",
      verdict: null,
      summary: null,
      report: null,
    });
    expect(await jobRow(jobId)).toMatchObject({ state: "CANCELLED" });
  });

  it("whose worker stops hands the job back, and the next attempt records the one report", async () => {
    const { jobId, evaluationId } = await start();
    const stopping = new AbortController();
    const first = fake(evaluationId, async (options) => {
      stopping.abort(new Error("stopped"));
      await untilAborted(options);
    });
    await expect(runDelivery(context(stopping.signal), first.job, delivery(jobId))).rejects.toThrow();
    expect(await jobRow(jobId)).toMatchObject({ state: "QUEUED", attempt: 1 });
    expect((await evaluationRow(evaluationId)).report).toBeNull();
    await runDelivery(context(), fake(evaluationId).job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "SUCCEEDED", attempt: 2 });
    expect(await evaluationRow(evaluationId)).toMatchObject({ state: "SUCCEEDED", verdict: "PASSED" });
  });

  it("that was taken over while it computed records nothing", async () => {
    const { jobId, evaluationId } = await start();
    const { job } = fake(evaluationId, async () => {
      await claimJob(graft.ctx, { jobId, workerId: "another" });
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "RUNNING", attempt: 2, workerId: "another" });
    expect(await evaluationRow(evaluationId)).toMatchObject({ state: "RUNNING", report: null });
  });

  it("that meets an expected failure ends evaluation and job with its reasons", async () => {
    const { jobId, evaluationId } = await start();
    const { job } = fake(evaluationId, async () => {
      throw new AppError("TOKENIZER_MISSING", "no tokenizer.json");
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await evaluationRow(evaluationId)).toMatchObject({ state: "FAILED", verdict: null, report: null });
    expect(await jobRow(jobId)).toMatchObject({ state: "FAILED", error: { code: "TOKENIZER_MISSING" } });
  });

  it("is refused where it would not fit into the worker's memory", async () => {
    const { jobId, evaluationId } = await start();
    await runDelivery(context(undefined, 1e8), fake(evaluationId).job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "FAILED", error: { code: "NOT_ENOUGH_MEMORY" } });
  });

  it("judges no files but those that were recorded: one that is touched meanwhile fails it", async () => {
    const { jobId, evaluationId } = await start();
    const { job } = fake(evaluationId, async () => {
      await utimes(join(folder, "model.safetensors"), new Date(), new Date());
    });
    await runDelivery(context(), job, delivery(jobId));
    expect(await jobRow(jobId)).toMatchObject({ state: "FAILED", error: { code: "INPUT_CHANGED" } });
    const again = await start();
    const never = fake(again.evaluationId);
    await runDelivery(context(), never.job, delivery(again.jobId));
    expect(await jobRow(again.jobId)).toMatchObject({ error: { code: "INPUT_CHANGED" } });
    expect(never.seen).toEqual([]);
  });
});
