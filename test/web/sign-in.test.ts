import { describe, expect, test } from "vitest";
import { csrfHeaders, learn } from "../../web/src/sign-in.ts";

test("the CSRF cookie is sent back as a header, and only that cookie", () => {
  expect(csrfHeaders("other=1; graftwork_csrf=AbC-_9; more=2")).toEqual({ "x-csrf-token": "AbC-_9" });
});

test("without a session there is no CSRF header", () => {
  expect(csrfHeaders("")).toEqual({});
  expect(csrfHeaders("graftwork_csrf=; xgraftwork_csrf=1")).toEqual({});
});

describe("a session", () => {
  const admin = { name: "admin", isAdmin: true };

  test("that was there and is not any longer has ended, until somebody signs in", () => {
    const signedIn = learn(null, admin);
    expect(signedIn).toEqual({ viewer: admin, ended: false });
    const ended = learn(signedIn, null);
    expect(ended).toEqual({ viewer: null, ended: true });
    expect(learn(ended, null).ended).toBe(true);
    expect(learn(ended, admin)).toEqual({ viewer: admin, ended: false });
  });

  test("that never was, or that was signed out, has not ended", () => {
    expect(learn(null, null).ended).toBe(false);
    expect(learn({ viewer: null, ended: false }, null).ended).toBe(false);
  });
});
