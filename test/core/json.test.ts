import { describe, expect, it } from "vitest";
import { parseJsonObject, TOKENIZER_JSON } from "../../src/core/json.ts";

const refused = (text: string) => {
  try {
    parseJsonObject(text, "config.json");
    return null;
  } catch (error) {
    return (error as { code?: string; message: string }).message;
  }
};

describe("a JSON file", () => {
  it("is measured before it is parsed: values by the million are refused without making one of them", () => {
    expect(refused(`{"a":[${"[],".repeat(400_000)}[]]}`)).toMatch(
      /holds 400003 lists and objects, the limit/,
    );
    expect(refused(`{"a":[${"0,".repeat(1_100_000)}0]}`)).toMatch(/holds 1100000 values, the limit/);
    expect(refused(`{"a":${"[".repeat(200)}${"]".repeat(200)}}`)).toMatch(/nests deeper than 100 levels/);
  });

  it("may have brackets, commas and escaped quotes in its texts", () => {
    const text = JSON.stringify({ a: `"[${",[".repeat(1_200_000)}\\"` });
    expect(parseJsonObject(text, "config.json")).toEqual(JSON.parse(text));
  });

  it("of a tokenizer may be larger: half a million tokens and merges", () => {
    const vocab = Object.fromEntries(Array.from({ length: 500_000 }, (_, i) => [`t${i}`, i]));
    const merges = Array.from({ length: 500_000 }, (_, i) => [`a${i}`, "b"]);
    const text = JSON.stringify({ model: { vocab, merges } });
    expect(refused(text)).toMatch(/limit/);
    expect(Object.keys(parseJsonObject(text, "tokenizer.json", TOKENIZER_JSON))).toEqual(["model"]);
  });

  it("that is no object, or nothing at all, is refused by its name", () => {
    for (const text of ["", "[]", "null", "1", '"x"', "{"]) expect(refused(text)).toMatch(/^config\.json /);
  });
});
