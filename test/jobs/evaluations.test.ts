import { readFileSync } from "node:fs";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { unpackReport } from "../../src/registry/evaluation-reports.ts";
import { type EvaluationRequest, startEvaluation } from "../../src/registry/evaluations.ts";
import { startMerge } from "../../src/registry/merges.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

let graft: Harness;
let written: Awaited<ReturnType<typeof evaluated>>;
beforeAll(async () => {
  graft = await startHarness();
  await graft.import({ name: "demo/base", path: join(DEMO, "base") });
  const adapter = { name: "demo/sentiment", path: join(DEMO, "adapters/sentiment"), base: "demo/base" };
  await graft.import(adapter);
  expect((await graft.merge("demo/base", "demo/sentiment", "demo/merged")).state).toBe("SUCCEEDED");
  written = await evaluated(request());
});
afterAll(() => graft.close());

const TEXTS = { name: "held out", jsonl: readFileSync(join(DEMO, "eval.jsonl"), "utf8") };
const request = (more: Partial<EvaluationRequest> = {}): EvaluationRequest => ({
  base: { ref: "demo/base" },
  sources: [{ ref: "demo/sentiment" }],
  candidate: { ref: "demo/merged" },
  texts: TEXTS,
  options: { prompts: ["Review by Yuki:"], maxNewTokens: 4, floorTokens: 64 },
  ...more,
});

async function evaluated(asked: EvaluationRequest) {
  const { job, evaluationId } = await startEvaluation(graft.ctx, asked);
  const ended = await graft.end(job.id);
  expect(ended.error).toBeNull();
  const row = await graft.test.db.evaluation.findUniqueOrThrow({
    where: { id: evaluationId },
    include: { report: true },
  });
  return { row, ended, report: unpackReport(row.report!.document) };
}

describe("an evaluation as a job", () => {
  it("passes a merge that was made here, with the digests of everything that was compared", async () => {
    const { row, report, ended } = written;
    expect(report.reasons).toEqual([]);
    expect(row).toMatchObject({ state: "SUCCEEDED", verdict: "PASSED" });
    const version = await graft.test.db.version.findFirstOrThrow({ where: { model: { name: "merged" } } });
    expect(report.candidate).toMatchObject({
      label: "demo/merged@1",
      version: version.digest,
      weights: version.weightsDigest,
      kind: "checkpoint",
    });
    expect(report.logits!.documents).toBe(64);
    expect(report.logits!.kld.mean.value).toBeLessThan(1e-3);
    expect(report.texts).toMatchObject({ name: "held out", documents: 64 });
    expect(report.text!.prompts).toHaveLength(1);
    expect(ended.events.map(({ type }) => type)).toContain("stage");
    expect(ended.events.at(-1)).toMatchObject({ type: "succeeded", data: { verdict: "PASSED" } });
  });

  it("judges what a recipe would give as the merge that was written, and leaves nothing on the disk", async () => {
    const before = await graft.merged();
    const { row, report } = await evaluated(request({ candidate: { recipe: {} } }));
    expect(row.verdict).toBe("PASSED");
    expect(report.candidate.kind).toBe("recipe");
    expect(report.recipeDigest).toBe(written.report.recipeDigest);
    expect(report.logits!.kld.mean.value).toBeCloseTo(written.report.logits!.kld.mean.value, 9);
    expect(await graft.merged()).toEqual(before);
  });

  it("fails a checkpoint of another tool that lacks the adapter, with named reasons", async () => {
    const { row, report } = await evaluated(request({ candidate: { ref: "demo/base" } }));
    expect(row.verdict).toBe("FAILED");
    expect(report.reasons.map(({ code }) => code)).toContain("NO_EFFECT");
    const { data } = await graft.test.db.jobEvent.findFirstOrThrow({
      where: { job: { evaluationId: row.id }, type: "succeeded" },
    });
    expect(data).toMatchObject({
      verdict: "FAILED",
      reasons: [...new Set(report.reasons.map(({ code }) => code))],
    });
  });

  it("judges an imported folder that nobody merged here", async () => {
    const folder = join(graft.root, "elsewhere");
    await cp(join(DEMO, "expected/sentiment"), folder, { recursive: true });
    const imported = await graft.import({ name: "other/elsewhere", path: folder });
    expect(imported.error).toBeNull();
    const { row } = await evaluated(request({ candidate: { ref: "other/elsewhere" } }));
    expect(row.verdict).toBe("PASSED");
    const config = join(folder, "config.json");
    await writeFile(config, `${await readFile(config, "utf8")}\n`);
    const { job } = await startEvaluation(graft.ctx, request({ candidate: { ref: "other/elsewhere" } }));
    expect(await graft.end(job.id)).toMatchObject({ state: "FAILED", error: { code: "INPUT_CHANGED" } });
  });

  it("follows by itself where the merge named a gate", async () => {
    const { job, mergeId } = await startMerge(graft.ctx, {
      base: { ref: "demo/base" },
      sources: [{ ref: "demo/sentiment" }],
      output: "demo/gated",
      gate: "default",
      texts: TEXTS,
      force: true,
    });
    expect((await graft.end(job.id)).error).toBeNull();
    const followed = await graft.test.db.evaluation.findFirstOrThrow({
      where: { mergeId },
      include: { jobs: true },
    });
    expect((await graft.end(followed.jobs[0]!.id)).error).toBeNull();
    expect(await graft.test.db.evaluation.findUniqueOrThrow({ where: { id: followed.id } })).toMatchObject({
      state: "SUCCEEDED",
      verdict: "PASSED",
    });
  });
});
