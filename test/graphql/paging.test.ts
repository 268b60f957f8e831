import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { type TestApi, testApi } from "../support/graphql.ts";
import { type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let api: TestApi;

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  for (const n of [1, 2, 3, 4, 5]) {
    await s.imported({ name: `demo/m${n}`, kind: "BASE", folder: "base", salt: `m${n}` });
  }
  for (const salt of ["b", "c"]) await s.imported({ name: "demo/m1", kind: "BASE", folder: "base", salt });
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

interface Page {
  nodes: { name?: string; ref?: string; path?: string }[];
  pageInfo: { hasNextPage: boolean; endCursor: string | null };
  totalCount?: number;
}

/** Walks a list to its end, two at a time. */
async function walk(query: (args: string) => string, pick: (data: never) => Page) {
  const names: unknown[] = [];
  let after = "";
  for (let i = 0; i < 100; i += 1) {
    const { data, errors } = await api.ask(s.admin, query(`first: 2${after}`));
    expect(errors).toEqual([]);
    const page = pick(data as never);
    expect(page.nodes.length).toBeLessThanOrEqual(2);
    names.push(...page.nodes.map((node) => node.name ?? node.ref ?? node.path));
    if (!page.pageInfo.hasNextPage) return names;
    after = `, after: "${page.pageInfo.endCursor}"`;
  }
  throw new Error("the list has no end");
}

describe("a list", () => {
  it("is walked page by page, each item once and in order", async () => {
    const models = await walk(
      (args) => `{ models(${args}) { nodes { name } pageInfo { hasNextPage endCursor } } }`,
      (data: { models: Page }) => data.models,
    );
    expect(models).toEqual(["demo/m1", "demo/m5", "demo/m4", "demo/m3", "demo/m2"]);
    const versions = await walk(
      (args) =>
        `{ model(name: "demo/m1") { versions(${args}) { nodes { ref } pageInfo { hasNextPage endCursor } } } }`,
      (data: { model: { versions: Page } }) => data.model.versions,
    );
    expect(versions).toEqual(["demo/m1@3", "demo/m1@2", "demo/m1@1"]);
    const files = await walk(
      (args) =>
        `{ version(ref: "demo/m1@1") { files(${args}) { nodes { path } pageInfo { hasNextPage endCursor } } } }`,
      (data: { version: { files: Page } }) => data.version.files,
    );
    expect(files).toEqual([...files].sort());
    expect(files).toContain("config.json");
  });

  it("of tensors is walked across the files of a version, and filtered by name", async () => {
    const names = await walk(
      (args) =>
        `{ version(ref: "demo/m1@1") { tensors(${args}) { nodes { name } pageInfo { hasNextPage endCursor } } } }`,
      (data: { version: { tensors: Page } }) => data.version.tensors,
    );
    expect(new Set(names).size).toBe(names.length);
    const { data } = await api.ask(
      s.admin,
      `{ version(ref: "demo/m1@1") { tensorCount tensors(first: 1, nameContains: "q_proj") { nodes { name file dtype shape sizeBytes digest rms } totalCount } } }`,
    );
    expect(names).toHaveLength(data.version.tensorCount);
    const { nodes, totalCount } = data.version.tensors;
    expect(totalCount).toBe(names.filter((name) => String(name).includes("q_proj")).length);
    const [tensor] = nodes;
    expect(tensor).toMatchObject({
      digest: expect.stringMatching(/^sha256:/),
      rms: 0.5,
      file: expect.stringMatching(/safetensors$/),
    });
    const elements = tensor.shape.map(Number).reduce((a: number, b: number) => a * b, 1);
    expect(Number(tensor.sizeBytes) / elements).toBe(tensor.dtype === "F32" ? 4 : 2);
  });

  it("knows how many items there are, with or without items", async () => {
    const { data } = await api.ask(
      s.admin,
      `{ models(kind: BASE) { totalCount } none: models(kind: ADAPTER, first: 1) { nodes { name } totalCount }
         model(name: "demo/m1") { versionCount versions(first: 1) { nodes { number } totalCount } } }`,
    );
    expect(data).toEqual({
      models: { totalCount: 5 },
      none: { nodes: [], totalCount: 0 },
      model: { versionCount: 3, versions: { nodes: [{ number: 3 }], totalCount: 3 } },
    });
  });

  it("refuses pages beyond the limit instead of cutting them", async () => {
    for (const args of ["first: 101", "first: 10000", "last: 101", "first: -1"]) {
      const { errors } = await api.ask(s.admin, `{ models(${args}) { nodes { name } } }`);
      expect(errors[0]?.extensions?.code).toBe("BAD_USER_INPUT");
      expect(errors[0]?.message).toContain("0 to 100");
    }
    const lineage = await api.ask(
      s.admin,
      `{ version(ref: "demo/m1") { ancestors(first: 101) { nodes { ref } } } }`,
    );
    expect(lineage.errors[0]?.extensions?.code).toBe("BAD_USER_INPUT");
    expect(lineage.data).toEqual({ version: { ancestors: null } });
  });

  it("refuses a cursor of another list, and one that is made up", async () => {
    const { data } = await api.ask(
      s.admin,
      "{ models(first: 1) { edges { cursor } pageInfo { endCursor } } }",
    );
    const [{ cursor }] = data.models.edges;
    expect(data.models.pageInfo.endCursor).toBe(cursor);
    for (const query of [
      `{ model(name: "demo/m1") { versions(after: "${cursor}") { nodes { ref } } } }`,
      `{ version(ref: "demo/m1") { tensors(after: "${cursor}") { nodes { name } } } }`,
      `{ version(ref: "demo/m1") { ancestors(after: "${cursor}") { nodes { ref } } } }`,
      `{ models(after: "made-up") { nodes { name } } }`,
      `{ models(after: "${Buffer.from("Query.models\nnonsense").toString("base64url")}") { nodes { name } } }`,
    ]) {
      const { errors } = await api.ask(s.admin, query);
      expect(errors, query).toHaveLength(1);
      expect(errors[0]?.extensions?.code).toBe("BAD_USER_INPUT");
    }
  });

  it("of events refuses a cursor of another job", async () => {
    const [a, b] = await test.db.job.findMany({ take: 2 });
    const id = (job: { id: string } | undefined) => Buffer.from(`Job:${job!.id}`).toString("base64url");
    const query =
      "query ($id: ID!, $after: String) { job(id: $id) { events(first: 1, after: $after) { nodes { number } edges { cursor } pageInfo { hasNextPage endCursor } } } }";
    const { data } = await api.ask(s.admin, query, { id: id(a) });
    const after = data.job.events.pageInfo.endCursor;
    expect((await api.ask(s.admin, query, { id: id(a), after })).data.job.events.nodes).toEqual([
      { number: 2 },
    ]);
    expect((await api.ask(s.admin, query, { id: id(b), after })).errors[0]?.extensions?.code).toBe(
      "BAD_USER_INPUT",
    );
  });
});
