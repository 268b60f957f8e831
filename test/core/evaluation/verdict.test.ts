import { describe, expect, it } from "vitest";
import { parseGate } from "../../../src/core/evaluation/gates.ts";
import { notMeasured } from "../../../src/core/evaluation/not-measured.ts";
import type { LogitsReport, Metric, Reason, Thresholds } from "../../../src/core/evaluation/report.ts";
import { judge, type Unjudged } from "../../../src/core/evaluation/verdict.ts";
import { exampleLogits, exampleTasks, exampleText, exampleUnjudged } from "../../support/example-report.ts";

const metric = (value: number, low: number, high: number): Metric => ({
  value,
  standardError: (high - low) / 4,
  interval: [low, high],
});

function withLogits(changes: Partial<LogitsReport>): Unjudged {
  return exampleUnjudged({ logits: { ...exampleLogits(), ...changes } });
}

function withKld(mean: Metric, floor: number | null = 1e-9): Unjudged {
  const logits = exampleLogits();
  return withLogits({
    kld: { ...logits.kld, mean },
    floor: floor === null ? null : { ...logits.floor!, meanKld: floor },
    timesFloor: floor === null ? null : mean.value / floor,
  });
}

/** Where every document says the same, but the interval knows how few they are. */
function withSame(interval: readonly [number, number], documents = 64): Unjudged {
  return withLogits({ sameTop: { value: 1, standardError: 0, interval: [...interval] }, documents });
}

/** A gate with these thresholds for BF16, the example's dtype. */
function gated(thresholds: Partial<Thresholds>, rest: Partial<Unjudged> = {}, gate: object = {}): Unjudged {
  return exampleUnjudged({
    ...rest,
    gate: parseGate({ name: "own", thresholds: { BF16: thresholds }, ...gate }),
  });
}

const told = (report: Unjudged, diagnosed: Reason[] = []) => {
  const { verdict, reasons } = judge(report, diagnosed);
  return [verdict, ...reasons.map((reason) => reason.code)];
};

const dropped: Reason = {
  code: "LAYER_DROPPED",
  level: 1,
  message: "Layer 3 is the base's.",
  subject: "layer 3",
  value: null,
  threshold: null,
};

describe("a verdict", () => {
  it("is PASSED, without reasons, where every bound holds for the whole interval", () => {
    expect(judge(exampleUnjudged(), [])).toEqual({ verdict: "PASSED", reasons: [] });
  });

  it("is FAILED for a diagnosed reason, which comes first, and a failed check that says something else", () => {
    const checks = [
      { level: 1 as const, name: "touched", passed: false, detail: "Layer 3 is the base's. And more." },
      { level: 0 as const, name: "tokenizer", passed: false, detail: "tokenizer.json is another file." },
    ];
    const { verdict, reasons } = judge(exampleUnjudged({ checks }), [dropped]);
    expect(verdict).toBe("FAILED");
    expect(reasons.map(({ code, level, subject }) => [code, level, subject])).toEqual([
      ["LAYER_DROPPED", 1, "layer 3"],
      ["CHECK_FAILED", 0, "tokenizer"],
    ]);
    expect(reasons[1]!.message).toBe('The check "tokenizer" failed: tokenizer.json is another file.');
  });

  it("is FAILED where a touched weight lies beyond the gate's ulp, and names the worst tensor", () => {
    const weights = exampleUnjudged().weights!;
    const tensors = weights.tensors.map((tensor, i) => ({
      ...tensor,
      maxUlp: i === 5 ? 9 : i === 7 ? 2 : 1,
    }));
    const { verdict, reasons } = judge(exampleUnjudged({ weights: { ...weights, maxUlp: 9, tensors } }), []);
    expect(verdict).toBe("FAILED");
    expect(reasons).toEqual([
      {
        code: "ULP_ABOVE_GATE",
        level: 1,
        message:
          "The largest distance of a touched weight from its canonical value is 9 ulp, in " +
          "model.layers.0.mlp.up_proj.weight; 2 tensors are beyond; the gate allows 1 ulp.",
        subject: "model.layers.0.mlp.up_proj.weight",
        value: 9,
        threshold: 1,
      },
    ]);
    const within = { ...weights, maxUlp: 1, tensors: tensors.map((tensor) => ({ ...tensor, maxUlp: 1 })) };
    expect(told(exampleUnjudged({ weights: within }))).toEqual(["PASSED"]);
  });

  it("is FAILED for one logit that is no number", () => {
    const { verdict, reasons } = judge(withLogits({ nonFiniteLogits: 1 }), []);
    expect(verdict).toBe("FAILED");
    expect(reasons[0]).toMatchObject({ code: "NON_FINITE_LOGITS", value: 1, threshold: 0 });
    expect(reasons[0]!.message).toBe("1 logit of the candidate is NaN or infinite; none may be.");
  });

  it("does not rest on the layer where the two sides part", () => {
    expect(told(withLogits({ firstApart: { layer: "layer 3", why: "5× the floor" } }))).toEqual(["PASSED"]);
  });
});

describe("a bound on the mean KLD", () => {
  it.each([
    ["the whole interval below", metric(5e-4, 4e-4, 9.9e-4), "PASSED"],
    ["the interval ends at the bound", metric(5e-4, 4e-4, 1e-3), "PASSED"],
    ["the value below, the interval across", metric(9e-4, 7e-4, 1.2e-3), "INCONCLUSIVE"],
    ["the value above, the interval across", metric(1.1e-3, 9e-4, 1.5e-3), "INCONCLUSIVE"],
    ["the whole interval above", metric(2e-3, 1.1e-3, 4e-3), "FAILED"],
  ])("is judged by the interval: %s", (_, mean, verdict) => {
    expect(judge(withKld(mean), []).verdict).toBe(verdict);
  });

  it("says value, error, floor and bound in one sentence", () => {
    const { reasons } = judge(withKld(metric(3.2e-3, 2.8e-3, 3.6e-3), 1e-3), []);
    expect(reasons).toEqual([
      {
        code: "KLD_ABOVE_GATE",
        level: 2,
        message: "Mean KLD 3.2e-3 ± 0.2e-3 nats, 3.2× the noise floor; the gate allows 1e-3.",
        subject: "meanKld",
        value: 3.2e-3,
        threshold: 1e-3,
      },
    ]);
  });

  it("says how much text would decide it: the interval shrinks with the root of the number", () => {
    // 64 documents reach 3e-4 upwards; the bound is 1e-4 away: 9 times as many.
    const { reasons } = judge(withKld(metric(9e-4, 7e-4, 1.2e-3)), []);
    expect(reasons[0]!.code).toBe("TOO_LITTLE_TEXT");
    expect(reasons[0]!.message).toContain("64 documents; about 580 documents would be needed.");
    // Above the bound only what reaches down matters: (2e-4 / 1e-4)² × 64 = 256.
    expect(judge(withKld(metric(1.1e-3, 9e-4, 1.9e-3)), []).reasons[0]!.message).toContain(
      "about 260 documents",
    );
    const { reasons: close } = judge(withKld(metric(1.000001e-3, 7e-4, 1.2e-3)), []);
    expect(close[0]!.message).toContain("too close to the threshold for any number to decide");
  });

  it("says that the threshold itself is never certain, such as a gate that asks for 100 % of what was found", () => {
    const { reasons } = judge(gated({ sameTop: 1 }, { logits: withSame([0.95, 1]).logits }), []);
    expect(reasons[0]!.message).toContain("choose a gate that asks for a little less");
  });

  it("expects an interval of samples that are all alike to shrink with their number, and guesses nothing of a few", () => {
    // 64 documents reach 0.02 down; the bound is 0.01 away: twice as many.
    expect(judge(withSame([0.98, 1]), []).reasons[0]!.message).toContain("about 130 documents");
    const few = judge(withSame([0.6, 1], 2), []).reasons[0]!.message;
    expect(few).toContain("2 documents; too few to tell how many more are needed.");
  });

  it("cannot be told from one document, which has no interval", () => {
    const one = withKld({ value: 1e-9, standardError: null, interval: null }, null);
    const report = {
      ...one,
      logits: { ...one.logits!, documents: 1 },
      gate: { ...one.gate, minimumDocuments: 0 },
    };
    expect(told(report)).toEqual(["INCONCLUSIVE", "TOO_LITTLE_TEXT"]);
  });

  it("passes what is at or below the noise floor, whatever its interval", () => {
    expect(told(withKld(metric(9e-4, 7e-4, 1.2e-3), 9e-4))).toEqual(["PASSED"]);
    expect(told(withKld(metric(9e-4, 7e-4, 1.2e-3), null))).toEqual(["INCONCLUSIVE", "TOO_LITTLE_TEXT"]);
  });

  it("is not decided by a floor above it: the machine cannot tell what the gate asks", () => {
    expect(told(withKld(metric(2e-3, 1.5e-3, 3e-3), 2e-3))).toEqual(["INCONCLUSIVE", "FLOOR_ABOVE_GATE"]);
    expect(told(withKld(metric(5e-4, 4e-4, 6e-4), 2e-3))).toEqual(["PASSED"]);
    expect(told(withKld(metric(3e-3, 2.5e-3, 4e-3), 2e-3))).toEqual(["FAILED", "KLD_ABOVE_GATE"]);
  });
});

describe("the number of documents", () => {
  const few = (changes: Partial<LogitsReport> = {}) => withLogits({ documents: 12, ...changes });

  it("leaves a verdict open where it is below the gate's, unless something failed already", () => {
    const { verdict, reasons } = judge(few(), []);
    expect(verdict).toBe("INCONCLUSIVE");
    expect(reasons).toMatchObject([{ code: "TOO_FEW_DOCUMENTS", value: 12, threshold: 30 }]);
    expect(reasons[0]!.message).toBe(
      "Too little text: 12 documents; the gate asks for 30 or more. Evaluate with more texts.",
    );
    expect(told(few({ sameTop: metric(0.5, 0.4, 0.6) }))).toEqual(["FAILED", "SAME_TOP_BELOW_GATE"]);
    expect(told(few(), [dropped])).toEqual(["FAILED", "LAYER_DROPPED"]);
  });

  it("does not matter to a gate that judges weights only", () => {
    expect(told(gated({ maxUlp: 1 }, { logits: few().logits }))).toEqual(["PASSED"]);
  });
});

describe("other bounds", () => {
  it.each([
    [metric(0.995, 0.99, 0.998), "PASSED"],
    [metric(0.991, 0.985, 0.995), "INCONCLUSIVE"],
    [metric(0.95, 0.93, 0.989), "FAILED"],
  ])("on equal top tokens are lower bounds: %j is %s", (sameTop, verdict) => {
    expect(judge(withLogits({ sameTop }), []).verdict).toBe(verdict);
  });

  it("on the perplexity ratio hold to both sides of 1", () => {
    const ratio = (value: Metric) => {
      const logits = exampleLogits();
      return gated(
        { perplexityRatio: 0.01 },
        { logits: { ...logits, perplexity: { ...logits.perplexity!, ratio: value } } },
      );
    };
    expect(told(ratio(metric(1.001, 0.995, 1.009)))).toEqual(["PASSED"]);
    expect(told(ratio(metric(0.98, 0.97, 0.985)))).toEqual(["FAILED", "PERPLEXITY_BEYOND_GATE"]);
    expect(told(ratio(metric(1.02, 1.015, 1.03)))).toEqual(["FAILED", "PERPLEXITY_BEYOND_GATE"]);
    expect(told(ratio(metric(0.995, 0.98, 1.02)))).toEqual(["INCONCLUSIVE", "TOO_LITTLE_TEXT"]);
    const classifier = gated({ perplexityRatio: 0.01 }, { logits: { ...exampleLogits(), perplexity: null } });
    expect(told(classifier)).toEqual(["INCONCLUSIVE", "METRIC_NOT_MEASURED"]);
  });

  it("on continuations and accuracy are judged by their own samples", () => {
    const [prompt] = exampleText().prompts;
    const prompts = Array.from({ length: 20 }, () => prompt!);
    const text = { ...exampleText(), prompts, exactMatch: metric(0.5, 0.4, 0.6) };
    expect(told(gated({ exactMatch: 0.9 }, { text }))).toEqual(["FAILED", "EXACT_MATCH_BELOW_GATE"]);
    expect(told(gated({ exactMatch: 0.3 }, { text }))).toEqual(["PASSED"]);
    const { reasons } = judge(gated({ exactMatch: 0.45 }, { text }), []);
    expect(reasons[0]!.message).toContain("20 prompts; about 80 prompts would be needed");

    const tasks = (difference: Metric) => ({ tasks: { ...exampleTasks(), difference } });
    expect(told(gated({ accuracyDrop: 0.02 }, tasks(metric(-0.005, -0.015, 0.004))))).toEqual(["PASSED"]);
    expect(told(gated({ accuracyDrop: 0.02 }, tasks(metric(-0.05, -0.08, -0.03))))).toEqual([
      "FAILED",
      "ACCURACY_BELOW_GATE",
    ]);
    expect(told(gated({ accuracyDrop: 0.02 }, tasks(metric(0.05, 0.02, 0.08))))).toEqual(["PASSED"]);
  });

  it("do not judge what the gate leaves out", () => {
    const logits = { ...exampleLogits(), sameTop: metric(0.1, 0.05, 0.15) };
    expect(told(gated({ meanKld: 1e-3 }, { logits }))).toEqual(["PASSED"]);
  });
});

describe("what was not measured", () => {
  const unsupported = {
    logits: null,
    logitsSkipped: "the architecture MambaForCausalLM has no forward pass here.",
    text: null,
  };

  it("leaves the verdict open where the gate requires it, with the reason why it was not", () => {
    const { verdict, reasons } = judge(exampleUnjudged(unsupported), []);
    expect(verdict).toBe("INCONCLUSIVE");
    expect(reasons).toMatchObject([{ code: "LEVEL_NOT_MEASURED", level: 2 }]);
    expect(reasons[0]!.message).toBe(
      "The gate requires level 2. Level 2 (logits) was not measured: the architecture MambaForCausalLM has no forward pass here.",
    );
    expect(told(exampleUnjudged(unsupported), [dropped])).toEqual(["FAILED", "LAYER_DROPPED"]);
  });

  it("is said of each level, with the reason", () => {
    const messages = (changes: Partial<Unjudged>) =>
      notMeasured(exampleUnjudged(changes)).map(({ message }) => message);
    expect(messages({})).toEqual([]);
    expect(messages({ text: null, tasks: null })).toEqual([
      "Level 3 (text) was not measured: no prompts were given.",
      "Level 4 (tasks) was not measured: no labelled set was given.",
    ]);
    expect(messages({ ...unsupported, tasks: null }).slice(1)).toEqual([
      "Level 3 (text) was not measured: the models were not run.",
      "Level 4 (tasks) was not measured: the models were not run.",
    ]);
    const classifier = { ...exampleLogits(), perplexity: null, deltaP: null, floor: null, layers: [] };
    expect(messages({ logits: classifier, text: null, tasks: null })).toEqual([
      "The noise floor was not measured, so that no difference can be called noise.",
      "Perplexity and Δp were not measured: a classifier predicts no next token.",
      "The error of each layer was not measured.",
      "Level 3 (text) was not measured: a classifier writes no text.",
      "Level 4 (tasks) was not measured: a classifier writes no text.",
    ]);
    expect(messages({ weights: null })[0]).toContain("Level 1 (weights) was not measured");
  });

  it("does not matter where the gate does not require it", () => {
    expect(told(exampleUnjudged({ text: null, tasks: null }))).toEqual(["PASSED"]);
    expect(told(gated({ maxUlp: 1 }, unsupported))).toEqual(["PASSED"]);
    expect(told(gated({ exactMatch: 0.5 }, { text: null }))).toEqual(["INCONCLUSIVE", "LEVEL_NOT_MEASURED"]);
    expect(told(gated({ exactMatch: 0.5 }, { text: null }, { requires: [2] }))).toEqual(["PASSED"]);
  });

  it("includes weights that nobody could compare, but not the canonical value that several adapters do not have", () => {
    expect(told(exampleUnjudged({ weights: null }))).toEqual(["INCONCLUSIVE", "LEVEL_NOT_MEASURED"]);
    const { weights, reference } = exampleUnjudged();
    const tensors = weights!.tensors.map((tensor) => ({ ...tensor, differing: null, maxUlp: null }));
    const unknown = { ...weights!, maxUlp: null, tensors };
    expect(told(exampleUnjudged({ weights: unknown }))).toEqual(["INCONCLUSIVE", "LEVEL_NOT_MEASURED"]);
    const [source] = reference.sources;
    const several = { ...reference, sources: [source!, source!] };
    expect(told(exampleUnjudged({ weights: unknown, reference: several }))).toEqual(["PASSED"]);
    // Types that are compared as bytes have no unit in the last place, and may be canonical all the same.
    const bytes = weights!.tensors.map((tensor) => ({ ...tensor, maxUlp: null }));
    expect(told(exampleUnjudged({ weights: { ...weights!, maxUlp: null, tensors: bytes } }))).toEqual([
      "PASSED",
    ]);
  });

  it("includes a gate that says nothing of the candidate's storage type: nothing was judged", () => {
    const gate = parseGate({ name: "own", thresholds: { F32: { meanKld: 1 } } });
    const { reasons } = judge(exampleUnjudged({ gate }), []);
    expect(reasons).toMatchObject([{ code: "GATE_WITHOUT_THRESHOLDS", subject: "BF16" }]);
    expect(reasons[0]!.message).toContain("own@1 has no threshold for a candidate stored in BF16");
  });
});
