import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../src/core/checkpoint.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { forgetCached, recordCached } from "../../src/registry/cached-merges.ts";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import { cancelJob, failJob } from "../../src/registry/jobs.ts";
import { planFor } from "../../src/registry/merge-plan.ts";
import {
  loadMergeWork,
  type MergeRequest,
  recordMerge,
  recordVerify,
  startMerge,
  startVerify,
} from "../../src/registry/merges.ts";
import { recordImport, startImport } from "../../src/registry/models.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { demoFacts, PASSED, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let base: StoredVersion;
let adapter: StoredVersion;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  base = await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  adapter = await s.imported({
    name: "demo/sentiment",
    kind: "ADAPTER",
    folder: "adapters/sentiment",
    base: "demo/base",
  });
});
afterAll(() => test.close());

const merge = (output: string, more: Partial<MergeRequest> = {}): MergeRequest => ({
  base: { ref: "demo/base" },
  sources: [{ ref: "demo/sentiment" }],
  output,
  ...more,
});
const row = (id: string) => test.db.merge.findUniqueOrThrow({ where: { id } });
const job = (id: string) => test.db.job.findUniqueOrThrow({ where: { id } });
const outcome = async (mergeId: string, salt: string) => {
  const work = await loadMergeWork(test.db, mergeId);
  const facts = await demoFacts("base", salt);
  return {
    facts,
    digests: checkpointDigests(facts),
    location: `/merged/${mergeId}`,
    recipeDigest: work.recipeDigest,
    report: PASSED,
    engineVersion: "0.1.0",
    threads: 2,
  };
};

describe("a plan", () => {
  it("is made from what the database holds, and says what the merge would do", async () => {
    const { plan, recipe, recipeDigest } = await planFor(s.admin, merge("demo/x"));
    expect(plan.refusals).toEqual([]);
    expect(plan.touched.length).toBeGreaterThan(0);
    expect(recipe).toMatchObject({
      base: { version: base.digest },
      sources: [{ version: adapter.digest, weight: 1 }],
    });
    expect(recipeDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it("carries its refusals instead of throwing them: a pinned digest that disagrees", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    const { plan } = await planFor(s.admin, merge("demo/x", { base: { ref: "demo/base", pin } }));
    expect(plan.refusals.map((reason) => reason.code)).toEqual(["DIGEST_MISMATCH"]);
  });

  it("is refused for a base where an adapter belongs, for two adapters, and for what the viewer may not see", async () => {
    const twice = [{ ref: "demo/sentiment" }, { ref: "demo/sentiment" }];
    const wrong = merge("demo/x", { sources: [{ ref: "demo/base" }] });
    await expect(planFor(s.admin, wrong)).rejects.toMatchObject({ code: "NOT_AN_ADAPTER" });
    const two = planFor(s.admin, merge("demo/x", { sources: twice }));
    await expect(two).rejects.toMatchObject({ code: "UNSUPPORTED_RECIPE" });
    await expect(planFor(s.as(ANONYMOUS), merge("demo/x"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      field: "base.ref",
    });
  });
});

describe("a merge", () => {
  it("is recorded with its version, lineage, report and the end of its job", async () => {
    const { version, created, mergeId, jobId } = await s.merged(merge("demo/recorded"), "recorded");
    expect(created).toBe(true);
    const { recipeDigest } = await loadMergeWork(test.db, mergeId);
    expect(await row(mergeId)).toMatchObject({
      state: "SUCCEEDED",
      versionId: version.id,
      verdict: "PASSED",
    });
    expect(await job(jobId)).toMatchObject({ state: "SUCCEEDED", versionId: version.id });
    const edges = await test.db.lineageEdge.findMany({
      where: { childId: version.id },
      orderBy: { position: "asc" },
    });
    expect(edges).toMatchObject([
      { parentId: base.id, role: "BASE", weight: null, parentDigest: base.digest, recipeDigest },
      { parentId: adapter.id, role: "ADAPTER", weight: 1, parentDigest: adapter.digest, recipeDigest },
    ]);
    expect(edges.every((edge) => edge.relation === "MERGED_FROM")).toBe(true);
    const model = await test.db.model.findUniqueOrThrow({ where: { id: version.modelId } });
    expect(model).toMatchObject({ name: "recorded", kind: "MERGED", visibility: "PRIVATE" });
  });

  it("that its plan refuses leaves nothing behind: no job, no merge, no model", async () => {
    const before = [await test.db.job.count(), await test.db.merge.count(), await test.db.recipe.count()];
    const other = await demoFacts("adapters/sentiment", "alien");
    const [file] = other.weights;
    // An adapter whose tensors are for other modules.
    const asked = await startImport(s.admin, { name: "demo/alien", kind: "ADAPTER", path: "/alien" });
    const tensors = file!.tensors.map((t) => ({ ...t, name: t.name.replace("layers.0", "layers.77") }));
    const facts = { ...other, weights: [{ ...file!, tensors }] };
    const read = { facts, digests: checkpointDigests(facts), location: "/alien" };
    await recordImport(s.worker, await s.claim(asked.id), read);
    const refused = await startMerge(
      s.admin,
      merge("demo/refused", { sources: [{ ref: "demo/alien" }] }),
    ).catch((error) => error);
    expect(refused.reasons.length).toBeGreaterThan(1);
    const after = [await test.db.job.count(), await test.db.merge.count(), await test.db.recipe.count()];
    expect(after).toEqual([before[0]! + 1, before[1], before[2]]);
    expect(await test.db.model.count({ where: { name: "refused" } })).toBe(0);
  });

  it("of bytes that two recipes gave is of the merge that the version names, and shows there", async () => {
    const first = await s.merged(merge("two/out"), "two");
    const second = await s.merged(merge("two/out", { choices: { numerics: "exact-1" } }), "two");
    expect(second).toMatchObject({ created: false, version: { id: first.version.id } });
    const asked = await startVerify(s.admin, { ref: "two/out@1" });
    expect(asked.mergeId).toBe(first.mergeId);
  });

  it("is forgotten when a forced merge replaces the files", async () => {
    const first = await s.merged(merge("mend/out"), "mend");
    const verify = await startVerify(s.admin, { ref: "mend/out" });
    const found = { verdict: "FAILED" as const, report: { differing: ["x"] } };
    await recordVerify(s.worker, await s.claim(verify.id), found);
    await s.merged(merge("mend/out", { force: true }), "mend");
    expect(await row(first.mergeId)).toMatchObject({
      verifyVerdict: null,
      verification: null,
      verifiedAt: null,
    });
  });

  it("writes nothing for a worker that lost its job", async () => {
    const { job: asked, mergeId } = await startMerge(s.admin, merge("demo/fenced", { force: true }));
    const lost = await s.claim(asked.id);
    const held = await s.claim(asked.id);
    const made = await outcome(mergeId, "fenced");
    await expect(recordMerge(s.worker, lost, made)).rejects.toMatchObject({ code: "SUPERSEDED" });
    expect(await test.db.version.count({ where: { digest: made.digests.version } })).toBe(0);
    expect((await row(mergeId)).state).toBe("RUNNING");
    expect((await recordMerge(s.worker, held, made)).created).toBe(true);
    await expect(recordMerge(s.worker, held, made)).rejects.toMatchObject({ code: "SUPERSEDED" });
    expect(await test.db.version.count({ where: { digest: made.digests.version } })).toBe(1);
  });

  it("refuses a result that another recipe made", async () => {
    const { job: asked, mergeId } = await startMerge(s.admin, merge("demo/swapped", { force: true }));
    const made = { ...(await outcome(mergeId, "swapped")), recipeDigest: `sha256:${"1".repeat(64)}` };
    const claim = await s.claim(asked.id);
    await expect(recordMerge(s.worker, claim, made)).rejects.toMatchObject({ code: "RECIPE_DIFFERS" });
    expect((await job(asked.id)).state).toBe("RUNNING");
  });

  it("fails and is cancelled together with its job", async () => {
    const failing = await startMerge(s.admin, merge("demo/failing", { force: true }));
    await failJob(s.worker, await s.claim(failing.job.id), { code: "DISK_FULL", message: "no space" });
    expect((await row(failing.mergeId)).state).toBe("FAILED");
    const stopped = await startMerge(s.admin, merge("demo/stopped", { force: true }));
    await cancelJob(s.admin, { jobId: stopped.job.id });
    expect((await row(stopped.mergeId)).state).toBe("CANCELLED");
  });

  it("needs the right to write where its result goes, and to see what goes in", async () => {
    const reader = await s.account("merge-reader", { demo: "VIEWER", mine: "EDITOR" });
    await expect(startMerge(reader, merge("demo/x"))).rejects.toMatchObject({ code: "FORBIDDEN" });
    expect((await startMerge(reader, merge("mine/x"))).job.state).toBe("QUEUED");
    const stranger = await s.account("merge-stranger", { theirs: "EDITOR" });
    await expect(startMerge(stranger, merge("theirs/x"))).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await test.db.model.count({ where: { namespace: { name: "theirs" } } })).toBe(0);
  });
});

describe("a repeated recipe", () => {
  it("is answered with the version that exists, by a job that only looks at its files; force merges again", async () => {
    const first = await s.merged(merge("cache/out", { output: "cache/out" }), "cached");
    const { job: again, mergeId } = await startMerge(s.admin, merge("cache/out"));
    expect(again.state).toBe("QUEUED");
    expect((await loadMergeWork(test.db, mergeId)).cached).toMatchObject({ id: first.version.id });
    await recordCached(s.worker, await s.claim(again.id));
    expect(await row(mergeId)).toMatchObject({
      state: "SUCCEEDED",
      versionId: first.version.id,
      cachedFromId: first.mergeId,
      verdict: "PASSED",
    });
    expect(await test.db.job.findUniqueOrThrow({ where: { id: again.id } })).toMatchObject({
      state: "SUCCEEDED",
      versionId: first.version.id,
    });
    const forced = await startMerge(s.admin, merge("cache/out", { force: true }));
    expect((await loadMergeWork(test.db, forced.mergeId)).cached).toBeNull();
  });

  it("is not answered for an output whose name a model of another kind has", async () => {
    await s.imported({ name: "cache/base", kind: "BASE", folder: "base", salt: "taken" });
    await expect(startMerge(s.admin, merge("cache/base"))).rejects.toMatchObject({
      code: "KIND_DIFFERS",
      field: "output",
    });
  });

  it("whose earlier files are lost is merged again, into the version that was there", async () => {
    const first = await s.merged(merge("lost/out"), "lost");
    const { job, mergeId } = await startMerge(s.admin, merge("lost/out"));
    const claim = await s.claim(job.id);
    await forgetCached(s.worker, claim);
    const stored = await recordMerge(s.worker, claim, {
      ...(await outcome(mergeId, "lost")),
      replacesLost: true,
    });
    expect(stored).toMatchObject({ created: false, unusedLocation: first.version.location });
    expect(stored.version.id).toBe(first.version.id);
    expect(stored.version.location).not.toBe(first.version.location);
    expect(await row(mergeId)).toMatchObject({ state: "SUCCEEDED", cachedFromId: null });
  });

  it("with another tokenizer is another recipe", async () => {
    await s.merged(merge("tokenizer/out", { tokenizer: "base" }), "t1");
    const other = await startMerge(s.admin, merge("tokenizer/out", { tokenizer: "adapter" }));
    expect(other.job.state).toBe("QUEUED");
  });

  it("with other choices is another recipe; the same choices in another order are the same one", async () => {
    const choices = { include: { modules: ["q_proj", "v_proj"], layers: [1, 0] } };
    const made = await s.merged(merge("choice/out", { choices }), "choice");
    const again = { include: { modules: ["v_proj", "q_proj", "v_proj"], layers: [0, 1] } };
    const same = await startMerge(s.admin, merge("choice/out", { choices: again }));
    expect((await row(same.mergeId)).cachedFromId).toBe(made.mergeId);
    for (const other of [
      {},
      { dtype: "F32" as const },
      { ties: "peft" as const },
      { numerics: "exact-1" as const },
      { exclude: choices.include },
      { include: { ...choices.include, layers: [0] } },
    ]) {
      const { mergeId } = await startMerge(s.admin, merge("choice/out", { choices: other }));
      expect((await row(mergeId)).cachedFromId, JSON.stringify(other)).toBeNull();
    }
  });

  it("is merged again when the result failed its check or its verification", async () => {
    const first = await s.merged(merge("doubt/out"), "doubt");
    const verify = await startVerify(s.admin, { ref: "doubt/out" });
    await recordVerify(s.worker, await s.claim(verify.id), {
      verdict: "FAILED",
      report: { differing: ["x"] },
    });
    expect(await row(first.mergeId)).toMatchObject({
      verifyVerdict: "FAILED",
      verification: { differing: ["x"] },
    });
    expect((await startMerge(s.admin, merge("doubt/out"))).job.state).toBe("QUEUED");
  });

  it("of another namespace is not shared: nobody learns that others merged the same", async () => {
    await s.merged(merge("theirs2/out"), "t");
    expect((await startMerge(s.admin, merge("ours2/out"))).job.state).toBe("QUEUED");
  });

  it("merged twice at the same time makes one version, and names the folder that is not needed", async () => {
    const asked = [
      await startMerge(s.admin, merge("race/out")),
      await startMerge(s.admin, merge("race/out")),
    ];
    const results = await Promise.all(
      asked.map(async ({ job: { id }, mergeId }) =>
        recordMerge(s.worker, await s.claim(id), await outcome(mergeId, "race")),
      ),
    );
    const [made, found] = results.sort((a, b) => Number(b.created) - Number(a.created));
    expect([made?.created, found?.created]).toEqual([true, false]);
    expect(found?.version.id).toBe(made?.version.id);
    expect(made?.unusedLocation).toBeNull();
    expect(found?.unusedLocation).toMatch(/^\/merged\//);
    expect(found?.unusedLocation).not.toBe(made?.version.location);
  });

  it("forced, replaces the files of the version that came of it before, and names the old folder", async () => {
    const first = await s.merged(merge("again/out"), "again");
    const second = await s.merged(merge("again/out", { force: true }), "again");
    expect(second).toMatchObject({ created: false, version: { id: first.version.id } });
    expect(second.unusedLocation).toBe(`/merged/${first.mergeId}`);
    expect(second.version.location).toBe(`/merged/${second.mergeId}`);
  });
});

describe("verifying", () => {
  it("is refused for a version that no merge made", async () => {
    await expect(startVerify(s.admin, { ref: "demo/base" })).rejects.toMatchObject({ code: "NOT_A_MERGE" });
  });

  it("writes nothing for a worker that lost its job", async () => {
    const { mergeId } = await s.merged(merge("verify/out"), "verify");
    const asked = await startVerify(s.admin, { ref: "verify/out@1" });
    const lost = await s.claim(asked.id);
    const held = await s.claim(asked.id);
    const found = { verdict: "PASSED" as const, report: { tensors: 9 } };
    await expect(recordVerify(s.worker, lost, found)).rejects.toMatchObject({ code: "SUPERSEDED" });
    expect((await row(mergeId)).verifyVerdict).toBeNull();
    await recordVerify(s.worker, held, found);
    expect(await row(mergeId)).toMatchObject({ verifyVerdict: "PASSED", verification: { tensors: 9 } });
  });
});
