import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startEvaluation } from "../../src/registry/evaluations.ts";
import { type TestServer, testServer } from "../support/http.ts";

let server: TestServer;
let path: string;
let jobPath: string;
const MERGE = { base: { ref: "demo/base" }, sources: [{ ref: "demo/sentiment" }] };
const REQUEST = { ...MERGE, candidate: { ref: "demo/merged" } };
const rowPath = (type: string, uuid: string) =>
  `/evaluations/${Buffer.from(`${type}:${uuid}`).toString("base64url")}/report`;

beforeAll(async () => {
  server = await testServer();
  const { seed: s } = server;
  await s.imported({ name: "demo/base", kind: "BASE", folder: "base" });
  await s.imported({ name: "demo/sentiment", kind: "ADAPTER", folder: "adapters/sentiment" });
  await s.merged({ ...MERGE, output: "demo/merged" });
  const { evaluationId, jobId } = await s.evaluated(REQUEST);
  path = rowPath("Evaluation", evaluationId);
  jobPath = rowPath("Job", jobId);
});
afterAll(() => server.close());

const get = (to: string, signedIn = true, method = "GET") =>
  fetch(server.url + to, {
    method,
    headers: signedIn ? { authorization: `Bearer ${server.token}` } : {},
  });

describe("the report of an evaluation", () => {
  it("is a page that may run nothing and load nothing", async () => {
    const response = await get(`${path}.html`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    const policy = response.headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("sandbox");
    expect(policy).not.toMatch(/script-src|connect-src|'self'|allow-/);
    expect(response.headers.get("cache-control")).toContain("private");
    const page = await response.text();
    expect(page).toContain("demo/merged@1");
    expect(page).not.toContain("<script");
  });

  it("is JSON as the schema describes it, and Markdown for a card", async () => {
    const json = await get(`${path}.json`);
    expect(json.headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(await json.json()).toMatchObject({ schema: 1, verdict: "PASSED" });
    const markdown = await get(`${path}.md`);
    expect(markdown.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
    expect(await markdown.text()).toContain("demo/merged@1");
    const head = await get(`${path}.json`, true, "HEAD");
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });

  it("is not found by strangers, exactly like one that does not exist", async () => {
    const hidden = await get(`${path}.html`, false);
    const missing = await get(`${rowPath("Evaluation", randomUUID())}.html`, false);
    expect([hidden.status, missing.status]).toEqual([404, 404]);
    const body = async (response: Response) => ({ ...(await response.json()).error, requestId: "" });
    expect(await body(hidden)).toEqual(await body(missing));
  });

  it("is not found under the id of something else, and takes no other method", async () => {
    for (const wrong of [`${jobPath}.html`, "/evaluations/nonsense/report.json"]) {
      const response = await get(wrong);
      expect(response.status).toBe(404);
      expect((await response.json()).error.code).toBe("NOT_FOUND");
    }
    const posted = await get(`${path}.html`, true, "POST");
    expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });

  it("says while it is not there what it waits for", async () => {
    const { evaluationId } = await startEvaluation(server.seed.admin, REQUEST);
    const response = await get(`${rowPath("Evaluation", evaluationId)}.html`);
    expect(response.status).toBe(404);
    expect((await response.json()).error).toMatchObject({ code: "NO_REPORT" });
  });
});
