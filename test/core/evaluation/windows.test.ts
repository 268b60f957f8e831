import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { windowsOf } from "../../../src/core/evaluation/windows.ts";

describe("windowsOf", () => {
  it("cuts a document that fits into one window, and none where nothing can be predicted", () => {
    expect(windowsOf(8, { window: 8, stride: 4 })).toEqual([{ begin: 0, end: 8, firstPrediction: 1 }]);
    expect(windowsOf(1, { window: 8, stride: 4 })).toEqual([]);
    expect(windowsOf(0, { window: 8, stride: 4 })).toEqual([]);
  });

  it("moves the window by the stride, and the last one ends with the document", () => {
    expect(windowsOf(11, { window: 6, stride: 4 })).toEqual([
      { begin: 0, end: 6, firstPrediction: 1 },
      { begin: 4, end: 10, firstPrediction: 6 },
      { begin: 8, end: 11, firstPrediction: 10 },
    ]);
  });

  it("predicts every token but the first once, with window − stride tokens before it where there are any", () => {
    const cases = fc
      .tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 2, max: 40 }))
      .chain(([length, window]) =>
        fc.tuple(fc.constant(length), fc.constant(window), fc.integer({ min: 1, max: window - 1 })),
      );
    fc.assert(
      fc.property(cases, ([length, window, stride]) => {
        const predicted: number[] = [];
        for (const { begin, end, firstPrediction } of windowsOf(length, { window, stride })) {
          expect(end - begin).toBeLessThanOrEqual(window);
          for (let token = firstPrediction; token < end; token++) {
            predicted.push(token);
            expect(token - begin).toBeGreaterThanOrEqual(Math.min(token, window - stride));
          }
        }
        expect(predicted).toEqual(Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1));
      }),
    );
  });

  it.each([
    [1, 1],
    [8, 8],
    [8, 0],
    [8.5, 2],
  ])("refuses a window of %d with a stride of %d", (window, stride) => {
    expect(() => windowsOf(20, { window, stride })).toThrow(/tokens predicts nothing|does not fit a window/);
  });
});
