import { describe, expect, it } from "vitest";
import type { VersionFacts } from "../../web/src/documents.ts";
import { describeEvent } from "../../web/src/jobs/events.ts";
import {
  describeDivergence,
  describeFollowed,
  describeVerdict,
  evaluationOf,
  latestVerdict,
  partOf,
} from "../../web/src/pages/evaluations.ts";

type Row = Parameters<typeof partOf>[0];
const input = (role: "BASE" | "ADAPTER" | "CANDIDATE", ref: string | null) => ({
  role,
  version: ref === null ? null : { ref },
});
const row = (...inputs: ReturnType<typeof input>[]) => ({ inputs }) as unknown as Row;

describe("an evaluation on the page of a version", () => {
  it("says what the version is to it", () => {
    const judged = row(
      input("BASE", "a/base@1"),
      input("ADAPTER", "a/lora@2"),
      input("CANDIDATE", "a/merged@1"),
    );
    expect(partOf(judged, "a/merged@1")).toBe("judged against a/base@1 + a/lora@2");
    const hidden = row(input("BASE", "a/base@1"), input("ADAPTER", null), input("CANDIDATE", "a/merged@1"));
    expect(partOf(hidden, "a/merged@1")).toBe("judged against a/base@1 + a version that you may not see");
    expect(partOf(judged, "a/lora@2")).toBe("in a/merged@1");
    const recipe = row(input("BASE", "a/base@1"), input("ADAPTER", "a/lora@2"));
    expect(partOf(recipe, "a/lora@2")).toBe("in the merge that a recipe gives");
  });

  it("writes a divergence in the digits of its report", () => {
    const told = (value: number, standardError: number | null, timesFloor: number | null) =>
      describeDivergence({ meanKld: { value, standardError }, timesFloor });
    expect(told(1.14e-5, 2.1e-6, 1.23e7)).toBe("1.1e-5 ± 0.2e-5 (1.2e7× the noise floor)");
    expect(told(1.5461, 0.0641, null)).toBe("1.546 ± 0.06");
    expect(told(0, null, 0)).toBe("0 (0× the noise floor)");
  });

  const edge = (role: "BASE" | "ADAPTER", ref: string | null, weight: number | null = null) => ({
    relation: "MERGED_FROM" as const,
    role,
    weight,
    node: ref === null ? null : { ref, location: null },
  });
  const version = (...edges: ReturnType<typeof edge>[]) =>
    ({ ref: "a/merged@1", parents: { edges } }) as unknown as VersionFacts;

  it("is offered for what was merged here, if all it was made of may be seen", () => {
    expect(evaluationOf(version(edge("BASE", "a/base@1"), edge("ADAPTER", "a/lora@2", 1)))).toEqual({
      reference: { base: { ref: "a/base@1" }, sources: [{ version: { ref: "a/lora@2" }, weight: 1 }] },
      candidate: { version: { ref: "a/merged@1" } },
    });
    expect(evaluationOf(version(edge("BASE", null), edge("ADAPTER", "a/lora@2", 1)))).toBeNull();
    expect(evaluationOf(version(edge("BASE", "a/base@1"), edge("ADAPTER", null, 1)))).toBeNull();
    expect(evaluationOf(version())).toBeNull();
  });

  it("ends with its verdict and the codes of its reasons among the events", () => {
    const said = (data: object) => describeEvent({ type: "SUCCEEDED", data });
    expect(said({ verdict: "PASSED", reasons: [] })).toBe("PASSED");
    expect(said({ verdict: "FAILED", reasons: ["LAYER_DROPPED", "KLD_ABOVE_GATE"] })).toBe(
      "FAILED: LAYER_DROPPED, KLD_ABOVE_GATE",
    );
    expect(said({ verdict: "PASSED" })).toBe("every tensor is identical");
    expect(said({ recommendation: "MERGE", reasons: ["SINGLE_TASK", "PARITY_PASSED"] })).toBe(
      "MERGE: SINGLE_TASK, PARITY_PASSED",
    );
  });

  it("counts as the version's verdict where it judged that very version, the newest one first", () => {
    const judged = (verdict: "PASSED" | "FAILED" | null, ref: string) => ({
      ...row(input("BASE", "a/base@1"), input("CANDIDATE", ref)),
      verdict,
    });
    const rows = [
      null,
      judged(null, "a/merged@1"),
      judged("FAILED", "a/other@1"),
      judged("PASSED", "a/merged@1"),
      judged("FAILED", "a/merged@1"),
    ];
    expect(latestVerdict(rows, version())?.verdict).toBe("PASSED");
    expect(latestVerdict(rows, { ...version(), ref: "a/base@1" })).toBeNull();
  });

  it("does not count against what it was not made from, and says what it rests on", () => {
    const against = (verdict: "PASSED" | "FAILED", lora: string) => ({
      ...row(input("BASE", "a/base@1"), input("ADAPTER", lora), input("CANDIDATE", "a/merged@1")),
      verdict,
      gate: { ref: "default@1" },
    });
    const rows = [against("FAILED", "a/other@1"), against("PASSED", "a/lora@2")];
    const made = version(edge("BASE", "a/base@1"), edge("ADAPTER", "a/lora@2", 1));
    expect(latestVerdict(rows, made)?.verdict).toBe("PASSED");
    expect(latestVerdict(rows, version())?.verdict).toBe("FAILED");
    expect(describeVerdict(rows[0]!)).toMatch(
      /Judged against a\/base@1 \+ a\/other@1 under the gate default@1\.$/,
    );
  });
});

describe("a merge that named a gate", () => {
  type Merge = NonNullable<Parameters<typeof describeFollowed>[0]>;
  const merge = (followed: Partial<NonNullable<Merge["evaluations"]>["nodes"][number]> | null) =>
    ({
      gate: { ref: "default@1" },
      evaluations: { nodes: followed ? [{ reasons: [], verdict: null, ...followed }] : [] },
    }) as unknown as Merge;

  it("says what became of its evaluation, verdict and reasons included", () => {
    expect(describeFollowed(merge(null))).toBe(
      "Evaluated under the gate default@1 as soon as there is a result.",
    );
    expect(describeFollowed(merge({ state: "RUNNING" }))).toBe(
      "Its evaluation under the gate default@1 is running.",
    );
    expect(describeFollowed(merge({ state: "SUCCEEDED", verdict: "PASSED" }))).toBe(
      "Evaluated under the gate default@1: PASSED.",
    );
    const reasons = [{ code: "LAYER_DROPPED" }, { code: "KLD_ABOVE_GATE" }];
    expect(describeFollowed(merge({ state: "SUCCEEDED", verdict: "FAILED", reasons }))).toBe(
      "Evaluated under the gate default@1: FAILED (LAYER_DROPPED, KLD_ABOVE_GATE).",
    );
  });

  it("says nothing where it named none", () => {
    expect(describeFollowed({ ...merge(null), gate: null })).toBeNull();
    expect(describeFollowed(null)).toBeNull();
  });
});
