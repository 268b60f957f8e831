import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type TestServer, testServer } from "../support/http.ts";

let server: TestServer;
beforeAll(async () => {
  server = await testServer();
});
afterAll(() => server.close());

const session = (method: string, body?: unknown, headers: Record<string, string> = {}) =>
  fetch(`${server.url}/session`, {
    method,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });

async function signIn(): Promise<{ cookie: string; csrf: string; setCookies: string[] }> {
  const response = await session("POST", { token: server.token });
  expect(response.status).toBe(201);
  const { csrfToken } = await response.json();
  const setCookies = response.headers.getSetCookie();
  return { cookie: setCookies.map((one) => one.split(";")[0]).join("; "), csrf: csrfToken, setCookies };
}

const ask = (query: string, headers: Record<string, string>) =>
  fetch(`${server.url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ query }),
  });
const VIEWER = "{ viewer { name } }";
const CANCEL =
  'mutation { jobCancel(input: { job: "Sm9iOjAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwMA" }) { userErrors { code } } }';

describe("a session", () => {
  it("is a cookie that scripts cannot read and other sites cannot send", async () => {
    const { setCookies, csrf } = await signIn();
    const [secret, readable] = setCookies;
    expect(secret).toMatch(
      /^graftwork_session=[\w-]{43}; HttpOnly; Max-Age=604\d{3}; Path=\/; SameSite=Strict$/,
    );
    expect(readable).toMatch(new RegExp(`^graftwork_csrf=${csrf}; Max-Age=\\d+; Path=/; SameSite=Strict$`));
    expect(setCookies.join()).not.toContain(server.token);
    const behindTls = await session("POST", { token: server.token }, { "x-forwarded-proto": "https" });
    for (const cookie of behindTls.headers.getSetCookie()) expect(cookie).toMatch(/; Secure$/);
  });

  it("reads by itself, and changes something only with the CSRF header", async () => {
    const { cookie, csrf } = await signIn();
    expect(await (await ask(VIEWER, { cookie })).json()).toEqual({ data: { viewer: { name: "admin" } } });
    for (const headers of [{ cookie }, { cookie, "x-csrf-token": "wrong" }]) {
      const refused = await ask(CANCEL, headers);
      expect(refused.status).toBe(403);
      const { data, errors } = await refused.json();
      expect(data).toBeUndefined();
      expect(errors[0].extensions.code).toBe("CSRF");
      expect(errors[0].message).toContain("x-csrf-token");
    }
    const done = await ask(CANCEL, { cookie, "x-csrf-token": csrf });
    expect(await done.json()).toEqual({ data: { jobCancel: { userErrors: [{ code: "NOT_FOUND" }] } } });
  });

  it("does not lend its CSRF token to another one", async () => {
    const [a, b] = [await signIn(), await signIn()];
    expect((await ask(CANCEL, { cookie: a.cookie, "x-csrf-token": b.csrf })).status).toBe(403);
  });

  it("is not needed with a bearer token, whose requests no page can forge", async () => {
    const done = await ask(CANCEL, { authorization: `Bearer ${server.token}` });
    expect(done.status).toBe(200);
  });

  it("says who is signed in, and ends at sign-out for good", async () => {
    const { cookie, csrf } = await signIn();
    expect(await (await session("GET")).json()).toEqual({ signedIn: false, account: null, expiresAt: null });
    const { account, expiresAt } = await (await session("GET", undefined, { cookie })).json();
    expect(account).toEqual({ name: "admin", isAdmin: true });
    expect(Date.parse(expiresAt)).toBeGreaterThan(Date.now());
    expect((await session("DELETE", undefined, { cookie })).status).toBe(403);
    const out = await session("DELETE", undefined, { cookie, "x-csrf-token": csrf });
    expect(out.status).toBe(204);
    for (const one of out.headers.getSetCookie()) expect(one).toContain("Max-Age=0");
    expect(await (await ask(VIEWER, { cookie })).json()).toEqual({ data: { viewer: null } });
  });

  it("is not given for a wrong token, a missing one, or to a page of another site", async () => {
    const wrong = await session("POST", { token: "wrong" });
    expect([wrong.status, (await wrong.json()).error.code]).toEqual([401, "BAD_TOKEN"]);
    for (const body of [{}, { token: 7 }, null]) expect((await session("POST", body)).status).toBe(400);
    const foreign = await session("POST", { token: server.token }, { origin: "https://evil.example" });
    expect([foreign.status, (await foreign.json()).error.code]).toEqual([403, "ORIGIN"]);
    const own = await session("POST", { token: server.token }, { origin: server.url });
    expect(own.status).toBe(201);
  });

  it("ends with the token that it was made from", async () => {
    const { cookie } = await signIn();
    const now = new Date();
    const { count } = await server.test.db.apiToken.updateMany({
      where: { revokedAt: null },
      data: { revokedAt: now },
    });
    try {
      expect(await (await ask(VIEWER, { cookie })).json()).toEqual({ data: { viewer: null } });
      expect(count).toBeGreaterThan(0);
    } finally {
      await server.test.db.apiToken.updateMany({ where: { revokedAt: now }, data: { revokedAt: null } });
    }
  });
});
