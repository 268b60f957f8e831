import { describe, expect, it } from "vitest";
import { largestTokenId } from "../../src/core/tokenizer.ts";

describe("the largest token id of a folder", () => {
  it("counts vocabulary, added tokens and the decoder of the settings, whichever file states them", () => {
    const tokenizer = { model: { vocab: { a: 0, b: 7 } }, added_tokens: [{ id: 9, content: "<x>" }] };
    expect(largestTokenId({ "tokenizer.json": tokenizer })).toBe(9);
    expect(
      largestTokenId({ "tokenizer.json": { model: { vocab: [["a", -1] as const, ["b", -2] as const] } } }),
    ).toBe(1);
    expect(largestTokenId({ "added_tokens.json": { "<x>": 12 } })).toBe(12);
    expect(largestTokenId({ "vocab.json": { a: 3 }, "added_tokens.json": { "<x>": 2 } })).toBe(3);
    expect(
      largestTokenId({ "tokenizer_config.json": { added_tokens_decoder: { "40": { content: "<x>" } } } }),
    ).toBe(40);
  });

  it("is null where no file states one, and ignores what is no number", () => {
    expect(largestTokenId({})).toBe(null);
    expect(
      largestTokenId({ "tokenizer.json": {}, "tokenizer_config.json": { added_tokens_decoder: 3 } }),
    ).toBe(null);
    expect(largestTokenId({ "added_tokens.json": { a: "x", c: -4 } })).toBe(null);
  });
});
