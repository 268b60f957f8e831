import { describe, expect, it } from "vitest";
import { withoutRounding } from "../../../src/core/branches.ts";
import { EXACT_NUMERICS } from "../../../src/core/numerics-versions.ts";
import { recipeSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { logitsOf } from "../../support/logits-of-side.ts";
import { planCase, relativeDifference } from "../../support/merge-cases.ts";

/*
 * A whole forward pass with run-time branches, against one whose weights are computed exactly and stored as float32: two
 * ways to the same model that share the pass, but neither the forms nor the arithmetic of adapted weights.
 */

/** Shapes that an adapted weight takes on its way through a forward pass: each needs its own place in it. */
const RUN = [
  "llama-dora",
  "llama-dora-embedding",
  "llama-embed-lora",
  "llama-tied-embed-head",
  "llama-save-embed-head",
  "llama-vocab-resized",
  "llama-tied-token-rows",
  "llama-lora-bias",
  "llama-kasa",
  "gpt2-dora",
  "gpt2-fan-false",
  "gpt_neox-linear",
  "phi3-fused",
  "mixtral-experts",
  "delora",
  "ia3",
  "ia3-bias",
  "randlora",
  "loha",
  "oft",
  "ln-tuning",
];

describe("a forward pass with branches is one with the adapted weights, rounding to float32 apart", () => {
  it.each(RUN)("%s", async (name) => {
    const { base, adapter, plan } = await planCase(name, { dtype: "F32", numerics: EXACT_NUMERICS });
    const reference = referenceSide({
      base,
      sources: [{ ...adapter, weight: 1 }],
      choices: { weights: [1], tokenizer: null },
    });
    const steps = plan.steps.map((step) => ({ ...step, expr: step.expr && withoutRounding(step.expr) }));
    const computed = recipeSide({ ...plan, steps }, base, [adapter]);
    const [beside, within] = [await logitsOf(reference), await logitsOf(computed)];
    expect(within.length).toBeGreaterThan(1);
    expect(relativeDifference(beside, within)).toBeLessThan(1e-5);
  });
});
