import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import type { ViewerContext } from "../../src/registry/context.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { type Seed, seed } from "../support/seed.ts";

/*
 * acme holds a private base; open holds a public adapter trained on it and a public merge of the two. Ada belongs to
 * acme, Bob to another tenant.
 */
let test: TestDatabase;
let s: Seed;
let api: TestApi;
let ada: ViewerContext;
let bob: ViewerContext;
let base: StoredVersion;
let adapter: StoredVersion;
let merged: { version: StoredVersion; mergeId: string; jobId: string };

const id = (type: string, uuid: string) => Buffer.from(`${type}:${uuid}`).toString("base64url");

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  ada = await s.account("ada", { acme: "EDITOR", open: "EDITOR" });
  bob = await s.account("bob", { other: "ADMIN" });
  base = await s.imported({ name: "acme/base", kind: "BASE", folder: "base" });
  adapter = await s.imported({
    name: "open/polite",
    kind: "ADAPTER",
    folder: "adapters/polite-rewriter",
    visibility: "PUBLIC",
    base: "acme/base@1",
  });
  merged = await s.merged({
    base: { ref: "acme/base" },
    sources: [{ ref: "open/polite" }],
    output: "open/merged",
    visibility: "PUBLIC",
    idempotencyKey: randomUUID(),
  });
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

describe("what a viewer may not see", () => {
  it("is not found by name, by reference, by digest or in a list", async () => {
    const query = `query ($digest: Sha256!) {
      model(name: "acme/base") { id } version(ref: "acme/base@1") { id } latest: version(ref: "acme/base") { id }
      byDigest: version(ref: "@${base.digest}") { id }
      versions(digest: $digest) { nodes { id } totalCount }
      models { nodes { name } totalCount }
    }`;
    for (const who of [bob, stranger(s.admin)]) {
      const { data, errors } = await api.ask(who, query, { digest: base.digest });
      expect(errors).toEqual([]);
      expect(data).toMatchObject({ model: null, version: null, latest: null, byDigest: null });
      expect(data.versions).toEqual({ nodes: [], totalCount: 0 });
      expect(data.models.nodes.map((m: { name: string }) => m.name).sort()).toEqual([
        "open/merged",
        "open/polite",
      ]);
      expect(data.models.totalCount).toBe(2);
    }
    const { data } = await api.ask(ada, query, { digest: base.digest });
    expect(data.version.id).toBe(id("Version", base.id));
    expect(data.models.totalCount).toBe(3);
  });

  it("is null by id for every type, exactly like what does not exist", async () => {
    const file = await test.db.file.findFirstOrThrow({ where: { versionId: base.id } });
    const job = await test.db.job.findFirstOrThrow({ where: { versionId: base.id } });
    const namespace = await test.db.namespace.findUniqueOrThrow({ where: { name: "acme" } });
    const ids = [
      id("Version", base.id),
      id("Model", base.modelId),
      id("File", file.id),
      id("Job", job.id),
      id("Namespace", namespace.id),
      id("Account", ada.viewer.accountId!),
    ];
    const query = "query ($ids: [ID!]!, $one: ID!) { nodes(ids: $ids) { id } node(id: $one) { id } }";
    const missing = ids.map((text) => Buffer.from(text, "base64url").toString().split(":")[0]!);
    const unknown = missing.map((type) => id(type, randomUUID()));
    for (const who of [bob, stranger(s.admin)]) {
      const hidden = await api.ask(who, query, { ids, one: ids[0] });
      expect(hidden).toEqual(await api.ask(who, query, { ids: unknown, one: unknown[0] }));
      expect(hidden).toEqual({ data: { nodes: ids.map(() => null), node: null }, errors: [] });
    }
    const { data } = await api.ask(ada, query, { ids, one: ids[0] });
    expect(data.nodes).toEqual(ids.map((one) => ({ id: one })));
  });

  it("is null behind relations of what may be seen", async () => {
    const { data, errors } = await api.ask(
      bob,
      `{
        version(ref: "open/merged") {
          ref recipe { digest }
          merge { state output { name } inputs { role version { ref } } jobs { nodes { id } } }
          parents { nodes { ref } edges { parent { ref } } }
          ancestors { edges { node { ref } } }
          lineageCounts { ancestors }
        }
        adapter: version(ref: "open/polite") { parents { nodes { ref } } location }
      }`,
    );
    expect(errors).toEqual([]);
    expect(data.version.merge).toEqual({
      state: "SUCCEEDED",
      output: { name: "open/merged" },
      inputs: [
        { role: "BASE", version: null },
        { role: "ADAPTER", version: { ref: "open/polite@1" } },
      ],
      // The page has the job's place, and nothing of the job.
      jobs: { nodes: [null] },
    });
    expect(data.version.parents).toEqual({
      nodes: [{ ref: "open/polite@1" }],
      edges: [{ parent: { ref: "open/polite@1" } }],
    });
    expect(data.version.ancestors.edges).toEqual([{ node: { ref: "open/polite@1" } }]);
    expect(data.version.lineageCounts).toEqual({ ancestors: 1 });
    expect(data.adapter).toEqual({ parents: { nodes: [] }, location: null });
  });

  it("is null among the descendants of what may be seen by members alone", async () => {
    const query = `{ version(ref: "acme/base") { descendants { nodes { ref } } children { nodes { ref } } } }`;
    const { data } = await api.ask(ada, query);
    expect(data.version.descendants.nodes).toHaveLength(3);
    expect((await api.ask(bob, query)).data.version).toBeNull();
  });

  it("stays hidden as a job, and its events with it", async () => {
    const query = "query ($id: ID!) { job(id: $id) { id events { nodes { number } } } }";
    const job = id("Job", merged.jobId);
    expect((await api.ask(bob, query, { id: job })).data).toEqual({ job: null });
    const { data } = await api.ask(ada, query, { id: job });
    expect(data.job.events.nodes.map((event: { number: number }) => event.number)).toEqual([1, 2, 3]);
  });

  it("tells nothing through the errors of mutations", async () => {
    const plan = (ref: string) => ({
      base: { version: { ref } },
      sources: [{ version: { ref: "open/polite" } }],
    });
    const query = `query ($input: MergePlanInput!) { mergePlan(input: $input) { userErrors { __typename code message } } }`;
    const hidden = await api.ask(bob, query, { input: plan("acme/base") });
    const missing = await api.ask(bob, query, { input: plan("acme/none") });
    expect(hidden.data.mergePlan.userErrors).toMatchObject([{ __typename: "NotFound", code: "NOT_FOUND" }]);
    expect(JSON.stringify(hidden).replaceAll("acme/base", "acme/none")).toBe(JSON.stringify(missing));
  });

  it("is not offered as the cached result of a plan", async () => {
    const input = { base: { version: { ref: "acme/base" } }, sources: [{ version: { ref: "open/polite" } }] };
    const query =
      "query ($input: MergePlanInput!) { mergePlan(input: $input) { plan { cachedVersion { ref } } } }";
    expect((await api.ask(ada, query, { input })).data.mergePlan.plan.cachedVersion).toEqual({
      ref: "open/merged@1",
    });
    await test.db.model.update({ where: { id: merged.version.modelId }, data: { visibility: "PRIVATE" } });
    const carol = await s.account("carol", { acme: "VIEWER" });
    const { data } = await api.ask(carol, query, { input });
    await test.db.model.update({ where: { id: merged.version.modelId }, data: { visibility: "PUBLIC" } });
    expect(data.mergePlan.plan.cachedVersion).toBeNull();
  });
});

describe("what a viewer may see", () => {
  it("shows the folder of a version to its editors only", async () => {
    const query = `{ version(ref: "acme/base") { location } }`;
    expect((await api.ask(ada, query)).data.version.location).toBe(base.location);
    const reader = await s.account("reader", { acme: "VIEWER" });
    expect((await api.ask(reader, query)).data.version.location).toBeNull();
  });

  it("is found by digest in every namespace that is open to the viewer, and only there", async () => {
    const query = `query ($digest: Sha256!) { versions(digest: $digest) { nodes { ref } totalCount } }`;
    const { data } = await api.ask(bob, query, { digest: adapter.digest });
    expect(data.versions).toEqual({ nodes: [{ ref: "open/polite@1" }], totalCount: 1 });
  });

  it("begins with the viewer: nobody, or an account with its roles", async () => {
    const query = "{ viewer { name isAdmin memberships { role namespace { name } } } }";
    expect((await api.ask(stranger(s.admin), query)).data).toEqual({ viewer: null });
    expect((await api.ask(ada, query)).data.viewer).toEqual({
      name: "ada",
      isAdmin: false,
      memberships: [
        { role: "EDITOR", namespace: { name: "acme" } },
        { role: "EDITOR", namespace: { name: "open" } },
      ],
    });
  });
});
