import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { modelsQuery, tensorsQuery, versionQuery } from "../../src/client/documents.ts";
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
  await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

/** An adapter of the base and a merge of the two. */
async function addFamily(salt: string): Promise<void> {
  const name = `demo/adapter-${salt}`;
  await s.imported({ name, kind: "ADAPTER", folder: "adapters/polite-rewriter", salt, base: "demo/base" });
  await s.merged(
    {
      base: { ref: "demo/base" },
      sources: [{ ref: name }],
      output: `demo/merged-${salt}`,
      idempotencyKey: randomUUID(),
    },
    salt,
  );
}

async function statements(query: string, variables: Record<string, unknown>): Promise<string[]> {
  test.queries.length = 0;
  const { errors } = await api.ask(s.admin, query, variables);
  expect(errors).toEqual([]);
  return [...test.queries];
}

describe("the statements of a page", () => {
  it("do not grow with what the page shows", async () => {
    await addFamily("a");
    const pages = [
      [versionQuery.text, { ref: "demo/base" }],
      [versionQuery.text, { ref: "demo/merged-a" }],
      [modelsQuery.text, {}],
      [tensorsQuery.text, { ref: "demo/base", first: 100 }],
    ] as const;
    const before = [];
    for (const [query, variables] of pages) before.push((await statements(query, variables)).length);
    for (const salt of ["b", "c", "d", "e"]) await addFamily(salt);
    const after = [];
    for (const [query, variables] of pages) after.push((await statements(query, variables)).length);
    expect(after).toEqual(before);
    // The reference, the version with everything in its row's reach, and for each of three lineages a walk and a load.
    expect(after[0]).toBeLessThanOrEqual(10);
    expect(after[2]).toBeLessThanOrEqual(3);
    expect(after[3]).toBeLessThanOrEqual(3);
  });

  it("walk a whole lineage in one, and load its versions in one more", async () => {
    const sql = await statements(
      `{ version(ref: "demo/base") { descendants(first: 100) { nodes { ref model { name } } } } }`,
      {},
    );
    expect(sql.filter((text) => /with recursive/i.test(text))).toHaveLength(1);
    expect(sql.length).toBeLessThanOrEqual(4);
  });
});
