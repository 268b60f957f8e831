import { describe, expect, it } from "vitest";
import { checkMerge, requireEffect, type TensorOutcome } from "../../src/core/parity.ts";
import type { MergePlan } from "../../src/core/plan.ts";
import type { PlanStep } from "../../src/core/plan-layout.ts";

const stats = { absmax: 1, rms: 1, nonFinite: 0 };
const outcome = (more: Partial<TensorOutcome> = {}): TensorOutcome => ({
  tensor: "w",
  touched: true,
  inputDigest: "before",
  outputDigest: "after",
  inputStats: stats,
  stats,
  changed: 4,
  elements: 4,
  updateIsZero: false,
  ...more,
});
const step = { tensor: "w", dtype: "F32", shape: [2, 2] } as unknown as PlanStep;
const header = { name: "w", dtype: "F32", shape: [2, 2], begin: 0, end: 16 } as const;
const good = {
  plan: { steps: [step], touched: [{ tensor: "w" }] } as unknown as MergePlan,
  outcomes: [outcome()],
  written: [header],
  files: ["config.json", "model.safetensors"],
  sampled: { rows: 2, elements: 4, differing: [] },
};
const failed = (change: Partial<Parameters<typeof checkMerge>[0]>) => {
  const report = checkMerge({ ...good, ...change });
  return [report.verdict, ...report.checks.filter((check) => !check.passed).map((check) => check.name)];
};

describe("the check after a merge", () => {
  it("passes what is right", () => {
    expect(failed({})).toEqual(["PASSED"]);
  });

  it.each([
    ["another shape", { written: [{ ...header, shape: [4, 1] }] }],
    ["another dtype", { written: [{ ...header, dtype: "BF16" as const }] }],
    ["a missing tensor", { written: [] }],
    ["a tensor too many", { written: [header, { ...header, name: "v" }] }],
  ])("fails on %s", (_, change) => {
    expect(failed(change)).toEqual(["FAILED", "names, shapes and dtypes are as planned"]);
  });

  it("fails where LoRA is left, in the files or in the tensors", () => {
    const left = ["FAILED", "an adapter before, none after"];
    expect(failed({ files: ["adapter_config.json"] })).toEqual(left);
    expect(failed({ plan: { ...good.plan, touched: [] } })).toEqual(left);
  });

  it("fails where an untouched tensor moved, a touched one is infinite, or a sampled row differs", () => {
    const still = outcome({ touched: false });
    expect(failed({ outcomes: [still] })).toEqual(["FAILED", "untouched tensors are identical"]);
    const infinite = outcome({ stats: { ...stats, nonFinite: 1 } });
    expect(failed({ outcomes: [infinite] })).toEqual(["FAILED", "touched tensors are finite"]);
    const differs = ["FAILED", "touched tensors equal the canonical value"];
    expect(failed({ sampled: { rows: 2, elements: 4, differing: ["w"] } })).toEqual(differs);
    expect(failed({ sampled: { rows: 0, elements: 0, differing: [] } })).toEqual(differs);
  });
});

describe("a touched tensor that did not change", () => {
  it("is a warning with its reason", () => {
    const warnings = (o: TensorOutcome) => checkMerge({ ...good, outcomes: [o] }).warnings;
    expect(warnings(outcome())).toEqual([]);
    expect(warnings(outcome({ changed: 0 }))[0]).toMatchObject({
      code: "TENSOR_UNCHANGED",
      subject: "w",
      message: expect.stringContaining("rounded away"),
    });
    expect(warnings(outcome({ changed: 0, updateIsZero: true }))[0]?.message).toContain("is zero");
  });

  it("is one even where adding zero turned a negative zero into zero", () => {
    const flipped = outcome({ changed: 1, updateIsZero: true });
    expect(checkMerge({ ...good, outcomes: [flipped] }).warnings).toHaveLength(1);
    expect(requireEffect([flipped])?.code).toBe("NO_EFFECT");
  });

  it("is an error where no other changed either", () => {
    expect(requireEffect([outcome({ changed: 0 })])?.code).toBe("NO_EFFECT");
    expect(requireEffect([outcome({ changed: 0 }), outcome()])).toBe(null);
    expect(requireEffect([outcome({ touched: false })])?.code).toBe("NO_EFFECT");
  });
});
