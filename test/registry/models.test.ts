import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../src/core/checkpoint.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { loadVersion } from "../../src/registry/checkpoints.ts";
import { recordImport, resolveVersion, startImport } from "../../src/registry/models.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { demoFacts, demoFolder, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
});
afterAll(() => test.close());

const request = (name: string) => ({ name, kind: "BASE" as const, path: demoFolder("base") });

async function read(folder: string, salt: string, location = demoFolder(folder)) {
  const facts = await demoFacts(folder, salt);
  return { facts, digests: checkpointDigests(facts), location };
}

describe("an import", () => {
  it("records version, files and tensors, and ends its job, all of it as it was read", async () => {
    const job = await startImport(s.admin, { ...request("demo/whole"), visibility: "PUBLIC" });
    const given = await read("base", "whole");
    const { version, created } = await recordImport(s.worker, await s.claim(job.id), given);
    expect(created).toBe(true);
    const row = await test.db.version.findUniqueOrThrow({
      where: { id: version.id },
      include: { model: true },
    });
    const tensors = given.facts.weights.flatMap((file) => file.tensors);
    expect(row).toMatchObject({
      number: 1,
      digest: given.digests.version,
      weightsDigest: given.digests.weights,
      location: demoFolder("base"),
      origin: "IMPORTED",
      tensorCount: tensors.length,
      architecture: "LlamaForCausalLM",
      modelType: "llama",
      model: { visibility: "PUBLIC", kind: "BASE", latestNumber: 1 },
    });
    const elements = tensors.map(({ shape }) => shape.reduce((product, side) => product * side, 1));
    expect(Number(row.parameters)).toBe(elements.reduce((sum, count) => sum + count, 0));
    const loaded = await loadVersion(test.db, version.id);
    expect(loaded.facts).toEqual(given.facts);
    expect(loaded).toMatchObject({ label: "demo/whole@1", digest: given.digests.version });
    expect(await test.db.job.findUniqueOrThrow({ where: { id: job.id } })).toMatchObject({
      state: "SUCCEEDED",
      versionId: version.id,
      modelId: row.modelId,
    });
  });

  it("of bytes that the model has returns the version it has, and points it to the new folder", async () => {
    const first = await s.imported({ ...request("demo/twice"), folder: "base", salt: "a" });
    const second = await s.imported({ ...request("demo/twice"), folder: "base", salt: "b" });
    const job = await startImport(s.admin, request("demo/twice"));
    const moved = await read("base", "a", "/moved/here");
    const third = await recordImport(s.worker, await s.claim(job.id), moved);
    expect(third).toMatchObject({
      created: false,
      version: { id: first.id, number: 1, location: "/moved/here" },
    });
    expect(second.number).toBe(2);
    expect((await loadVersion(test.db, first.id)).facts).toEqual(moved.facts);
    expect(await test.db.version.count({ where: { modelId: first.modelId } })).toBe(2);
  });

  it("of the same bytes into two models makes two versions with one digest", async () => {
    const one = await s.imported({ ...request("demo/one"), folder: "base", salt: "shared" });
    const two = await s.imported({ ...request("other/two"), folder: "base", salt: "shared" });
    expect(two.id).not.toBe(one.id);
    expect(two.digest).toBe(one.digest);
  });

  it("numbers versions without gaps and makes one version of equal bytes when imports end at the same moment", async () => {
    const jobs = await Promise.all(
      Array.from({ length: 6 }, () => startImport(s.admin, request("demo/race"))),
    );
    const results = await Promise.all(
      jobs.map(async ({ id }, i) =>
        recordImport(s.worker, await s.claim(id), await read("base", `r${i % 3}`)),
      ),
    );
    expect(results.filter(({ created }) => created)).toHaveLength(3);
    expect([...new Set(results.map(({ version }) => version.number))].sort()).toEqual([1, 2, 3]);
  });

  it("writes nothing for a worker that lost its job, not even a model", async () => {
    const job = await startImport(s.admin, request("demo/fenced"));
    const lost = await s.claim(job.id);
    await s.claim(job.id);
    await expect(recordImport(s.worker, lost, await read("base", "fenced"))).rejects.toMatchObject({
      code: "SUPERSEDED",
    });
    expect(await test.db.model.count({ where: { name: "fenced" } })).toBe(0);
  });

  it("of an adapter remembers the version it was trained on", async () => {
    const base = await s.imported({ ...request("demo/lineage-base"), folder: "base", salt: "lb" });
    const input = { name: "demo/lineage-adapter", kind: "ADAPTER" as const, folder: "adapters/sentiment" };
    const adapter = await s.imported({ ...input, base: "demo/lineage-base@1" });
    await s.imported({ ...input, base: "demo/lineage-base@1" });
    const edges = await test.db.lineageEdge.findMany({ where: { childId: adapter.id } });
    expect(edges).toMatchObject([{ parentId: base.id, relation: "TRAINED_ON", parentDigest: base.digest }]);
  });

  it("is refused for files of another kind, or a model of another kind, or a base where there is none", async () => {
    const job = await startImport(s.admin, request("demo/wrong"));
    const adapter = await read("adapters/sentiment", "w");
    await expect(recordImport(s.worker, await s.claim(job.id), adapter)).rejects.toMatchObject({
      code: "KIND_DIFFERS",
      message: expect.stringContaining("holds an adapter"),
    });
    expect(await test.db.model.count({ where: { name: "wrong" } })).toBe(0);
    await s.imported({ ...request("demo/is-base"), folder: "base", salt: "ib" });
    const asAdapter = { ...request("demo/is-base"), kind: "ADAPTER" as const };
    await expect(startImport(s.admin, asAdapter)).rejects.toMatchObject({ code: "KIND_DIFFERS" });
    await s.imported({ name: "demo/is-adapter", kind: "ADAPTER", folder: "adapters/light-touch" });
    const onAdapter = { ...request("demo/y"), kind: "ADAPTER" as const, base: "demo/is-adapter" };
    await expect(startImport(s.admin, onAdapter)).rejects.toMatchObject({ code: "BAD_INPUT", field: "base" });
    const withBase = { ...request("demo/x"), base: "demo/is-base" };
    await expect(startImport(s.admin, withBase)).rejects.toMatchObject({ code: "BAD_INPUT", field: "base" });
  });

  it.each([
    ["is empty", " "],
    ["is longer than any path", `/${"a/".repeat(2100)}`],
    ["holds a NUL", "/models/a\0b"],
    ["holds half a surrogate pair", "/models/\ud800"],
  ])("is refused at once for a path that %s", async (_, path) => {
    const asked = { ...request("demo/odd-path"), path };
    await expect(startImport(s.admin, asked)).rejects.toMatchObject({ code: "BAD_INPUT", field: "path" });
  });

  it("needs the right to write: members only, and strangers do not learn which namespaces exist", async () => {
    const [editor, reader] = [
      await s.account("import-editor", { demo: "EDITOR" }),
      await s.account("import-reader", { demo: "VIEWER" }),
    ];
    expect((await startImport(editor, request("demo/by-editor"))).state).toBe("QUEUED");
    await expect(startImport(reader, request("demo/x"))).rejects.toMatchObject({ code: "FORBIDDEN" });
    const known = await startImport(editor, request("other/x")).catch((error) => error);
    const unknown = await startImport(editor, request("nowhere/x")).catch((error) => error);
    expect(known.code).toBe("NOT_FOUND");
    expect(unknown.message.replace("nowhere", "other")).toBe(known.message);
    expect(await test.db.namespace.count({ where: { name: "nowhere" } })).toBe(0);
    await expect(startImport(s.as(ANONYMOUS), request("demo/x"))).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
  });
});

describe("a reference", () => {
  it("names a version by number, by digest with or without its model, or the newest", async () => {
    const first = await s.imported({ ...request("refs/m"), folder: "base", salt: "ref1" });
    const second = await s.imported({ ...request("refs/m"), folder: "base", salt: "ref2" });
    const ids = async (ref: string) => (await resolveVersion(s.admin, ref)).id;
    expect(await ids("refs/m@1")).toBe(first.id);
    expect(await ids("refs/m")).toBe(second.id);
    expect(await ids(`refs/m@${first.digest}`)).toBe(first.id);
    expect(await ids(`@${first.digest}`)).toBe(first.id);
    for (const ref of [
      "refs/m@3",
      "refs/none",
      "refs/m@v1.0.0",
      "refs/m@champion",
      `@sha256:${"0".repeat(64)}`,
    ]) {
      await expect(resolveVersion(s.admin, ref)).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
  });

  it("to something private and to nothing get the same answer, word for word", async () => {
    const hidden = await s.imported({ ...request("refs/private"), folder: "base", salt: "hid" });
    const open = await s.imported({
      ...request("refs/public"),
      folder: "base",
      salt: "open",
      visibility: "PUBLIC",
    });
    const member = await s.account("ref-member", { refs: "VIEWER" });
    const stranger = await s.account("ref-stranger", { elsewhere: "ADMIN" });
    for (const who of [stranger, s.as(ANONYMOUS)]) {
      expect((await resolveVersion(who, "refs/public")).id).toBe(open.id);
      const secret = await resolveVersion(who, "refs/private@1").catch((error) => error.message);
      const nothing = await resolveVersion(who, "refs/missing@1").catch((error) => error.message);
      expect(nothing.replace("missing", "private")).toBe(secret);
      await expect(resolveVersion(who, `@${hidden.digest}`)).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
    expect((await resolveVersion(member, "refs/private@1")).id).toBe(hidden.id);
  });
});
