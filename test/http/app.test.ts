import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { modelsQuery } from "../../src/client/documents.ts";
import { isUnreachable } from "../../src/client/failure.ts";
import { createClient } from "../../src/client/index.ts";
import { BODY_LIMIT } from "../../src/http/answer.ts";
import { startHttp } from "../../src/http/app.ts";
import { openDb } from "../../src/registry/db.ts";
import { rawGet, type TestServer, testServer } from "../support/http.ts";

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());

const get = (path: string, init: RequestInit = {}) => fetch(server.url + path, init);
const post = (body: unknown, headers: Record<string, string> = {}) =>
  get("/graphql", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
const bearer = () => ({ authorization: `Bearer ${server.token}` });
const VIEWER = { query: "{ viewer { name } }" };

describe("every answer", () => {
  it("carries a request id and headers that keep scripts and frames of others out", async () => {
    for (const path of ["/", "/graphql", "/healthz", "/nothing.js", "/session"]) {
      const { headers } = await get(path);
      expect(headers.get("x-request-id")).toMatch(/^[\w-]{36}$/);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      const policy = headers.get("content-security-policy")!;
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).toContain("script-src 'self';");
      expect(policy).not.toContain("unsafe");
      expect(headers.get("access-control-allow-origin")).toBeNull();
    }
  });

  it("takes over a request id that a proxy gave, if it is one", async () => {
    const named = await post(VIEWER, { "x-request-id": "proxy-12345678" });
    expect(named.headers.get("x-request-id")).toBe("proxy-12345678");
    const evil = await post({ query: "{ nope }" }, { "x-request-id": "a b<script>" });
    expect(evil.headers.get("x-request-id")).toMatch(/^[\w-]{36}$/);
    const { errors } = await evil.json();
    expect(errors[0].extensions.requestId).toBe(evil.headers.get("x-request-id"));
  });
});

describe("/graphql", () => {
  it("answers a bearer token as its account, and nobody without one", async () => {
    expect(await (await post(VIEWER, bearer())).json()).toEqual({ data: { viewer: { name: "admin" } } });
    expect(await (await post(VIEWER)).json()).toEqual({ data: { viewer: null } });
  });

  it("refuses a wrong token instead of answering nobody", async () => {
    for (const authorization of ["Bearer wrong", "Basic YTpi"]) {
      const response = await post(VIEWER, { authorization });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toContain("Bearer");
      expect((await response.json()).error).toMatchObject({ code: "UNAUTHENTICATED" });
    }
  });

  it("answers queries by GET, and no mutations", async () => {
    const ask = (query: string) =>
      get(`/graphql?query=${encodeURIComponent(query)}`, {
        headers: { ...bearer(), "apollo-require-preflight": "1" },
      });
    expect(await (await ask("{ viewer { name } }")).json()).toEqual({ data: { viewer: { name: "admin" } } });
    const mutation = await ask('mutation { jobCancel(input: { job: "x" }) { userErrors { code } } }');
    expect(mutation.status).toBe(405);
  });

  it("answers no simple request that any page could make a browser send", async () => {
    const plain = await get("/graphql?query=%7Bviewer%7Bname%7D%7D");
    expect(plain.status).toBe(400);
    const form = await get("/graphql", {
      method: "POST",
      body: new URLSearchParams({ query: "{ viewer { name } }" }),
    });
    expect(form.status).toBe(415);
  });

  it("takes one operation at a time", async () => {
    const response = await post([VIEWER, VIEWER]);
    expect(response.status).toBe(400);
    expect(JSON.stringify(await response.json())).toContain("batching");
  });

  it("refuses a body that is too large, by its announcement and by its bytes", async () => {
    const announced = await post({ query: `{ viewer { name } } # ${"x".repeat(BODY_LIMIT)}` });
    expect(announced.status).toBe(413);
    expect((await announced.json()).error).toMatchObject({ code: "BODY_TOO_LARGE" });
    const stream = new ReadableStream({
      pull: (controller) => controller.enqueue(new TextEncoder().encode(" ".repeat(65_536))),
    });
    const response = await get("/graphql", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: stream,
      duplex: "half",
    } as RequestInit).catch(() => null);
    // The server answers and stops reading; whether fetch shows the answer or the broken pipe is a race.
    if (response) expect(response.status).toBe(413);
    expect((await post(VIEWER)).status).toBe(200);
  });

  it("explains a body that is no JSON, and a method that it does not take", async () => {
    const response = await post("{ not json");
    expect(response.status).toBe(400);
    expect((await response.json()).error).toMatchObject({ code: "BAD_JSON" });
    const put = await get("/graphql", { method: "PUT" });
    expect([put.status, put.headers.get("allow")]).toEqual([405, "GET, POST"]);
  });

  it("masks a fault of the database and logs it under the request id", async () => {
    server.logged.length = 0;
    await server.test.db.$executeRawUnsafe("alter table accounts rename to accounts_away");
    try {
      const response = await post(VIEWER, bearer());
      expect(response.status).toBe(500);
      const { error } = await response.json();
      expect(error).toMatchObject({ code: "INTERNAL", requestId: response.headers.get("x-request-id") });
      expect(JSON.stringify(error)).not.toMatch(/accounts|prisma/i);
      expect(server.logged).toMatchObject([{ requestId: error.requestId }]);
    } finally {
      await server.test.db.$executeRawUnsafe("alter table accounts_away rename to accounts");
    }
  });
});

describe("the console", () => {
  it("is served with its types, and its own paths get the page", async () => {
    const script = await get("/assets/app-1a2b3c.js");
    expect(script.headers.get("content-type")).toContain("text/javascript");
    expect(script.headers.get("cache-control")).toContain("immutable");
    for (const path of ["/", "/models/demo/base", "/jobs/abc"]) {
      const page = await get(path, { headers: { accept: "text/html" } });
      expect(page.status).toBe(200);
      expect(page.headers.get("cache-control")).toBe("no-cache");
      expect(await page.text()).toContain("<title>Graftwork");
    }
    expect((await get("/", { method: "HEAD" })).headers.get("content-length")).not.toBe("0");
  });

  it("answers unchanged files without their bytes", async () => {
    const etag = (await get("/")).headers.get("etag")!;
    expect((await get("/", { headers: { "if-none-match": etag } })).status).toBe(304);
  });

  it("is not found where there is nothing", async () => {
    const response = await get("/assets/none.js");
    expect(response.status).toBe(404);
    expect((await response.json()).error.code).toBe("NOT_FOUND");
  });

  it.each([
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/..%5csecret.txt",
    "/assets/../../secret.txt",
    "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
    "//secret.txt",
    "/link.txt",
    "/%00",
    "/%E0%A4%A",
    "/etc/passwd",
  ])("does not lead out of its folder: %s", async (path) => {
    const { status, body } = await rawGet(server.url, path);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(body).not.toBe("secret");
  });

  it("answers a path that is too long for a file", async () => {
    expect((await rawGet(server.url, `/${"a".repeat(5000)}`)).status).toBe(404);
  });
});

describe("the server", () => {
  it("says that it lives, and whether its database answers", async () => {
    expect(await (await get("/healthz")).json()).toEqual({ status: "ok" });
    expect(await (await get("/readyz")).json()).toEqual({ status: "ready" });
  });

  it("asks for another try while its database is away, which is no fault to hide, and the client knows it", async () => {
    const dead = openDb({ url: "postgresql://nobody:hidden-word@127.0.0.1:1/nothing" });
    const { url, close } = await startHttp({
      registry: { ...server.seed.worker, db: dead.db, pool: dead.pool },
      settings: { port: 0, host: "127.0.0.1", introspection: true },
      log: { error: () => {} },
    });
    try {
      const answer = await fetch(`${url}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", ...bearer() },
        body: JSON.stringify(VIEWER),
      });
      expect(answer.status).toBe(503);
      const text = await answer.text();
      expect(JSON.parse(text).error.code).toBe("NOT_READY");
      expect(text).not.toMatch(/hidden-word|127\.0\.0\.1|prisma/i);
      // With a token it is known before the operation, without one in the middle of it.
      for (const options of [{ url, token: server.token }, { url }]) {
        const failure = await createClient(options)
          .request(modelsQuery, {})
          .catch((error) => error);
        expect(failure).toMatchObject({ code: "NOT_READY" });
        expect(isUnreachable(failure)).toBe(true);
      }
      expect((await fetch(`${url}/readyz`)).status).toBe(503);
    } finally {
      await close();
      await dead.close();
    }
  });

  it("survives a request that is nonsense", async () => {
    const { hostname, port } = new URL(server.url);
    for (const bytes of [
      "GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
      "nonsense\r\n\r\n",
      "GET /%%% HTTP/1.1\r\n\r\n",
    ]) {
      await new Promise((resolve) => {
        const socket = connect(Number(port), hostname, () => socket.end(bytes));
        socket.on("close", resolve);
        socket.on("error", () => {});
        socket.resume();
      });
    }
    expect((await get("/healthz")).status).toBe(200);
  });

  it("names the port that is taken", async () => {
    const { port } = new URL(server.url);
    const second = startHttp({
      registry: server.seed.worker,
      settings: { port: Number(port), host: "127.0.0.1", introspection: true },
      log: { error: () => {} },
    });
    await expect(second).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: expect.stringContaining(port),
    });
  });
});
