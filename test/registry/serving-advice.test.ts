import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../src/core/checkpoint.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import { cancelJob, claimJob, failJob } from "../../src/registry/jobs.ts";
import { recordImport, startImport } from "../../src/registry/models.ts";
import {
  loadServingWork,
  recordServingAdvice,
  type ServingRequest,
  startServingAdvice,
} from "../../src/registry/serving-advice.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { exampleMeasured } from "../support/example-advice.ts";
import { demoFacts, demoFolder, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let base: StoredVersion;
let merged: StoredVersion;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  base = await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  const adapter = { kind: "ADAPTER", folder: "adapters/sentiment" } as const;
  await s.imported({ ...adapter, name: "demo/sentiment", base: "demo/base" });
  await s.imported({ ...adapter, name: "demo/homeless", salt: "homeless" });
  const made = await s.merged({
    base: { ref: "demo/base" },
    sources: [{ ref: "demo/sentiment" }],
    output: "demo/merged",
    tokenizer: "base",
    choices: { dtype: "F32" },
  });
  merged = made.version;
});
afterAll(() => test.close());

const of = (ref: string): ServingRequest => ({ of: { version: { ref } } });
type Sides = Extract<ServingRequest["of"], { sides: unknown }>["sides"];
const sides = (more: Partial<Sides> = {}): ServingRequest => ({
  of: { sides: { sources: [{ ref: "demo/sentiment" }], ...more } },
});
const work = async (request: ServingRequest) =>
  await loadServingWork(test.db, (await startServingAdvice(s.admin, request)).id);
const labels = ({ base, sources, merged }: Awaited<ReturnType<typeof work>>) => [
  base.label,
  ...sources.map(({ label }) => label),
  merged?.label ?? null,
];
const advices = () =>
  test.db.servingAdvice.findMany({ include: { inputs: { orderBy: { position: "asc" } } } });

/** The demo's base as if its weights were quantised, so that its config says so. */
async function importQuantised(): Promise<void> {
  const facts = await demoFacts("base", "quantised");
  const config = {
    ...facts.config,
    quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true },
  };
  const job = await startImport(s.admin, { name: "demo/four-bit", path: demoFolder("base") });
  await recordImport(s.worker, await s.claim(job.id), {
    facts: { ...facts, config },
    digests: checkpointDigests(facts),
    location: demoFolder("base"),
  });
}

describe("an advice on serving", () => {
  it("of an adapter is measured beside the base that it was trained on; there is no row before", async () => {
    const job = await startServingAdvice(s.admin, { ...of("demo/sentiment"), adapters: 12 });
    expect(job).toMatchObject({ kind: "MEASURE_SERVING", state: "QUEUED", device: "CPU" });
    const found = await loadServingWork(test.db, job.id);
    expect(labels(found)).toEqual(["demo/base@1", "demo/sentiment@1", null]);
    expect(found).toMatchObject({ planned: 12, texts: null, gate: { name: "default" }, device: "CPU" });
    expect(found.choices).toEqual({ tokenizer: null, weights: [1] });
    expect(await advices()).toEqual([]);
    const queued = await test.db.$queryRaw`select name from pgboss.job where id = ${job.id}::uuid`;
    expect(queued).toEqual([{ name: "measure-serving" }]);
  });

  it("of a version that was merged here takes everything from its recipe", async () => {
    const found = await work(of("demo/merged"));
    expect(labels(found)).toEqual(["demo/base@1", "demo/sentiment@1", "demo/merged@1"]);
    expect(found.choices).toMatchObject({ dtype: "F32", tokenizer: "base", weights: [1] });
  });

  it("of named sides takes what is said, and what is recorded for the rest", async () => {
    expect(labels(await work(sides()))).toEqual(["demo/base@1", "demo/sentiment@1", null]);
    const known = await work(sides({ base: { ref: "demo/base" }, merged: { ref: "demo/merged" } }));
    expect(known.choices).toMatchObject({ dtype: "F32", tokenizer: "base" });
    // Any checkpoint will do: it may come from another tool.
    const recipe = { tokenizer: "adapter" as const, choices: { dtype: "F16" as const } };
    const sources = [{ ref: "demo/sentiment", weight: 0.5 }, { ref: "demo/homeless" }];
    const foreign = await work(sides({ sources, merged: { ref: "demo/base" }, recipe }));
    expect(foreign.choices).toEqual({ dtype: "F16", tokenizer: "adapter", weights: [0.5, 1] });
    expect(labels(foreign)).toEqual(["demo/base@1", "demo/sentiment@1", "demo/homeless@1", "demo/base@1"]);
  });

  it("keeps texts, and gives them back as they were", async () => {
    const jsonl = '{"text": "One text."}\n';
    expect((await work({ ...of("demo/merged"), texts: { name: "mine", jsonl } })).texts).toEqual({
      name: "mine",
      jsonl,
    });
  });

  it("of a quantised base is measured as far as that goes; what a merge would be refused for else, at once", async () => {
    await importQuantised();
    expect((await work(sides({ base: { ref: "demo/four-bit" } }))).base.label).toBe("demo/four-bit@1");
    const other = { name: "demo/other", kind: "BASE", folder: "../models/llama-bf16" } as const;
    await s.imported(other);
    await expect(startServingAdvice(s.admin, sides({ base: { ref: "demo/other" } }))).rejects.toMatchObject({
      message: expect.stringContaining("this merge is refused"),
      reasons: expect.arrayContaining([expect.objectContaining({ code: expect.any(String) })]),
    });
  });

  it("refuses what cannot be found or measured, and leaves nothing behind", async () => {
    const before = await test.db.job.count();
    const bad: [ServingRequest, string, string][] = [
      [of("demo/none"), "NOT_FOUND", "version.ref"],
      [of("demo/homeless"), "NO_BASE", "version.ref"],
      [of("demo/base"), "NOT_A_MERGE", "version.ref"],
      [sides({ sources: [] }), "BAD_INPUT", "sources"],
      [sides({ sources: [{ ref: "demo/homeless" }] }), "NO_BASE", "sources.0.ref"],
      [sides({ sources: [{ ref: "demo/base" }] }), "NOT_AN_ADAPTER", "sources.0.ref"],
      [sides({ sources: [{ ref: "demo/sentiment", weight: Number.NaN }] }), "BAD_INPUT", "sources.0.weight"],
      [sides({ base: { ref: "demo/sentiment" } }), "NOT_A_CHECKPOINT", "base.ref"],
      [sides({ merged: { ref: "demo/sentiment" } }), "NOT_A_CHECKPOINT", "merged.ref"],
      [{ ...of("demo/merged"), adapters: 0 }, "BAD_INPUT", "adapters"],
      [{ ...of("demo/merged"), adapters: 1.5 }, "BAD_INPUT", "adapters"],
      [{ ...of("demo/merged"), gate: "demo/none" }, "NOT_FOUND", "gate"],
      [{ ...of("demo/merged"), texts: { jsonl: "not json" } }, "BAD_TEXTS", "texts"],
      [{ ...of("demo/merged"), device: "CUDA" }, "DEVICE_UNAVAILABLE", "device"],
    ];
    for (const [request, code, field] of bad) {
      await expect(startServingAdvice(s.admin, request)).rejects.toMatchObject({ code, field });
    }
    expect(await test.db.job.count()).toBe(before);
  });

  it("needs the role EDITOR where the version is, and sight of everything that it is about", async () => {
    const reader = await s.account("advice-reader", { demo: "VIEWER" });
    await expect(startServingAdvice(reader, of("demo/merged"))).rejects.toMatchObject({
      code: "FORBIDDEN",
      field: "version.ref",
    });
    const editor = await s.account("advice-editor", { open: "EDITOR" });
    await s.merged(
      {
        base: { ref: "demo/base" },
        sources: [{ ref: "demo/sentiment" }],
        output: "open/merged",
        visibility: "PUBLIC",
        force: true,
      },
      "open",
    );
    const hidden = startServingAdvice(editor, of("open/merged"));
    await expect(hidden).rejects.toMatchObject({ code: "NOT_FOUND", field: "version.ref" });
    // What it was merged from is nobody's business who may not see it.
    await expect(hidden).rejects.not.toMatchObject({ message: expect.stringContaining("demo/") });
    await expect(startServingAdvice(s.as(ANONYMOUS), of("open/merged"))).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
  });

  it("asked for again under its key is the same job, and with other input a conflict", async () => {
    const request = { ...of("demo/merged"), idempotencyKey: "advice once" };
    const first = await startServingAdvice(s.admin, request);
    expect((await startServingAdvice(s.admin, request)).id).toBe(first.id);
    await expect(startServingAdvice(s.admin, { ...request, adapters: 2 })).rejects.toMatchObject({
      code: "IDEMPOTENCY_CONFLICT",
    });
  });
});

describe("what was measured", () => {
  it("is recorded with its inputs and with the end of the job", async () => {
    const jobId = await s.advised(of("demo/merged"), { planned: 3 });
    const [row] = (await advices()).filter((one) => one.jobId === jobId);
    expect(row).toMatchObject({
      modelId: merged.modelId,
      namespaceId: merged.namespaceId,
      device: "CPU",
      document: { recommendation: "SEPARATE", planned: 3 },
      commands: { merged: "vllm serve /models/merged" },
      environment: { processor: "a processor" },
    });
    expect(row!.inputs.map(({ role, weight, versionId }) => [role, weight, versionId])).toEqual([
      ["BASE", null, base.id],
      ["ADAPTER", 1, expect.any(String)],
      ["MERGED", null, merged.id],
    ]);
    expect(await test.db.job.findUniqueOrThrow({ where: { id: jobId } })).toMatchObject({
      state: "SUCCEEDED",
      versionId: merged.id,
    });
    const last = await test.db.jobEvent.findFirst({ where: { jobId }, orderBy: { number: "desc" } });
    expect(last).toMatchObject({
      type: "succeeded",
      data: { recommendation: "SEPARATE", reasons: expect.arrayContaining(["SEVERAL_TASKS"]) },
    });
  });

  it("by an attempt that lost its job, or that is no advice, is refused; one of a job that ended is too", async () => {
    const job = await startServingAdvice(s.admin, of("demo/merged"));
    const first = await s.claim(job.id);
    const second = await claimJob(s.worker, { jobId: job.id, workerId: "other" });
    const before = await test.db.servingAdvice.count();
    const measured = exampleMeasured();
    await expect(recordServingAdvice(s.worker, first, measured)).rejects.toMatchObject({
      code: "SUPERSEDED",
    });
    const broken = { ...measured, advice: { ...measured.advice, planned: -1 } };
    await expect(recordServingAdvice(s.worker, second!.claim, broken)).rejects.toThrow();
    await cancelJob(s.admin, { jobId: job.id });
    await expect(recordServingAdvice(s.worker, second!.claim, measured)).rejects.toMatchObject({
      code: "SUPERSEDED",
    });
    const failed = await startServingAdvice(s.admin, of("demo/merged"));
    await failJob(s.worker, await s.claim(failed.id), { code: "BAD_FILE", message: "broken" });
    expect(await test.db.servingAdvice.count()).toBe(before);
  });
});
