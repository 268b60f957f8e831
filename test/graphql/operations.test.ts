import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { recordCached } from "../../src/registry/cached-merges.ts";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import type { ViewerContext } from "../../src/registry/context.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { demoFolder, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let api: TestApi;
let base: StoredVersion;
let adapter: StoredVersion;

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  base = await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  const folder = "adapters/polite-rewriter";
  adapter = await s.imported({ name: "demo/polite", kind: "ADAPTER", folder, base: "demo/base" });
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

const ERRORS = `userErrors { __typename code field message
  ... on PlanRefused { reasons { code subject } } ... on BaseDigestMismatch { expected actual } }`;
const START = `mutation ($input: MergeStartInput!) { mergeStart(input: $input) { merge { id state } job { id state kind } ${ERRORS} } }`;
const IMPORT = `mutation ($input: ModelImportInput!) { modelImport(input: $input) { job { id state kind } ${ERRORS} } }`;
const PLAN = `query ($input: MergePlanInput!) { mergePlan(input: $input) { plan {
  runnable refusals { code } warnings { code } recipe { digest document } tensorCount touchedCount bytesToRead bytesToWrite
  base { ref } sources { weight version { ref } } outputs { path sizeBytes } files { path from } tokenizer { from files differences }
  touched(first: 2) { nodes { tensor rank scale } pageInfo { hasNextPage } } cachedVersion { ref } } ${ERRORS} } }`;

const recipe = (over: object = {}) => ({
  base: { version: { ref: "demo/base" } },
  sources: [{ version: { ref: "demo/polite" } }],
  ...over,
});
const start = (over: object = {}) => ({
  ...recipe(),
  output: { model: "demo/merged" },
  idempotencyKey: randomUUID(),
  ...over,
});
const errorsOf = async (query: string, input: object, as: ViewerContext = s.admin) => {
  const { data, errors } = await api.ask(as, query, { input });
  expect(errors).toEqual([]);
  const [payload] = Object.values<{ userErrors: Record<string, unknown>[]; job?: unknown; plan?: unknown }>(
    data,
  );
  expect(payload?.job ?? payload?.plan ?? null).toBeNull();
  return payload!.userErrors;
};

describe("a plan", () => {
  it("says what a merge would do, without doing anything", async () => {
    const before = await test.db.merge.count();
    const { data, errors } = await api.ask(s.admin, PLAN, { input: recipe() });
    expect(errors).toEqual([]);
    const { plan, userErrors } = data.mergePlan;
    expect(userErrors).toEqual([]);
    expect(plan).toMatchObject({
      runnable: true,
      refusals: [],
      base: { ref: "demo/base@1" },
      sources: [{ weight: 1, version: { ref: "demo/polite@1" } }],
      touched: { nodes: [{ rank: expect.any(Number) }, {}], pageInfo: { hasNextPage: true } },
      cachedVersion: null,
    });
    expect(plan.recipe.document.base.version).toBe(base.digest);
    expect(Number(plan.bytesToWrite)).toBeGreaterThan(100_000);
    expect(plan.touchedCount).toBeLessThan(plan.tensorCount);
    expect(await test.db.merge.count()).toBe(before);
  });

  it("that is refused has no recipe and every reason", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    const { data } = await api.ask(s.admin, PLAN, {
      input: recipe({ base: { version: { ref: "demo/base" }, pin }, strictBase: true }),
    });
    expect(data.mergePlan.plan).toMatchObject({ runnable: false, recipe: null, cachedVersion: null });
    const codes = data.mergePlan.plan.refusals.map((finding: { code: string }) => finding.code);
    expect(codes).toContain("DIGEST_MISMATCH");
    expect(codes.length).toBeGreaterThan(1);
  });

  it("finds its versions by reference, by digest and by id alike", async () => {
    const id = Buffer.from(`Version:${base.id}`).toString("base64url");
    const recipes = await Promise.all(
      [{ ref: "demo/base@1" }, { digest: base.digest }, { id }].map(async (version) => {
        const { data } = await api.ask(s.admin, PLAN, { input: recipe({ base: { version } }) });
        return data.mergePlan.plan.recipe.digest;
      }),
    );
    expect(new Set(recipes).size).toBe(1);
  });
});

describe("bad input to a mutation", () => {
  it.each([
    ["a name that is none", { model: "demo" }, "InvalidInput", "BAD_REF", ["input", "model"]],
    [
      "an empty folder",
      { source: { local: " " } },
      "InvalidInput",
      "BAD_INPUT",
      ["input", "source", "local"],
    ],
    ["a base that is not there", { base: { ref: "demo/none" } }, "NotFound", "NOT_FOUND", ["input", "base"]],
    [
      "a name of another kind",
      { model: "demo/polite", kind: "BASE" },
      "InvalidInput",
      "KIND_DIFFERS",
      ["input", "model"],
    ],
    ["a kind that only merges make", { kind: "MERGED" }, "InvalidInput", "BAD_INPUT", ["input", "kind"]],
  ])("is a user error that names the field: %s", async (_, over, type, code, field) => {
    const input = {
      source: { local: demoFolder("base") },
      model: "demo/new",
      idempotencyKey: randomUUID(),
      ...over,
    };
    const jobs = await test.db.job.count();
    expect(await errorsOf(IMPORT, input)).toMatchObject([{ __typename: type, code, field }]);
    expect(await test.db.job.count()).toBe(jobs);
  });

  it.each([
    ["no adapter", { sources: [] }, "InvalidInput", "UNSUPPORTED_RECIPE", ["input", "sources"]],
    [
      "a full checkpoint as adapter",
      { sources: [{ version: { ref: "demo/base" } }] },
      "InvalidInput",
      "NOT_AN_ADAPTER",
      ["input", "sources", "0", "version"],
    ],
    [
      "a base that is not there",
      { base: { version: { ref: "demo/none" } } },
      "NotFound",
      "NOT_FOUND",
      ["input", "base", "version"],
    ],
    [
      "an output that is none",
      { output: { model: "x" } },
      "InvalidInput",
      "BAD_REF",
      ["input", "output", "model"],
    ],
    [
      "an output of another kind",
      { output: { model: "demo/base" } },
      "InvalidInput",
      "KIND_DIFFERS",
      ["input", "output", "model"],
    ],
    [
      "a device that is not there",
      { device: "CUDA" },
      "InvalidInput",
      "DEVICE_UNAVAILABLE",
      ["input", "device"],
    ],
  ])("is a user error of a merge: %s", async (_, over, type, code, field) => {
    expect(await errorsOf(START, start(over))).toMatchObject([{ __typename: type, code, field }]);
    expect(await test.db.merge.count()).toBe(0);
  });

  it("names both digests where one is pinned to other bytes", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    const [error] = await errorsOf(START, start({ base: { version: { ref: "demo/base" }, pin } }));
    expect(error).toMatchObject({ __typename: "BaseDigestMismatch", expected: pin, actual: base.digest });
  });

  it("refuses a merge with every reason at once", async () => {
    const pin = `sha256:${"0".repeat(64)}`;
    const sources = [{ version: { ref: "demo/polite" }, pin }];
    const [error] = await errorsOf(START, start({ sources, strictBase: true }));
    expect(error).toMatchObject({ __typename: "PlanRefused", code: "DIGEST_MISMATCH" });
    expect((error!.reasons as unknown[]).length).toBeGreaterThan(1);
  });

  it("asks a stranger to sign in and a reader to get a role", async () => {
    expect(await errorsOf(START, start(), stranger(s.admin))).toMatchObject([
      { __typename: "Forbidden", code: "UNAUTHENTICATED" },
    ]);
    const reader = await s.account("op-reader", { demo: "VIEWER" });
    expect(await errorsOf(START, start(), reader)).toMatchObject([
      { __typename: "Forbidden", code: "FORBIDDEN" },
    ]);
  });

  it("that no client could mean is a top-level error: an unknown enum value, two ways at once, a bad scalar", async () => {
    const bad = [
      recipe({ tokenizer: "MINE" }),
      recipe({ base: { version: { ref: "demo/base", digest: base.digest } } }),
      recipe({ base: { version: {} } }),
      recipe({ base: { version: { digest: "sha256:xyz" } } }),
    ];
    for (const input of bad) {
      const { data, errors } = await api.ask(s.admin, PLAN, { input });
      expect(data).toBeNull();
      expect(errors[0]?.extensions?.code).toBe("BAD_USER_INPUT");
    }
  });
});

describe("a job", () => {
  it("is the same for the same key and input, and refused for other input", async () => {
    const input = start();
    const first = await api.ask(s.admin, START, { input });
    expect(first.errors).toEqual([]);
    expect(first.data.mergeStart).toMatchObject({
      merge: { state: "QUEUED" },
      job: { kind: "RUN_MERGE", state: "QUEUED" },
    });
    const again = await api.ask(s.admin, START, { input });
    expect(again.data.mergeStart.job.id).toBe(first.data.mergeStart.job.id);
    expect(await errorsOf(START, { ...input, output: { model: "demo/other" } })).toMatchObject([
      { __typename: "IdempotencyConflict", field: ["input", "idempotencyKey"] },
    ]);
  });

  it("can be stopped twice, and its result cannot be stopped at all", async () => {
    const CANCEL = `mutation ($input: JobCancelInput!) { jobCancel(input: $input) { job { state } ${ERRORS} } }`;
    const { data } = await api.ask(s.admin, START, { input: start() });
    const job = data.mergeStart.job.id;
    for (const _ of [1, 2]) {
      const stopped = await api.ask(s.admin, CANCEL, { input: { job } });
      expect(stopped.data.jobCancel).toMatchObject({ job: { state: "CANCELLED" }, userErrors: [] });
    }
    const done = await test.db.job.findFirstOrThrow({ where: { state: "SUCCEEDED" } });
    const ended = Buffer.from(`Job:${done.id}`).toString("base64url");
    expect(await errorsOf(CANCEL, { job: ended })).toMatchObject([
      { __typename: "Conflict", code: "JOB_ENDED", field: ["input", "job"] },
    ]);
    const version = Buffer.from(`Version:${base.id}`).toString("base64url");
    expect(await errorsOf(CANCEL, { job: version })).toMatchObject([{ __typename: "NotFound" }]);
  });

  it("tells its progress, its result by kind, and a cached result as such", async () => {
    const { job: imported } = (
      await api.ask(
        s.admin,
        `query ($id: ID!) { job(id: $id) { kind state progress { fraction } result { __typename ... on ImportResult { version { ref } } } } }`,
        {
          id: Buffer.from(
            `Job:${(await test.db.job.findFirstOrThrow({ where: { versionId: adapter.id } })).id}`,
          ).toString("base64url"),
        },
      )
    ).data;
    expect(imported).toMatchObject({
      kind: "IMPORT_VERSION",
      state: "SUCCEEDED",
      progress: { fraction: null },
      result: { __typename: "ImportResult", version: { ref: "demo/polite@1" } },
    });
    const idempotencyKey = randomUUID();
    await s.merged({
      base: { ref: "demo/base" },
      sources: [{ ref: "demo/polite" }],
      output: "demo/merged",
      idempotencyKey,
    });
    const { data } = await api.ask(s.admin, START, { input: start() });
    expect(data.mergeStart).toMatchObject({ merge: { state: "QUEUED" }, job: { state: "QUEUED" } });
    const jobId = Buffer.from(data.mergeStart.job.id, "base64url").toString().split(":")[1]!;
    await recordCached(s.worker, await s.claim(jobId));
    const { data: found } = await api.ask(
      s.admin,
      `query ($id: ID!) { job(id: $id) { result { ... on MergeResult { cached version { ref } merge { verdict report { checks { name } } cachedFrom { state } } } } events { nodes { type } } } }`,
      { id: data.mergeStart.job.id },
    );
    expect(found.job.result).toEqual({
      cached: true,
      version: { ref: "demo/merged@1" },
      merge: { verdict: "PASSED", report: { checks: [] }, cachedFrom: { state: "SUCCEEDED" } },
    });
    expect(found.job.events.nodes).toEqual([{ type: "QUEUED" }, { type: "CLAIMED" }, { type: "SUCCEEDED" }]);
  });
});

describe("a fault", () => {
  it("is masked, has a request id, and is logged whole", async () => {
    api.faults.length = 0;
    const broken: ViewerContext = {
      ...s.admin,
      db: new Proxy(test.db, {
        get: (db, name, self) => {
          if (name === "account") throw new Error("connect ECONNREFUSED 10.0.0.7:5432 password=hunter2");
          return Reflect.get(db, name, self);
        },
      }),
    };
    const { data, errors } = await api.ask(broken, `{ viewer { name } model(name: "demo/base") { name } }`);
    expect(data).toEqual({ viewer: null, model: { name: "demo/base" } });
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ path: ["viewer"], extensions: { code: "INTERNAL" } });
    const requestId = errors[0]!.extensions!.requestId as string;
    expect(requestId).toMatch(/^test-/);
    expect(errors[0]!.message).toContain(requestId);
    expect(JSON.stringify(errors)).not.toMatch(/hunter2|10\.0\.0\.7|stack|node_modules/);
    expect(api.faults).toMatchObject([{ requestId }]);
    expect(String(api.faults[0]!.error)).toContain("hunter2");
  });

  it("of the caller is explained and not logged", async () => {
    api.faults.length = 0;
    for (const query of [
      `{ version(ref: "nonsense") { ref } }`,
      `{ model(name: "a/b/c") { id } }`,
      `{ node(id: "nonsense") { id } }`,
      `{ job(id: "Sm9iOjE=") { id } }`,
      "{ nothing }",
      "{ viewer { name",
    ]) {
      const { errors } = await api.ask(s.admin, query);
      expect(errors).toHaveLength(1);
      expect(errors[0]!.extensions!.code).toMatch(
        /^(BAD_USER_INPUT|GRAPHQL_VALIDATION_FAILED|GRAPHQL_PARSE_FAILED)$/,
      );
    }
    expect(api.faults).toEqual([]);
  });
});
