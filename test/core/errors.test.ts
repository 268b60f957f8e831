import { describe, expect, it } from "vitest";
import { refusal } from "../../src/core/errors.ts";

const reasons = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ code: "SHAPE_MISMATCH", message: `module ${i} does not fit.` }));

describe("a refusal", () => {
  it("says one reason as it is, and numbers several", () => {
    expect(refusal("this merge is refused", reasons(1)).message).toBe(
      "this merge is refused: module 0 does not fit.",
    );
    expect(refusal("refused", reasons(2)).message).toBe(
      "refused: (1) SHAPE_MISMATCH: module 0 does not fit. (2) SHAPE_MISMATCH: module 1 does not fit.",
    );
  });

  it("keeps its message readable however many tensors say the same, and holds all reasons", () => {
    const error = refusal("refused", reasons(224));
    expect(error.message.length).toBeLessThan(600);
    expect(error.message).toContain("(8) SHAPE_MISMATCH: module 7 does not fit. And 216 more reasons.");
    expect(error.reasons).toHaveLength(224);
    expect(refusal("refused", reasons(9)).message).toMatch(/And 1 more reason\.$/);
  });
});
