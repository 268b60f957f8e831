import { expect, test } from "vitest";
import { csrfHeaders } from "../../web/src/sign-in.ts";

test("the CSRF cookie is sent back as a header, and only that cookie", () => {
  expect(csrfHeaders("other=1; graftwork_csrf=AbC-_9; more=2")).toEqual({ "x-csrf-token": "AbC-_9" });
});

test("without a session there is no CSRF header", () => {
  expect(csrfHeaders("")).toEqual({});
  expect(csrfHeaders("graftwork_csrf=; xgraftwork_csrf=1")).toEqual({});
});
