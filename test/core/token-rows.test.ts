import { describe, expect, it } from "vitest";
import { readTokenInput } from "../../src/core/token-rows.ts";

const ints = (shape: number[], values: number[]) => ({ shape, values });

describe("the rows of a batch of tokens", () => {
  it("are whole where there is no mask, of a text as of a batch", () => {
    const text = readTokenInput("a.", ints([3], [5, 6, 7]), null);
    expect(text.rows).toEqual([{ ids: Int32Array.of(5, 6, 7), begin: 0 }]);
    const batch = readTokenInput("a.", ints([2, 2], [5, 6, 7, 8]), null);
    expect(batch.rows.map(({ ids }) => [...ids])).toEqual([
      [5, 6],
      [7, 8],
    ]);
  });

  it("lose their padding on either side, and on both", () => {
    const ids = ints([4, 3], [1, 2, 0, 0, 1, 2, 0, 1, 0, 1, 2, 3]);
    const mask = ints([4, 3], [1, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1]);
    const { rows } = readTokenInput("b.", ids, mask);
    expect(rows.map(({ ids, begin }) => [begin, ...ids])).toEqual([
      [0, 1, 2],
      [1, 1, 2],
      [1, 1],
      [0, 1, 2, 3],
    ]);
  });

  it("may hold any number at padding", () => {
    const values = BigInt64Array.of(3n, -100n);
    const mask = { shape: [1, 2], values: BigInt64Array.of(1n, 0n) };
    const { rows } = readTokenInput("b.", { shape: [1, 2], values }, mask);
    expect(rows).toEqual([{ ids: Int32Array.of(3), begin: 0 }]);
  });

  it.each([
    ["a hole in the mask", [1, 0, 1], /b\.attention_mask has a hole in row 0/],
    ["a row of padding only", [0, 0, 0], /b\.attention_mask masks every token of row 0/],
    ["a mask of other values", [1, 2, 0], /b\.attention_mask holds 2 in row 0/],
  ])("are refused for %s", (_, mask, says) => {
    expect(() => readTokenInput("b.", ints([1, 3], [1, 2, 3]), ints([1, 3], mask))).toThrow(says);
  });

  it("are refused for another shape, no tokens, and ids that no token has", () => {
    expect(() => readTokenInput("b.", ints([1, 1, 2], [1, 2]), null)).toThrow(/shape \[1, 1, 2\]/);
    expect(() => readTokenInput("b.", ints([0], []), null)).toThrow(/holds no token/);
    expect(() => readTokenInput("b.", ints([2], [1, -100]), null)).toThrow(/b\.input_ids holds -100/);
    expect(() => readTokenInput("b.", ints([2], [1, 2 ** 31]), null)).toThrow(/2147483648/);
    expect(() => readTokenInput("b.", ints([2], [1, 2]), ints([1, 2], [1, 1]))).toThrow(/shape \[1, 2\]/);
  });
});
