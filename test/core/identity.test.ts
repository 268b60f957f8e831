import { describe, expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { AppError } from "../../src/core/errors.ts";
import {
  canonicalJson,
  digestBytes,
  digestJson,
  parseDigest,
  versionDigest,
  weightsDigest,
} from "../../src/core/identity.ts";
import { makeRecipe, parseRecipe, recipeDigest } from "../../src/core/recipe.ts";
import { ENGINE, parseMergeRecord } from "../../src/core/record.ts";

/* The vectors were made with Python's json and hashlib, not with this code. */
const A = parseDigest("sha256:b9c80b5adeca450753a16950c3cc655d271f7bef7a485bc83f112b72fef21d37");
const B = parseDigest("sha256:b9c205bdac187f20bf876cea369cb6032ad1bf69043b31d716b36b8defbffdf2");
const WEIGHTS = parseDigest("sha256:c735e60913cddd022cadebe233f228f59d4fc3eaae334dc09c7d6a536695877c");
const CONFIG = parseDigest("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
const VERSION = parseDigest("sha256:d5f216ba903ef1c3f4d78b1c3edcd56ef989c4039dfd68330f8ee0120f25037d");
const RECIPE = parseDigest("sha256:1cf926d8a801b6f53a32cfac3d3262d64a5e38526a513b64f973cd8bc5febc38");

const recipe = makeRecipe({
  base: { version: VERSION, weights: WEIGHTS },
  sources: [{ version: A, weights: B, weight: 1 }],
  tokenizer: "base",
});

describe("identity", () => {
  it("digests a tensor by its little-endian bytes", () => {
    expect(digestBytes(new Uint8Array(new Float32Array([1, 2]).buffer))).toBe(A);
    expect(digestBytes(new Uint8Array([128, 63]))).toBe(B);
  });

  it("digests weights by name, dtype, shape and bytes, in whatever order they are stored", () => {
    const a = { name: "a.weight", dtype: "F32", shape: [2], digest: A } as const;
    const b = { name: "b.weight", dtype: "BF16", shape: [1], digest: B } as const;
    expect(weightsDigest([a, b])).toBe(WEIGHTS);
    expect(weightsDigest([b, a])).toBe(WEIGHTS);
    expect(weightsDigest([a, { ...b, shape: [1, 1] }])).not.toBe(WEIGHTS);
  });

  it("digests a version by its weights and its identity files", () => {
    expect(digestBytes(new TextEncoder().encode("{}"))).toBe(CONFIG);
    expect(versionDigest(WEIGHTS, [{ path: "config.json", size: 2, digest: CONFIG }])).toBe(VERSION);
  });

  it("digests a recipe with every field present", () => {
    expect(recipeDigest(recipe)).toBe(RECIPE);
    expect(Object.keys(recipe)).toHaveLength(12);
  });

  it("orders keys by UTF-16 code units and writes numbers as RFC 8785 says", () => {
    expect(canonicalJson({ "€": 1, "\r": 2, ö: 3, "😀": 4, "\ufb33": 5 })).toBe(
      '{"\\r":2,"ö":3,"€":1,"😀":4,"\ufb33":5}',
    );
    expect(canonicalJson([1e21, 1e-7, 0.1, -0, 333333333.3333333])).toBe(
      "[1e+21,1e-7,0.1,0,333333333.3333333]",
    );
    expect(digestJson({ b: 1, a: 2 })).toBe(digestJson({ a: 2, b: 1 }));
  });

  it.each(["", "sha256:", `sha256:${"A".repeat(64)}`, `sha512:${"a".repeat(64)}`, "a".repeat(64)])(
    "refuses %j as a digest",
    (text) => {
      expect(() => parseDigest(text)).toThrow(AppError);
    },
  );
});

describe("a recipe", () => {
  it("survives a round trip through JSON with its digest", () => {
    expect(recipeDigest(parseRecipe(JSON.parse(JSON.stringify(recipe))))).toBe(RECIPE);
  });

  it.each([
    ["a missing field", { ...recipe, seed: undefined }, "seed"],
    ["an unknown field", { ...recipe, speed: 1 }, ""],
    ["another schema", { ...recipe, schema: 2 }, "schema"],
    ["a dtype that no merge writes", { ...recipe, dtype: "I8" }, "dtype"],
    ["no source", { ...recipe, sources: [] }, "sources"],
    ["a digest in capitals", { ...recipe, base: { ...recipe.base, version: "SHA256:00" } }, "base.version"],
  ])("refuses %s and names the field", (_, value, field) => {
    expect(() => parseRecipe(value)).toThrow(expect.objectContaining({ code: "BAD_RECIPE", field }));
  });
});

describe("graftwork.json", () => {
  const record = {
    schema: 1,
    recipe,
    recipeDigest: RECIPE,
    output: { version: VERSION, weights: WEIGHTS, tensors: { "a.weight": A } },
    engine: ENGINE,
    hints: { base: { path: "/models/base" }, sources: [{ ref: "demo/sentiment@1" }] },
  };

  it("reads what it holds", () => {
    expect(parseMergeRecord(JSON.parse(JSON.stringify(record)))).toEqual(record);
  });

  it("names the field that is wrong", () => {
    const broken = { ...record, output: { ...record.output, tensors: { "a.weight": "none" } } };
    expect(() => parseMergeRecord(broken)).toThrow(
      expect.objectContaining({ field: "output.tensors.a.weight" }),
    );
  });

  it("carries the version of this package", () => {
    expect(ENGINE.version).toBe(packageJson.version);
  });
});
