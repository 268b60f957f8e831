import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { digestJson } from "../../src/core/identity.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { recordCached } from "../../src/registry/cached-merges.ts";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import { readReport, unpackReport } from "../../src/registry/evaluation-reports.ts";
import {
  type EvaluationRequest,
  loadEvaluationWork,
  recordEvaluation,
  startEvaluation,
} from "../../src/registry/evaluations.ts";
import { setGate } from "../../src/registry/gates.ts";
import { cancelJob, claimJob, failJob } from "../../src/registry/jobs.ts";
import { startMerge } from "../../src/registry/merges.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { reportOf, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let merged: StoredVersion;
let mergeId: string;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  for (const name of ["sentiment", "light-touch"]) {
    await s.imported({
      name: `demo/${name}`,
      kind: "ADAPTER",
      folder: `adapters/${name}`,
      base: "demo/base",
    });
  }
  const made = await s.merged({ ...MERGE, tokenizer: "base", choices: { dtype: "F32" } });
  merged = made.version;
  mergeId = made.mergeId;
});
afterAll(() => test.close());

const MERGE = { base: { ref: "demo/base" }, sources: [{ ref: "demo/sentiment" }], output: "demo/merged" };
const evaluation = (more: Partial<EvaluationRequest> = {}): EvaluationRequest => ({
  base: { ref: "demo/base" },
  sources: [{ ref: "demo/sentiment" }],
  candidate: { ref: "demo/merged" },
  ...more,
});
const row = (id: string) =>
  test.db.evaluation.findUniqueOrThrow({ where: { id }, include: { inputs: true, report: true } });
const job = (id: string) => test.db.job.findUniqueOrThrow({ where: { id } });
const evaluationsOf = (of: string) =>
  test.db.evaluation.findMany({ where: { mergeId: of }, include: { jobs: true, texts: true } });
const JSONL = '{"text": "One text."}\n{"text": "And another."}\n';

describe("an evaluation", () => {
  it("is made with its job, and its inputs in order", async () => {
    const { job: made, evaluationId } = await startEvaluation(s.admin, evaluation());
    expect(made).toMatchObject({ kind: "RUN_EVALUATION", state: "QUEUED", evaluationId });
    const found = await row(evaluationId);
    expect(found).toMatchObject({ state: "QUEUED", verdict: null, gate: { name: "default" }, textsId: null });
    expect(found.inputs.map(({ role, weight, position }) => [position, role, weight])).toEqual([
      [0, "BASE", null],
      [1, "ADAPTER", 1],
      [2, "CANDIDATE", null],
    ]);
    expect(found.modelId).toBe(merged.modelId);
  });

  it("of a version that was merged here takes the recipe that made it; of another what is said, or the defaults", async () => {
    const choicesOf = async (request: EvaluationRequest) =>
      (await loadEvaluationWork(test.db, (await startEvaluation(s.admin, request)).evaluationId)).choices;
    expect(await choicesOf(evaluation())).toMatchObject({ dtype: "F32", tokenizer: "base", weights: [1] });
    const other = evaluation({ sources: [{ ref: "demo/light-touch", weight: 0.5 }] });
    expect(await choicesOf(other)).toMatchObject({ dtype: "F32", tokenizer: "base", weights: [0.5] });
    const expected = { tokenizer: "adapter" as const, choices: { dtype: "F16" as const } };
    expect(await choicesOf(evaluation({ expected }))).toMatchObject({ dtype: "F16", tokenizer: "adapter" });
    const foreign = await choicesOf(evaluation({ candidate: { ref: "demo/base" } }));
    expect(foreign).toEqual({ tokenizer: null, weights: [1] });
  });

  it("of a recipe belongs to the adapter's model and keeps the recipe", async () => {
    const recipe = { choices: { dtype: "F16" as const } };
    const { evaluationId } = await startEvaluation(s.admin, evaluation({ candidate: { recipe } }));
    const found = await test.db.evaluation.findUniqueOrThrow({
      where: { id: evaluationId },
      include: { recipe: true, model: true, inputs: true },
    });
    expect(found.model.name).toBe("sentiment");
    expect(found.recipe?.document).toMatchObject({ dtype: "F16" });
    expect(found.inputs).toHaveLength(2);
    const work = await loadEvaluationWork(test.db, evaluationId);
    expect(work.candidate).toBeNull();
    expect(work.choices).toMatchObject({ dtype: "F16" });
  });

  it("keeps texts and tasks, once a namespace, and gives them back as they were", async () => {
    const tasks = { jsonl: '{"prompt": "2+2=", "expected": "4"}\n' };
    const request = evaluation({ texts: { name: "mine", jsonl: JSONL }, tasks });
    const first = await startEvaluation(s.admin, request);
    const again = await startEvaluation(s.admin, request);
    const work = await loadEvaluationWork(test.db, again.evaluationId);
    expect(work).toMatchObject({ texts: { name: "mine", jsonl: JSONL }, tasks: { name: "tasks", ...tasks } });
    expect((await row(first.evaluationId)).textsId).toBe((await row(again.evaluationId)).textsId);
    expect(await test.db.textSet.count()).toBe(2);
  });

  it("refuses what cannot be compared, and leaves nothing behind", async () => {
    const before = [await test.db.evaluation.count(), await test.db.job.count()];
    const bad: [Partial<EvaluationRequest>, string, string][] = [
      [{ sources: [] }, "BAD_INPUT", "sources"],
      [{ sources: [{ ref: "demo/base" }] }, "NOT_AN_ADAPTER", "sources.0.ref"],
      [{ base: { ref: "demo/sentiment" } }, "NOT_A_CHECKPOINT", "base.ref"],
      [{ candidate: { ref: "demo/sentiment" } }, "NOT_A_CHECKPOINT", "candidate.ref"],
      [{ candidate: { ref: "demo/none" } }, "NOT_FOUND", "candidate.ref"],
      [{ sources: [{ ref: "demo/sentiment", weight: Number.NaN }] }, "BAD_INPUT", "sources.0.weight"],
      [{ gate: "acme/none" }, "NOT_FOUND", "gate"],
      [{ texts: { jsonl: "not json" } }, "BAD_TEXTS", "texts"],
      [{ tasks: { jsonl: JSONL } }, "BAD_TASKS", "tasks"],
      [{ texts: { name: "", jsonl: JSONL } }, "BAD_INPUT", "texts"],
      [{ options: { seed: -1 } }, "BAD_INPUT", "seed"],
      [{ options: { window: 8, stride: 9 } }, "BAD_INPUT", "stride"],
      [{ options: { prompts: ["ok", ""] } }, "BAD_INPUT", "prompts.1"],
      [{ device: "CUDA" }, "DEVICE_UNAVAILABLE", "device"],
      [{ candidate: { recipe: {} }, expected: {} }, "BAD_INPUT", "expected"],
    ];
    for (const [more, code, field] of bad) {
      await expect(startEvaluation(s.admin, evaluation(more))).rejects.toMatchObject({ code, field });
    }
    expect([await test.db.evaluation.count(), await test.db.job.count()]).toEqual(before);
  });

  it("needs the role EDITOR where the candidate is, and sight of everything that it compares", async () => {
    const reader = await s.account("eval-reader", { demo: "VIEWER" });
    await expect(startEvaluation(reader, evaluation())).rejects.toMatchObject({
      code: "FORBIDDEN",
      field: "candidate.ref",
    });
    const recipe = evaluation({ candidate: { recipe: {} } });
    await expect(startEvaluation(reader, recipe)).rejects.toMatchObject({ field: "sources.0.ref" });
    const other = await s.account("eval-other", { elsewhere: "ADMIN" });
    await expect(startEvaluation(other, evaluation())).rejects.toMatchObject({
      code: "NOT_FOUND",
      field: "base.ref",
    });
    await expect(startEvaluation(s.as(ANONYMOUS), evaluation())).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
  });

  it("asked for again under its key is the same one, and with other input a conflict", async () => {
    const request = evaluation({ idempotencyKey: "once", texts: { jsonl: JSONL } });
    const first = await startEvaluation(s.admin, request);
    const second = await startEvaluation(s.admin, request);
    expect(second.evaluationId).toBe(first.evaluationId);
    const other = startEvaluation(s.admin, { ...request, texts: { jsonl: JSONL.slice(0, 22) } });
    await expect(other).rejects.toMatchObject({ code: "IDEMPOTENCY_CONFLICT" });
  });
});

describe("a report", () => {
  it("is recorded whole with the end of evaluation and job, and without its long lists beside", async () => {
    const { evaluationId, jobId } = await s.evaluated(evaluation());
    const found = await row(evaluationId);
    expect(found).toMatchObject({ state: "SUCCEEDED", verdict: "PASSED" });
    expect(found.startedAt).not.toBeNull();
    const whole = unpackReport(found.report!.document);
    expect(whole).toEqual(await reportOf(test, evaluationId));
    expect(whole.weights!.tensors.length).toBeGreaterThan(100);
    expect(found.summary).toMatchObject({
      weights: { touched: 112, tensors: [] },
      logits: { kld: { mean: whole.logits!.kld.mean }, layers: [], worst: [] },
      text: { prompts: [] },
    });
    expect(await job(jobId)).toMatchObject({ state: "SUCCEEDED" });
    const last = await test.db.jobEvent.findFirst({ where: { jobId }, orderBy: { number: "desc" } });
    expect(last).toMatchObject({ type: "succeeded", data: { verdict: "PASSED", reasons: [] } });
  });

  it("of other bytes, of another gate, or that is none is not recorded", async () => {
    const { job: made, evaluationId } = await startEvaluation(s.admin, evaluation());
    const claim = await s.claim(made.id);
    const report = await reportOf(test, evaluationId);
    const { candidate, reference } = report;
    const wrong = [
      { ...report, gateDigest: digestJson("other") },
      { ...report, candidate: { ...candidate, version: digestJson("other") } },
      { ...report, candidate: { ...candidate, kind: "recipe" as const } },
      { ...report, reference: { ...reference, base: { ...reference.base, version: digestJson("other") } } },
    ];
    for (const one of wrong) {
      await expect(recordEvaluation(s.worker, claim, one)).rejects.toMatchObject({ code: "REPORT_DIFFERS" });
    }
    const broken = { ...report, seed: -1 };
    await expect(recordEvaluation(s.worker, claim, broken)).rejects.toThrow();
    expect(await row(evaluationId)).toMatchObject({ state: "RUNNING", verdict: null, report: null });
    expect(await job(made.id)).toMatchObject({ state: "RUNNING" });
  });

  it("of an attempt that lost its job is refused, and the later one's is recorded", async () => {
    const { job: made, evaluationId } = await startEvaluation(s.admin, evaluation());
    const first = await s.claim(made.id);
    const second = await claimJob(s.worker, { jobId: made.id, workerId: "other" });
    const report = await reportOf(test, evaluationId);
    await expect(recordEvaluation(s.worker, first, report)).rejects.toMatchObject({ code: "SUPERSEDED" });
    expect((await row(evaluationId)).report).toBeNull();
    await recordEvaluation(s.worker, second!.claim, report);
    expect(await row(evaluationId)).toMatchObject({ state: "SUCCEEDED", verdict: "PASSED" });
    await expect(recordEvaluation(s.worker, second!.claim, report)).rejects.toMatchObject({
      code: "SUPERSEDED",
    });
  });

  it("is there for those who see everything that was compared, and says why there is none yet", async () => {
    const { evaluationId } = await s.evaluated(evaluation());
    const member = await s.account("report-reader", { demo: "VIEWER" });
    expect((await readReport(member, evaluationId)).verdict).toBe("PASSED");
    await expect(readReport(s.as(ANONYMOUS), evaluationId)).rejects.toMatchObject({ code: "NOT_FOUND" });
    const waiting = await startEvaluation(s.admin, evaluation());
    const asked = () => readReport(member, waiting.evaluationId);
    await expect(asked()).rejects.toMatchObject({
      code: "NO_REPORT",
      message: expect.stringContaining("waits for a worker"),
    });
    await cancelJob(s.admin, { jobId: waiting.job.id });
    await expect(asked()).rejects.toMatchObject({
      code: "NO_REPORT",
      message: expect.stringContaining("was stopped"),
    });
    expect(await row(waiting.evaluationId)).toMatchObject({ state: "CANCELLED", verdict: null });
  });

  it("never comes of an evaluation whose job failed", async () => {
    const { job: made, evaluationId } = await startEvaluation(s.admin, evaluation());
    await failJob(s.worker, await s.claim(made.id), { code: "BAD_FILE", message: "broken" });
    const found = await row(evaluationId);
    expect(found).toMatchObject({ state: "FAILED", verdict: null, report: null });
    expect(found.finishedAt).not.toBeNull();
  });
});

describe("a merge that names a gate", () => {
  it("is followed by its evaluation, made in the transaction that records the version", async () => {
    await setGate(s.admin, { gate: "demo/own", document: { thresholds: { BF16: { meanKld: 1e-4 } } } });
    const { mergeId: id, version } = await s.merged(
      { ...MERGE, output: "demo/gated", gate: "demo/own", texts: { jsonl: JSONL } },
      "gated",
    );
    const [followed, ...more] = await evaluationsOf(id);
    expect(more).toEqual([]);
    expect(followed).toMatchObject({
      state: "QUEUED",
      gate: { name: "demo/own", version: 1 },
      texts: { name: "texts" },
      modelId: version.modelId,
      jobs: [{ kind: "RUN_EVALUATION", state: "QUEUED", versionId: version.id, mergeId: id }],
    });
    const work = await loadEvaluationWork(test.db, followed!.id);
    expect([work.base.label, work.sources[0]?.label, work.candidate?.id]).toEqual([
      "demo/base@1",
      "demo/sentiment@1",
      version.id,
    ]);
    // The queue has it too: a worker would be given it.
    const queued = await test.db.$queryRaw<{ name: string }[]>`
      select name from pgboss.job where id = ${followed!.jobs[0]!.id}::uuid`;
    expect(queued).toEqual([{ name: "run-evaluation" }]);
  });

  it("is evaluated too where its result was there already", async () => {
    const { job: made, mergeId: id } = await startMerge(s.admin, {
      ...MERGE,
      tokenizer: "base",
      choices: { dtype: "F32" },
      gate: "default",
    });
    expect((await test.db.merge.findUniqueOrThrow({ where: { id } })).cachedFromId).toBe(mergeId);
    expect(await evaluationsOf(id)).toEqual([]);
    await recordCached(s.worker, await s.claim(made.id));
    expect(await evaluationsOf(id)).toMatchObject([{ state: "QUEUED", gate: { name: "default" } }]);
  });

  it("has none before it succeeded, nor without a gate; texts alone are refused, and a gate that is not there", async () => {
    expect(await evaluationsOf(mergeId)).toEqual([]);
    const failed = await startMerge(s.admin, { ...MERGE, output: "demo/failed", gate: "default" });
    await failJob(s.worker, await s.claim(failed.job.id), { code: "X", message: "x" });
    expect(await evaluationsOf(failed.mergeId)).toEqual([]);
    await expect(startMerge(s.admin, { ...MERGE, texts: { jsonl: JSONL } })).rejects.toMatchObject({
      code: "BAD_INPUT",
      field: "texts",
    });
    await expect(startMerge(s.admin, { ...MERGE, gate: "demo/none" })).rejects.toMatchObject({
      code: "NOT_FOUND",
      field: "gate",
    });
  });
});
