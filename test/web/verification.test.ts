import { describe, expect, test } from "vitest";
import { readVerifyReport } from "../../web/src/pages/verification.ts";

describe("the report of a verification", () => {
  test("an identical merge has its number of tensors and nothing else", () => {
    expect(
      readVerifyReport({ verdict: "IDENTICAL", tensors: 56, differences: [], digest: "sha256:ab" }),
    ).toEqual({
      identical: true,
      tensors: 56,
      differences: [],
    });
  });

  test("every difference says in words what is not as recorded", () => {
    const what = ["stored", "derived", "missing", "unexpected", "input", "file", "of a later release"];
    const differences = what.map((kind) => ({ name: "a", what: kind, expected: "sha256:ab", actual: null }));
    const report = readVerifyReport({ verdict: "DIFFERENT", tensors: 1, differences })!;
    expect(report.identical).toBe(false);
    expect(report.differences.map((difference) => difference.what)).toEqual([
      "was changed on disk:",
      "comes out differently from base and adapter:",
      "is no longer in the files:",
      "was not part of the merge:",
      "base or adapter is another one now:",
      "was changed on disk:",
      "of a later release",
    ]);
    expect(report.differences[0]).toMatchObject({ name: "a", expected: "sha256:ab", actual: null });
  });

  test.each([[null], [undefined], ["IDENTICAL"], [{}], [[]]])("%j is no report", (value) => {
    expect(readVerifyReport(value)).toBeNull();
  });
});
