import { open, readFile, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cancelJob } from "../../src/registry/jobs.ts";
import { startMerge, startVerify } from "../../src/registry/merges.ts";
import { generateCheckpoint } from "../support/checkpoints.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

let graft: Harness;
beforeAll(async () => {
  graft = await startHarness();
});
afterAll(() => graft.close());

const demo = (path: string) => join(DEMO, path);

async function importDemo() {
  const base = await graft.import({ name: "demo/base", path: demo("base") });
  const adapter = await graft.import({
    name: "demo/sentiment",
    path: demo("adapters/sentiment"),
    base: "demo/base",
  });
  return { base, adapter };
}

/** Merges, and says where the result lies and what the check found of untouched tensors. */
async function merged(base: string, adapter: string, output: string) {
  const job = await graft.merge(base, adapter, output);
  expect(job.error).toBeNull();
  const { location } = await graft.test.db.version.findUniqueOrThrow({ where: { id: job.versionId! } });
  const { report } = await graft.test.db.merge.findUniqueOrThrow({ where: { id: job.mergeId! } });
  const { checks } = report as unknown as { checks: { name: string; detail: string }[] };
  return { location, untouched: checks.find(({ name }) => name.startsWith("untouched"))?.detail };
}

/** Writes the other byte at a place in a file and leaves its times as they were. */
async function damage(path: string, at: number): Promise<void> {
  const handle = await open(path, "r+");
  const { atime, mtime } = await handle.stat();
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, at);
  await handle.write(Buffer.of(byte[0]! ^ 0xff), 0, 1, at);
  await handle.close();
  await utimes(path, atime, mtime);
}

describe("jobs", () => {
  it("import, merge and verify the demo, with the bytes that PEFT made", async () => {
    const { base, adapter } = await importDemo();
    expect([base.state, adapter.state]).toEqual(["SUCCEEDED", "SUCCEEDED"]);
    const job = await graft.merge("demo/base", "demo/sentiment", "demo/merged");
    expect(job.error).toBeNull();
    const version = await graft.test.db.version.findUniqueOrThrow({ where: { id: job.versionId! } });
    const file = (folder: string) => readFile(join(folder, "model.safetensors"));
    expect((await file(version.location)).equals(await file(demo("expected/sentiment")))).toBe(true);
    expect(await graft.merged()).toEqual([job.mergeId]);
    const verify = await graft.end((await startVerify(graft.ctx, { ref: "demo/merged" })).id);
    expect(verify.state).toBe("SUCCEEDED");
    const merge = await graft.test.db.merge.findUniqueOrThrow({ where: { id: job.mergeId! } });
    expect(merge).toMatchObject({ verdict: "PASSED", verifyVerdict: "PASSED", state: "SUCCEEDED" });
    expect(merge.verification).toMatchObject({ verdict: "IDENTICAL", differences: [] });
  });

  it("number their events without gaps and keep the last progress of the work", async () => {
    await importDemo();
    await graft.import({ name: "demo/light-touch", path: demo("adapters/light-touch") });
    const job = await graft.merge("demo/base", "demo/light-touch", "demo/lightly");
    expect(job.events.map((event) => event.number)).toEqual(job.events.map((_, i) => i + 1));
    const stages = job.events.filter((event) => event.type === "stage").map((event) => event.data);
    expect(stages).toMatchObject([{ stage: "merge" }, { stage: "check" }, { stage: "sync" }]);
    expect(job.events.map((event) => event.type).slice(0, 2)).toEqual(["queued", "claimed"]);
    expect(job.events.at(-1)?.type).toBe("succeeded");
    const read = await graft.import({ name: "demo/again", path: demo("base") });
    expect(read.progressDone).toBe(read.progressTotal);
    expect(read.progressTotal).toBeGreaterThan(0n);
  });

  it("answer a repeated recipe with the version that is there", async () => {
    await importDemo();
    const first = await graft.merge("demo/base", "demo/sentiment", "demo/twice");
    const second = await graft.merge("demo/base", "demo/sentiment", "demo/twice");
    expect(second.versionId).toBe(first.versionId);
    expect(second.events.map((event) => event.type)).toEqual(["queued", "claimed", "succeeded"]);
  });

  it("merge a repeated recipe again when the files of its result are gone, into the same version", async () => {
    await importDemo();
    const first = await graft.merge("demo/base", "demo/sentiment", "demo/lost");
    const { location } = await graft.test.db.version.findUniqueOrThrow({ where: { id: first.versionId! } });
    await rm(location, { recursive: true });
    const second = await graft.merge("demo/base", "demo/sentiment", "demo/lost");
    expect(second.versionId).toBe(first.versionId);
    const warning = second.events.find((event) => event.type === "warning");
    expect(warning?.data).toMatchObject({ code: "CACHED_RESULT_LOST" });
    const version = await graft.test.db.version.findUniqueOrThrow({ where: { id: second.versionId! } });
    const bytes = await readFile(join(version.location, "model.safetensors"));
    expect(bytes.equals(await readFile(demo("expected/sentiment/model.safetensors")))).toBe(true);
  });

  it("find a merged file that was damaged since", async () => {
    await importDemo();
    await graft.import({ name: "demo/polite-rewriter", path: demo("adapters/polite-rewriter") });
    const job = await graft.merge("demo/base", "demo/polite-rewriter", "demo/damaged");
    const { location } = await graft.test.db.version.findUniqueOrThrow({ where: { id: job.versionId! } });
    const file = join(location, "model.safetensors");
    await damage(file, (await readFile(file)).length - 5);
    await graft.end((await startVerify(graft.ctx, { ref: "demo/damaged" })).id);
    const merge = await graft.test.db.merge.findUniqueOrThrow({ where: { id: job.mergeId! } });
    expect(merge.verifyVerdict).toBe("FAILED");
    expect(merge.verification).toMatchObject({ verdict: "DIFFERENT", differences: [{ what: "stored" }] });
  });

  it("take digests from the import, copy what an adapter leaves alone, and link it where the base was merged here", async () => {
    const folder = join(graft.root, "layers");
    await generateCheckpoint(folder, { layers: 4, hidden: 64, rank: 4, shards: 4, adapted: 1 });
    // Files that changed a moment ago are not trusted.
    await sleep(100);
    await graft.import({ name: "layers/base", path: join(folder, "base") });
    await graft.import({ name: "layers/adapter", path: join(folder, "adapter") });
    const once = await merged("layers/base", "layers/adapter", "layers/once");
    expect(once.untouched).toContain("0 tensors by sha256, 3 copied as they are");
    await sleep(100);
    const twice = await merged("layers/once", "layers/adapter", "layers/twice");
    const inodes = (place: string) =>
      Promise.all(
        [1, 2].map(async (i) => (await stat(join(place, `model-0000${i}-of-00004.safetensors`))).ino),
      );
    const [first, second] = [await inodes(once.location), await inodes(twice.location)];
    expect([second[0] === first[0], second[1] === first[1]]).toEqual([false, true]);
    expect((await inodes(join(folder, "base")))[1]).not.toBe(first[1]);
    for (const ref of ["layers/once", "layers/twice"]) {
      await graft.end((await startVerify(graft.ctx, { ref })).id);
    }
    const verdicts = await graft.test.db.merge.findMany({
      where: { outputModel: { namespace: { name: "layers" } } },
      select: { verifyVerdict: true },
    });
    expect(verdicts).toEqual([{ verifyVerdict: "PASSED" }, { verifyVerdict: "PASSED" }]);
  });

  it("stop within seconds when they are cancelled, and leave nothing", async () => {
    await generateCheckpoint(graft.root, { layers: 48, hidden: 1536, rank: 64 });
    await graft.import({ name: "big/base", path: join(graft.root, "base") });
    await graft.import({ name: "big/adapter", path: join(graft.root, "adapter"), base: "big/base" });
    const before = await graft.merged();
    const { job } = await startMerge(graft.ctx, {
      base: { ref: "big/base" },
      sources: [{ ref: "big/adapter" }],
      output: "big/merged",
    });
    while ((await graft.merged()).length === before.length) await sleep(5);
    await cancelJob(graft.ctx, { jobId: job.id });
    const cancelled = Date.now();
    while ((await graft.merged()).length > before.length) await sleep(20);
    expect(Date.now() - cancelled).toBeLessThan(4000);
    const ended = await graft.end(job.id);
    expect(ended.state).toBe("CANCELLED");
    expect(ended.events.at(-1)?.type).toBe("cancelled");
    expect(await graft.merged()).toEqual(before);
    expect(
      await graft.test.db.version.count({ where: { model: { name: "merged", namespace: { name: "big" } } } }),
    ).toBe(0);
  });
});
