import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ViewerContext } from "../../src/registry/context.ts";
import type { EvaluationRequest } from "../../src/registry/evaluations.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { exampleLogits } from "../support/example-report.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { type Seed, seed } from "../support/seed.ts";

/*
 * acme holds a private base; open holds a public adapter trained on it and a public merge of the two, and a second base
 * and merge that everybody sees. Ada belongs to acme and open, Bob to another tenant.
 */
let test: TestDatabase;
let s: Seed;
let api: TestApi;
let ada: ViewerContext;
let bob: ViewerContext;
let hidden: { evaluationId: string; jobId: string };
let shown: { evaluationId: string; jobId: string };

const id = (type: string, uuid: string) => Buffer.from(`${type}:${uuid}`).toString("base64url");
const request = (base: string, candidate: string): EvaluationRequest => ({
  base: { ref: base },
  sources: [{ ref: "open/polite" }],
  candidate: { ref: candidate },
});

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  ada = await s.account("ada", { acme: "EDITOR", open: "EDITOR" });
  bob = await s.account("bob", { other: "ADMIN" });
  await s.imported({ name: "acme/base", kind: "BASE", folder: "base" });
  await s.imported({ name: "open/base", kind: "BASE", folder: "base", salt: "open", visibility: "PUBLIC" });
  await s.imported({
    name: "open/polite",
    kind: "ADAPTER",
    folder: "adapters/polite-rewriter",
    visibility: "PUBLIC",
  });
  for (const [base, output] of [
    ["acme/base", "open/secretly"],
    ["open/base", "open/openly"],
  ] as const) {
    const sources = [{ ref: "open/polite" }];
    await s.merged({ base: { ref: base }, sources, output, visibility: "PUBLIC", gate: "default" }, output);
  }
  hidden = await s.evaluated(request("acme/base", "open/secretly"));
  shown = await s.evaluated(request("open/base", "open/openly"));
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

const START = `mutation ($input: EvaluationStartInput!) {
  evaluationStart(input: $input) {
    evaluation { id state gate { ref } options { seed window prompts } inputs { role weight version { ref } } }
    job { kind state evaluation { id } }
    userErrors { __typename code field message }
  }
}`;
const input = (more: Record<string, unknown> = {}) => ({
  reference: { base: { ref: "open/base" }, sources: [{ version: { ref: "open/polite" }, weight: 0.5 }] },
  candidate: { version: { ref: "open/openly" } },
  idempotencyKey: randomUUID(),
  ...more,
});

describe("evaluationStart", () => {
  it("answers with the evaluation and its job", async () => {
    const { data, errors } = await api.ask(ada, START, {
      input: input({ seed: 3, window: 64, prompts: [], texts: { jsonl: { jsonl: '{"text": "Hi."}' } } }),
    });
    expect(errors).toEqual([]);
    const { evaluation, job, userErrors } = data.evaluationStart;
    expect(userErrors).toEqual([]);
    expect(evaluation).toMatchObject({
      state: "QUEUED",
      gate: { ref: "default@1" },
      options: { seed: 3, window: 64, prompts: [] },
      inputs: [
        { role: "BASE", weight: null, version: { ref: "open/base@1" } },
        { role: "ADAPTER", weight: 0.5, version: { ref: "open/polite@1" } },
        { role: "CANDIDATE", weight: null, version: { ref: "open/openly@1" } },
      ],
    });
    expect(job).toEqual({ kind: "RUN_EVALUATION", state: "QUEUED", evaluation: { id: evaluation.id } });
  });

  it("judges a recipe that is never written", async () => {
    const candidate = { recipe: { tokenizer: "BASE", choices: { dtype: "F16" } } };
    const reference = { base: { ref: "open/base" }, sources: [{ version: { ref: "open/polite" } }] };
    const query = `mutation ($input: EvaluationStartInput!) { evaluationStart(input: $input) {
      evaluation { recipe { document } inputs { role } } userErrors { code } } }`;
    const { data } = await api.ask(ada, query, { input: input({ candidate, reference }) });
    expect(data.evaluationStart).toMatchObject({
      evaluation: {
        recipe: { document: { dtype: "F16", tokenizer: "base" } },
        inputs: [{ role: "BASE" }, { role: "ADAPTER" }],
      },
      userErrors: [],
    });
  });

  it("says of what is wrong where it stands in the input", async () => {
    const cases: [Record<string, unknown>, string, string[]][] = [
      [{ gate: "open/none" }, "NOT_FOUND", ["gate"]],
      [{ stride: 0 }, "BAD_INPUT", ["stride"]],
      [{ texts: { builtIn: false } }, "BAD_INPUT", ["texts", "builtIn"]],
      [{ texts: { jsonl: { jsonl: "[" } } }, "BAD_TEXTS", ["texts"]],
      [{ candidate: { version: { ref: "open/polite" } } }, "NOT_A_CHECKPOINT", ["candidate", "version"]],
      [
        { reference: { base: { ref: "open/base" }, sources: [{ version: { ref: "open/none" } }] } },
        "NOT_FOUND",
        ["reference", "sources", "0", "version"],
      ],
    ];
    for (const [more, code, field] of cases) {
      const { data, errors } = await api.ask(ada, START, { input: input(more) });
      expect(errors).toEqual([]);
      expect(data.evaluationStart).toMatchObject({ evaluation: null, job: null });
      expect(data.evaluationStart.userErrors).toMatchObject([{ code, field: ["input", ...field] }]);
    }
    const broken = await api.ask(ada, START, { input: input({ prompts: ["fine", "\ud800"] }) });
    expect(broken.errors).toEqual([]);
    expect(broken.data.evaluationStart.userErrors).toMatchObject([
      { code: "BAD_INPUT", message: expect.stringContaining("prompts.1 holds half of a surrogate pair") },
    ]);
    const stopped = await api.ask(bob, START, { input: input() });
    expect(stopped.data.evaluationStart.userErrors).toMatchObject([
      { __typename: "NotFound", field: ["input", "candidate", "version"] },
    ]);
  });
});

const WHOLE = `query ($id: ID!) { evaluation(id: $id) {
  verdict reasons { code } checks { level passed } device reportPath startedAt
  weights { touched projection maxUlp }
  logits {
    documents meanKld { value standardError lower upper } sameTop { value } perplexityRatio { value lower }
    timesFloor floor { meanKld p99Kld } effect { meanKld share } firstApart { layer }
  }
  note logitsSkipped text { exactMatch { value } } tasks { pValue } texts { name tokens }
  retention(first: 2) { nodes { tensor relativeError elements } pageInfo { hasNextPage endCursor } }
  layers { name relativeError } histogram { from candidate }
  worst(first: 1) { nodes { token kld } } continuations(first: 1) { nodes { prompt firstDivergence } }
  report merge { id } job { result { __typename ... on EvaluationResult { evaluation { id } } } }
} }`;

describe("an evaluation", () => {
  it("shows its report in typed fields, its long lists in pages, and the whole", async () => {
    const { data, errors } = await api.ask(ada, WHOLE, { id: id("Evaluation", shown.evaluationId) });
    expect(errors).toEqual([]);
    const found = data.evaluation;
    const example = exampleLogits();
    const { mean } = example.kld;
    expect(found).toMatchObject({
      verdict: "PASSED",
      reasons: [],
      weights: { touched: 112, projection: 0.9997 },
      logits: {
        documents: example.documents,
        meanKld: {
          value: mean.value,
          standardError: mean.standardError,
          lower: mean.interval![0],
          upper: mean.interval![1],
        },
        timesFloor: example.timesFloor,
        floor: { meanKld: example.floor!.meanKld, p99Kld: example.floor!.p99 },
        effect: example.effect && { meanKld: example.effect.meanKld, share: example.effect.share },
      },
      note: expect.stringContaining("W·x"),
      texts: { name: "support-held-out", tokens: 14_275 },
      merge: null,
      job: { result: { evaluation: { id: id("Evaluation", shown.evaluationId) } } },
    });
    expect(found.layers).toHaveLength(example.layers.length);
    expect(found.histogram.candidate).toEqual(example.histogram.candidate);
    expect(found.report.verdict).toBe("PASSED");
    expect(found.reportPath).toBe(`/evaluations/${id("Evaluation", shown.evaluationId)}/report`);
    expect(found.retention.nodes).toHaveLength(2);
    expect(found.retention.pageInfo.hasNextPage).toBe(true);
    const next = await api.ask(
      ada,
      `query ($id: ID!, $after: String) { evaluation(id: $id) { retention(first: 100, after: $after) { nodes { tensor } } } }`,
      { id: id("Evaluation", shown.evaluationId), after: found.retention.pageInfo.endCursor },
    );
    const rest = next.data.evaluation.retention.nodes;
    expect(rest).toHaveLength(100);
    expect(rest[0].tensor).toBe(found.report.weights.tensors[2].tensor);
  });

  it("is compared with another one, and with none that is not there", async () => {
    const query = `query ($a: ID!, $b: ID!) { evaluationCompare(a: $a, b: $b) {
      a { id } b { id } verdictA same { candidate gate texts } warnings { code }
      numbers { key level share a { value } difference } } }`;
    const [a, b] = [id("Evaluation", shown.evaluationId), id("Evaluation", hidden.evaluationId)];
    const { data, errors } = await api.ask(ada, query, { a, b });
    expect(errors).toEqual([]);
    expect(data.evaluationCompare).toMatchObject({
      a: { id: a },
      b: { id: b },
      same: { candidate: false, gate: true, texts: true },
    });
    expect(data.evaluationCompare.warnings).toMatchObject([{ code: "OTHER_REFERENCE" }]);
    const kld = data.evaluationCompare.numbers.find(({ key }: { key: string }) => key === "meanKld");
    expect(kld).toMatchObject({ level: 2, share: false, difference: 0 });
    for (const [who, other] of [
      [bob, b],
      [ada, id("Evaluation", randomUUID())],
      [ada, id("Version", randomUUID())],
    ] as const) {
      const refused = await api.ask(who, query, { a, b: other });
      expect(refused.data).toEqual({ evaluationCompare: null });
      expect(refused.errors).toMatchObject([{ extensions: { reason: "NOT_FOUND", field: "b" } }]);
    }
  });

  it("is listed with the versions that it compares, by their part, and with the merge that it followed", async () => {
    const query = `query ($ref: String!, $role: EvaluationRole) { version(ref: $ref) {
      evaluations(role: $role, first: 50) { nodes { id verdict } edges { node { id } } } } }`;
    const listed = async (ref: string, role: string | null) => {
      const { data, errors } = await api.ask(ada, query, { ref, role });
      expect(errors).toEqual([]);
      const { nodes, edges } = data.version.evaluations;
      expect(edges.map(({ node }: { node: unknown }) => node)).toEqual(
        nodes.map((node: { id: string }) => ({ id: node.id })),
      );
      return nodes.map((node: { id: string }) => node.id);
    };
    const [a, b] = [id("Evaluation", shown.evaluationId), id("Evaluation", hidden.evaluationId)];
    const judged = await listed("open/openly", "CANDIDATE");
    expect(judged).toContain(a);
    expect(judged).not.toContain(b);
    expect(await listed("open/openly", "BASE")).toEqual([]);
    const all = await listed("open/polite", null);
    expect(all).toEqual(expect.arrayContaining([a, b]));
    expect(all.indexOf(a)).toBeLessThan(all.indexOf(b));
    expect(await listed("open/polite", "CANDIDATE")).toEqual([]);
    const { data } = await api.ask(
      ada,
      `{ version(ref: "open/openly") { merge { gate { name } evaluations { nodes { state merge { id } } } id } } }`,
    );
    const { merge } = data.version;
    expect(merge).toMatchObject({ gate: { name: "default" }, evaluations: { nodes: [{ state: "QUEUED" }] } });
    expect(merge.evaluations.nodes[0].merge.id).toBe(merge.id);
  });
});

describe("an evaluation that a viewer may not see", () => {
  it("is null by id, in lists and behind its job, for whoever does not see every input", async () => {
    const query = `query ($id: ID!) {
      evaluation(id: $id) { id } node(id: $id) { id }
      version(ref: "open/secretly") { evaluations { nodes { id } } merge { evaluations { nodes { id } } } }
      used: version(ref: "open/polite") { evaluations(first: 50) { nodes { id } } }
    }`;
    const key = id("Evaluation", hidden.evaluationId);
    for (const who of [bob, stranger(s.admin)]) {
      const { data, errors } = await api.ask(who, query, { id: key });
      expect(errors).toEqual([]);
      expect(data).toMatchObject({
        evaluation: null,
        node: null,
        version: { evaluations: { nodes: [] }, merge: { evaluations: { nodes: [] } } },
      });
      const used = data.used.evaluations.nodes.map((node: { id: string } | null) => node?.id);
      expect(used).toContain(id("Evaluation", shown.evaluationId));
      expect(used).not.toContain(key);
      expect(used).not.toContain(undefined);
    }
    const { data } = await api.ask(ada, query, { id: key });
    expect(data).toMatchObject({ evaluation: { id: key }, node: { id: key } });
  });

  it("is public where everything that it compares is, its job apart", async () => {
    const query = `query ($id: ID!) { evaluation(id: $id) { verdict gate { name } job { id } report } }`;
    const { data } = await api.ask(stranger(s.admin), query, { id: id("Evaluation", shown.evaluationId) });
    expect(data.evaluation).toMatchObject({ verdict: "PASSED", gate: { name: "default" }, job: null });
    expect(data.evaluation.report).not.toBeNull();
  });
});

describe("gates", () => {
  const SET = `mutation ($input: GateSetInput!) { gateSet(input: $input) {
    gate { name version ref builtIn requires minimumDocuments thresholds { dtype meanKld sameTop } createdAt }
    userErrors { __typename code field message } } }`;

  it("are set by editors, and found by name and version and in the list", async () => {
    for (const meanKld of [1e-4, 1e-5]) {
      const given = { gate: "open/strict", thresholds: { bf16: { meanKld } }, minimumDocuments: 10 };
      const { data, errors } = await api.ask(ada, SET, { input: given });
      expect(errors).toEqual([]);
      expect(data.gateSet.userErrors).toEqual([]);
      expect(data.gateSet.gate).toMatchObject({ builtIn: false, requires: [2], minimumDocuments: 10 });
    }
    const query = `{ gates { nodes { ref builtIn } } newest: gate(name: "open/strict") { version }
      first: gate(name: "open/strict", version: 1) { thresholds { dtype meanKld } digest }
      none: gate(name: "open/strict", version: 9) { ref } default: gate(name: "default") { ref calibration } }`;
    const { data, errors } = await api.ask(ada, query);
    expect(errors).toEqual([]);
    expect(data).toMatchObject({
      gates: {
        nodes: [
          { ref: "default@1", builtIn: true },
          { ref: "open/strict@2", builtIn: false },
        ],
      },
      newest: { version: 2 },
      none: null,
      default: { ref: "default@1", calibration: expect.any(String) },
    });
    expect(data.first.thresholds).toContainEqual({ dtype: "BF16", meanKld: 1e-4 });
    const outside = await api.ask(bob, query);
    expect(outside.data).toMatchObject({ gates: { nodes: [{ ref: "default@1" }] }, newest: null });
  });

  it("are refused with the field that is wrong, as the input calls it", async () => {
    const given = { gate: "open/wrong", thresholds: { bf16: { meanKld: -1 } } };
    const { data } = await api.ask(ada, SET, { input: given });
    expect(data.gateSet).toMatchObject({
      gate: null,
      userErrors: [
        { __typename: "InvalidInput", code: "BAD_GATE", field: ["input", "thresholds", "bf16", "meanKld"] },
      ],
    });
    const empty = await api.ask(ada, SET, { input: { gate: "open/wrong", thresholds: {} } });
    expect(empty.data.gateSet.userErrors).toMatchObject([{ field: ["input", "thresholds"] }]);
    const foreign = await api.ask(bob, SET, { input: { ...given, thresholds: { f32: { sameTop: 1 } } } });
    expect(foreign.data.gateSet.userErrors).toMatchObject([{ code: "NOT_FOUND", field: ["input", "gate"] }]);
  });
});

describe("the statements of a page of evaluations", () => {
  it("do not grow with how many there are, nor read a report where none is asked for", async () => {
    const query = `{ models(kind: MERGED) { nodes { latestVersion {
      evaluations(first: 50, role: CANDIDATE) { nodes {
        id verdict gate { name } logits { meanKld { value } } inputs { role version { ref } } job { state } merge { id }
      } } merge { evaluations(first: 50) { nodes { verdict } } } } } } }`;
    const ask = async () => {
      test.queries.length = 0;
      const { errors } = await api.ask(s.admin, query);
      expect(errors).toEqual([]);
      return [...test.queries];
    };
    const before = await ask();
    for (let i = 0; i < 4; i++) await s.evaluated(request("open/base", "open/openly"));
    const after = await ask();
    expect(after.length).toBe(before.length);
    expect(after.length).toBeLessThanOrEqual(4);
    expect(after.join()).not.toContain("evaluation_reports");
  });
});
