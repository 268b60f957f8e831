import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { servingAdviceQuery, servingAdviceStartMutation } from "../../src/client/serving-documents.ts";
import type { StoredVersion } from "../../src/registry/checkpoints.ts";
import type { ViewerContext } from "../../src/registry/context.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { EXAMPLE_FACTS } from "../support/example-advice.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { type Seed, seed } from "../support/seed.ts";

/*
 * acme holds a private base; open holds a public adapter, a public base, and public merges with either. Ada edits acme
 * and open, Eve reads open, Bob belongs to another tenant.
 */
let test: TestDatabase;
let s: Seed;
let api: TestApi;
let ada: ViewerContext;
let eve: ViewerContext;
let bob: ViewerContext;
const versions: Record<string, StoredVersion> = {};

const id = (type: string, uuid: string) => Buffer.from(`${type}:${uuid}`).toString("base64url");
const versionId = (name: string) => id("Version", versions[name]!.id);

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  ada = await s.account("ada", { acme: "EDITOR", open: "EDITOR" });
  eve = await s.account("eve", { open: "VIEWER" });
  bob = await s.account("bob", { other: "ADMIN" });
  versions["acme/base"] = await s.imported({ name: "acme/base", kind: "BASE", folder: "base" });
  const open = { visibility: "PUBLIC", salt: "open" } as const;
  versions["open/base"] = await s.imported({ ...open, name: "open/base", kind: "BASE", folder: "base" });
  versions["open/polite"] = await s.imported({
    ...open,
    name: "open/polite",
    kind: "ADAPTER",
    folder: "adapters/polite-rewriter",
    base: "open/base",
  });
  for (const [base, output] of [
    ["acme/base", "open/secretly"],
    ["open/base", "open/openly"],
  ] as const) {
    const sources = [{ ref: "open/polite" }];
    const made = await s.merged({ base: { ref: base }, sources, output, visibility: "PUBLIC" }, output);
    versions[output] = made.version;
  }
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

const input = (more: Record<string, unknown> = {}) => ({
  of: { version: { ref: "open/openly" } },
  idempotencyKey: randomUUID(),
  ...more,
});
const start = async (who: ViewerContext, more: Record<string, unknown> = {}) => {
  const { data, errors } = await api.ask(who, servingAdviceStartMutation.text, { input: input(more) });
  expect(errors).toEqual([]);
  return data.servingAdviceStart;
};
const advice = async (who: ViewerContext, name: string) => {
  const { data, errors } = await api.ask(who, servingAdviceQuery.text, { version: versionId(name) });
  expect(errors).toEqual([]);
  return data.servingAdvice;
};

describe("servingAdviceStart", () => {
  it("answers with the job that will measure", async () => {
    const { job, userErrors } = await start(ada, { adapters: 12, texts: { builtIn: true } });
    expect(userErrors).toEqual([]);
    const query = "query ($id: ID!) { job(id: $id) { kind state result { __typename } model { name } } }";
    const { data } = await api.ask(ada, query, { id: job.id });
    expect(data.job).toEqual({
      kind: "MEASURE_SERVING",
      state: "QUEUED",
      result: null,
      model: { name: "open/openly" },
    });
  });

  it("takes every side by its name, ids and digests included", async () => {
    const sources = [{ version: { id: versionId("open/polite") }, weight: 0.5 }];
    const merged = { digest: versions["open/openly"]!.digest };
    const named = { sides: { base: { ref: "open/base" }, sources, merged, recipe: { tokenizer: "BASE" } } };
    const { job, userErrors } = await start(ada, { of: named });
    expect([userErrors, job.state]).toEqual([[], "QUEUED"]);
  });

  it("says of what is wrong where it stands in the input", async () => {
    const none = { ref: "open/none" };
    const sources = [{ version: { ref: "open/polite" } }];
    const cases: [Record<string, unknown>, string, string[]][] = [
      [{ of: { version: none } }, "NOT_FOUND", ["of", "version"]],
      [{ of: { version: { ref: "open/base" } } }, "NOT_A_MERGE", ["of", "version"]],
      [{ of: { sides: { sources, base: none } } }, "NOT_FOUND", ["of", "sides", "base"]],
      [{ of: { sides: { sources, merged: none } } }, "NOT_FOUND", ["of", "sides", "merged"]],
      [
        { of: { sides: { sources: [{ version: none }] } } },
        "NOT_FOUND",
        ["of", "sides", "sources", "0", "version"],
      ],
      [{ of: { sides: { sources: [] } } }, "BAD_INPUT", ["of", "sides", "sources"]],
      [{ adapters: 0 }, "BAD_INPUT", ["adapters"]],
      [{ texts: { builtIn: false } }, "BAD_INPUT", ["texts", "builtIn"]],
      [{ gate: "open/none" }, "NOT_FOUND", ["gate"]],
    ];
    for (const [more, code, field] of cases) {
      const answer = await start(ada, more);
      expect(answer).toMatchObject({ job: null, userErrors: [{ code, field: ["input", ...field] }] });
    }
    expect((await start(eve)).userErrors).toMatchObject([{ code: "FORBIDDEN" }]);
    expect((await start(bob)).userErrors).toMatchObject([{ code: "NOT_FOUND" }]);
    expect((await start(stranger(s.admin))).userErrors).toMatchObject([{ code: "UNAUTHENTICATED" }]);
  });
});

describe("servingAdvice", () => {
  it("is null before anything was measured, for a base, and for what is no version", async () => {
    expect(await advice(ada, "open/openly")).toBeNull();
    await s.advised({ of: { version: { ref: "open/openly" } } });
    expect(await advice(ada, "open/base")).toBeNull();
    for (const version of [id("Version", randomUUID()), id("Model", versions["open/openly"]!.modelId)]) {
      const { data, errors } = await api.ask(ada, servingAdviceQuery.text, { version });
      expect([errors, data]).toEqual([[], { servingAdvice: null }]);
    }
  });

  it("shows what was measured last, on both sides, in typed fields and whole", async () => {
    const jobId = await s.advised({ of: { version: { ref: "open/openly" } } }, { planned: 12 });
    const query = `query ($version: ID!) { servingAdvice(version: $version) {
      id recommendation reasons { code favours message } adapters mergedExists perTokenCost
      inputs { role weight version { ref } }
      disk { base adapter merged breakEven } memory { base adapter merged breakEven }
      times { separate { load prefill perToken } merged { load prefill perToken }
        standIn promptTokens newTokens weightsKept }
      timesSkipped parity { verdict codes gate dtype documents predictions meanKld { value lower } timesFloor
        sameTop { value } perplexityRatio { value } } paritySkipped
      retention { relativeError projection moved } quantisedBase quantisedTraining obstacles
      commands { merged } device environment { provider threads platform processor graftwork node } measuredAt document
      job { id result { __typename ... on ServingAdviceResult { advice { id recommendation } } } }
    } }`;
    const { data, errors } = await api.ask(ada, query, { version: versionId("open/openly") });
    expect(errors).toEqual([]);
    const found = data.servingAdvice;
    const { times, parity, retention } = EXAMPLE_FACTS;
    const { device: _, provider, processor, threads, ...timed } = times!;
    const bytes = { base: "16000000000", adapter: "40000000", merged: "16000000000", breakEven: 2 };
    expect(found).toMatchObject({
      recommendation: "SEPARATE",
      adapters: 12,
      inputs: [
        { role: "BASE", weight: null, version: { ref: "open/base@1" } },
        { role: "ADAPTER", weight: 1, version: { ref: "open/polite@1" } },
        { role: "MERGED", weight: null, version: { ref: "open/openly@1" } },
      ],
      disk: bytes,
      memory: bytes,
      mergedExists: false,
      times: timed,
      timesSkipped: null,
      parity: {
        verdict: "PASSED",
        gate: "default@1",
        dtype: "BF16",
        meanKld: { value: parity!.meanKld!.value, lower: null },
        sameTop: { value: parity!.sameTop!.value },
      },
      retention,
      quantisedBase: null,
      obstacles: [],
      commands: { merged: "vllm serve /models/merged" },
      device: "CPU",
      environment: { provider, processor, threads },
      job: {
        id: id("Job", jobId),
        result: {
          __typename: "ServingAdviceResult",
          advice: { id: found.id, recommendation: "SEPARATE" },
        },
      },
    });
    expect(found.perTokenCost).toBeCloseTo(0.2, 12);
    expect(found.reasons[0]).toMatchObject({ code: "SEVERAL_TASKS", favours: "SEPARATE" });
    expect(found.document).toMatchObject({ recommendation: "SEPARATE", planned: 12 });
    expect(Date.parse(found.measuredAt)).toBeGreaterThan(Date.now() - 60_000);
    const node = await api.ask(ada, "query ($id: ID!) { node(id: $id) { __typename } }", { id: found.id });
    expect(node.data.node).toEqual({ __typename: "ServingAdvice" });
  });

  it("says what was not measured", async () => {
    await s.advised(
      { of: { version: { ref: "open/polite" } } },
      {
        times: null,
        timesSkipped: "It is quantised.",
        parity: null,
        paritySkipped: "So is this.",
        retention: null,
      },
    );
    expect(await advice(ada, "open/polite")).toMatchObject({
      times: null,
      timesSkipped: "It is quantised.",
      parity: null,
      paritySkipped: "So is this.",
    });
  });

  it("tells folders of the server to those who may edit everything it is about, and references to others", async () => {
    await s.advised({ of: { version: { ref: "open/openly" } } });
    expect((await advice(ada, "open/openly")).commands).toEqual({
      merged: "vllm serve /models/merged",
      separate: "vllm serve /models/base --enable-lora",
    });
    for (const who of [eve, bob, stranger(s.admin)]) {
      const seen = await advice(who, "open/openly");
      expect(seen.commands).toEqual(EXAMPLE_FACTS.commands);
      expect(JSON.stringify(seen)).not.toContain("/models/");
    }
  });

  it("is there only for those who see everything that it is about; others are told the last that they may see", async () => {
    const { job } = await start(ada, { of: { version: { ref: "open/secretly" } } });
    expect(job).not.toBeNull();
    await s.advised({ of: { version: { ref: "open/secretly" } } }, { planned: 77 });
    const hidden = await advice(ada, "open/secretly");
    expect(hidden.adapters).toBe(77);
    const query = "query ($id: ID!) { node(id: $id) { id } }";
    for (const who of [eve, bob, stranger(s.admin)]) {
      expect(await advice(who, "open/secretly")).toBeNull();
      expect((await api.ask(who, query, { id: hidden.id })).data).toEqual({ node: null });
      // It is the newest of the adapter too.
      expect((await advice(who, "open/polite")).adapters).not.toBe(77);
    }
    expect((await advice(ada, "open/polite")).adapters).toBe(77);
  });
});
