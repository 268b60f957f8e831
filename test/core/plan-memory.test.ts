import { describe, expect, it } from "vitest";
import { add, base, type Leaf, lowRankUpdate, matmul, mul, source } from "../../src/core/expr.ts";
import { estimateMemory, memoryOf } from "../../src/core/plan-memory.ts";

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  W: [4096, 4096],
  A: [16, 4096],
  B: [4096, 16],
  wideA: [2048, 4096],
  wideB: [4096, 2048],
};
const shapes = (leaf: Leaf) => SHAPES[leaf.tensor]!;
const of = (...exprs: Parameters<typeof estimateMemory>[0][number]["expr"][]) =>
  estimateMemory(
    exprs.map((expr) => ({ expr })),
    shapes,
  );

const update = (left: string, right: string) =>
  lowRankUpdate({ base: "W", left: source(0, left), right: source(0, right), scale: 1, roundFirst: false });

describe("the memory that a merge takes", () => {
  it("does not grow with the weights: of a low-rank update its packed right factor counts", () => {
    const none = of(null);
    expect(of(update("B", "A")).thread - none.thread).toBe(16 * 4096 * 4);
    expect(of(update("wideB", "wideA")).thread - none.thread).toBe(2048 * 4096 * 4);
  });

  it("is that of the largest tensor, not of all", () => {
    expect(of(update("B", "A"), update("wideB", "wideA"), null)).toEqual(of(update("wideB", "wideA")));
  });

  it("counts a change that is made as a whole before it is added, once where it is used twice", () => {
    const change = matmul(source(0, "B"), source(0, "A"));
    const made = of(mul(base("W"), change)).thread - of(null).thread;
    expect(made).toBe(4096 * 4096 * 12);
    expect(of(add(mul(base("W"), change), change)).thread - of(null).thread).toBe(made);
  });

  it("grows with the threads", () => {
    const estimate = of(update("B", "A"));
    expect(memoryOf(estimate, 8) - memoryOf(estimate, 4)).toBe(4 * estimate.thread);
  });
});
