import { describe, expect, it } from "vitest";
import { adviseOn, breakEven, parseAdvice, type ServingFacts } from "../../../src/core/evaluation/advice.ts";
import { EXAMPLE_FACTS as FACTS, PASSED_PARITY as PASSED } from "../../support/example-advice.ts";

const adviceOn = (change: Partial<ServingFacts>) => adviseOn({ ...FACTS, ...change });
const decision = (change: Partial<ServingFacts>) => {
  const { recommendation, reasons } = adviceOn(change);
  return [recommendation, reasons[0]!.code];
};

describe("the number of adapters from which serving apart takes less", () => {
  it.each([
    [{ base: 16, adapter: 1, merged: 16 }, 2],
    // 16 + 2·8 = 2·16: equal is not less.
    [{ base: 16, adapter: 8, merged: 16 }, 3],
    [{ base: 15, adapter: 8, merged: 16 }, 2],
    [{ base: 100, adapter: 1, merged: 10 }, 12],
    [{ base: 10, adapter: 10, merged: 10 }, null],
    [{ base: 10, adapter: 30, merged: 20 }, null],
  ])("of %o is %s", (sizes, expected) => {
    expect(breakEven(sizes)).toBe(expected);
    if (expected === null) return;
    const apart = (n: number) => sizes.base + n * sizes.adapter;
    expect(apart(expected)).toBeLessThan(expected * sizes.merged);
    expect(apart(expected - 1)).toBeGreaterThanOrEqual((expected - 1) * sizes.merged);
  });
});

describe("an advice", () => {
  it("merges for one task, and says what each token would cost beside the base", () => {
    const advice = adviceOn({});
    expect([advice.recommendation, advice.reasons[0]!.code]).toEqual(["MERGE", "SINGLE_TASK"]);
    expect(advice.perTokenCost).toBeCloseTo(0.2, 12);
    expect(advice.reasons).toContainEqual(
      expect.objectContaining({
        code: "TOKEN_COST",
        favours: "MERGE",
        message: expect.stringContaining("20 %"),
      }),
    );
    expect(advice.reasons.map(({ code }) => code)).toContain("PARITY_PASSED");
    expect(parseAdvice(JSON.parse(JSON.stringify(advice)))).toEqual(advice);
  });

  it("sends nobody for more texts where the models could not be run", () => {
    const open = (codes: string[]) =>
      adviceOn({ parity: { ...PASSED, verdict: "INCONCLUSIVE", codes } }).reasons.find(
        ({ code }) => code === "PARITY_OPEN",
      )!.message;
    expect(open(["TOO_FEW_DOCUMENTS"])).toContain("Evaluate it with more texts before it goes out.");
    expect(open(["LEVEL_NOT_MEASURED"])).toContain("compare their answers with another tool");
    expect(open(["LEVEL_NOT_MEASURED"])).not.toContain("more texts");
  });

  it("keeps several tasks beside one base, from the number on at which that takes less", () => {
    expect(decision({ planned: 2 })).toEqual(["SEPARATE", "SEVERAL_TASKS"]);
    const heavy = { base: 16e9, adapter: 12e9, merged: 16e9 };
    expect(decision({ planned: 3, disk: heavy, memory: heavy })).toEqual(["MERGE", "FEW_TASKS"]);
    expect(decision({ planned: 5, disk: heavy, memory: heavy })).toEqual(["SEPARATE", "SEVERAL_TASKS"]);
    const whole = { base: 16e9, adapter: 16e9, merged: 16e9 };
    expect(decision({ planned: 50, disk: whole, memory: whole })).toEqual(["MERGE", "FEW_TASKS"]);
  });

  it("serves no merge that lost what the adapter does", () => {
    const parity = { ...PASSED, verdict: "FAILED" as const, codes: ["KLD_ABOVE_GATE"] };
    expect(decision({ parity })).toEqual(["SEPARATE", "PARITY_FAILED"]);
    expect(adviceOn({ parity }).reasons[0]!.message).toContain("KLD_ABOVE_GATE");
  });

  it("keeps the adapter of a quantised base apart, unless the measured loss is acceptable", () => {
    const quantised = { quantisation: { base: "fp8", training: null } };
    const open = {
      parity: { ...PASSED, verdict: "INCONCLUSIVE" as const, codes: ["TOO_FEW_DOCUMENTS"] },
    };
    const none = { parity: null, paritySkipped: "the base is quantised." };
    expect(decision(quantised)).toEqual(["MERGE", "SINGLE_TASK"]);
    expect(decision({ ...quantised, ...open })).toEqual(["SEPARATE", "QUANTISED_BASE"]);
    expect(decision({ ...quantised, ...none })).toEqual(["SEPARATE", "QUANTISED_BASE"]);
    const trained = { quantisation: { base: null, training: "It was trained on a 4-bit base." } };
    expect(decision(trained)).toEqual(["MERGE", "SINGLE_TASK"]);
    expect(decision({ ...trained, ...open })).toEqual(["SEPARATE", "QUANTISED_TRAINING"]);
    // What was not measured is said even so.
    expect(adviceOn(trained).reasons).toContainEqual(
      expect.objectContaining({ code: "QUANTISED_TRAINING", favours: null }),
    );
  });

  it("merges what no server serves beside a base", () => {
    const obstacles = ["it has magnitudes (DoRA)"];
    expect(decision({ planned: 9, obstacles })).toEqual(["MERGE", "NOT_SERVABLE"]);
    const labels = { base: "base", sources: ["a", "b"], merged: null };
    expect(decision({ planned: 9, labels })).toEqual(["MERGE", "SEVERAL_SOURCES"]);
  });

  it("says that rounding blurs a light adapter, and decides by what was measured of the answers", () => {
    const retention = { relativeError: 1.2, projection: 0.98, moved: 0.31 };
    const advice = adviceOn({ retention });
    expect(advice.recommendation).toBe("MERGE");
    expect(advice.reasons).toContainEqual(
      expect.objectContaining({ code: "CHANGE_BLURRED", favours: "SEPARATE" }),
    );
  });

  it("says what was not measured", () => {
    const advice = adviceOn({
      times: null,
      timesSkipped: "A classifier generates no tokens.",
      parity: null,
      paritySkipped: "No tokenizer.",
      retention: null,
    });
    expect(advice.perTokenCost).toBeNull();
    const messages = advice.reasons.map(({ message }) => message).join(" ");
    expect(messages).toContain("A classifier generates no tokens.");
    expect(messages).toContain("No tokenizer.");
  });

  it("is refused by its reader where a field is wrong", () => {
    const advice = { ...adviceOn({}), recommendation: "PERHAPS" };
    expect(() => parseAdvice(advice)).toThrow(/BAD_ADVICE|field "recommendation"/);
  });
});
