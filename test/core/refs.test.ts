import { describe, expect, it } from "vitest";
import { isAlias, parseModelName, parseVersionRef } from "../../src/core/refs.ts";

const DIGEST = `sha256:${"0".repeat(64)}`;
const model = { namespace: "acme", name: "Llama-3.1_8b" };

describe("a reference", () => {
  it.each([
    ["acme/Llama-3.1_8b", { model, at: { by: "latest" } }],
    ["acme/Llama-3.1_8b@7", { model, at: { by: "number", number: 7 } }],
    ["acme/Llama-3.1_8b@v1.2.0", { model, at: { by: "release", release: "v1.2.0" } }],
    ["acme/Llama-3.1_8b@v1.2.0-rc.1+b2", { model, at: { by: "release", release: "v1.2.0-rc.1+b2" } }],
    ["acme/Llama-3.1_8b@champion", { model, at: { by: "alias", alias: "champion" } }],
    [`acme/Llama-3.1_8b@${DIGEST}`, { model, at: { by: "digest", digest: DIGEST } }],
    [`@${DIGEST}`, { model: null, at: { by: "digest", digest: DIGEST } }],
  ])("reads %s", (text, expected) => {
    expect(parseVersionRef(text)).toEqual(expected);
  });

  it.each([
    "",
    "acme",
    "acme/",
    "/name",
    "a/b/c",
    "acme/na me",
    "acme/..",
    "acme/-x",
    "acme/x.",
    "acme/x.git",
    "acme/a--b",
    "@7",
    "@champion",
    "acme/x@",
    "acme/x@0",
    "acme/x@07",
    "acme/x@v1.2",
    "acme/x@v1x",
    "acme/x@Champion",
    "acme/x@sha256:12",
    `acme/${"x".repeat(97)}`,
    "acme/é",
  ])("refuses %j with what to write instead", (text) => {
    expect(() => parseVersionRef(text)).toThrow(expect.objectContaining({ code: "BAD_REF" }));
  });

  it("shows how a long text begins, not all of it", () => {
    expect(() => parseVersionRef("x".repeat(5000))).toThrow(/^"x{120}…" is not a model name/);
  });

  it("keeps aliases apart from numbers, releases and digests", () => {
    expect(["champion", "prod-eu", "v-next"].every(isAlias)).toBe(true);
    expect(["7", "v1", "v1.2.0", "sha256", "Prod", "a_b", ""].some(isAlias)).toBe(false);
  });

  it("names the field of the input it came from", () => {
    expect(() => parseModelName("x", "output.model")).toThrow(
      expect.objectContaining({ field: "output.model" }),
    );
  });
});
