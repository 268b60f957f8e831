import { describe, expect, it } from "vitest";
import { forecastRounding, overallError } from "../../src/core/forecast.ts";
import { bitsToNumber, roundToBits } from "../../src/core/numerics.ts";
import { seeded } from "../support/canonical.ts";

const random = seeded(5);
const normal = (sigma: number) =>
  sigma * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** The same experiment done: weights on the grid, a change, one rounding. */
function measured(weightRms: number, deltaRms: number, dtype: "BF16" | "F16" | "F32") {
  let error = 0;
  let unchanged = 0;
  const n = 200_000;
  const store = (value: number) => bitsToNumber(dtype, roundToBits(dtype, Math.fround(value)));
  for (let i = 0; i < n; i++) {
    const w = store(normal(weightRms));
    const d = normal(deltaRms);
    const merged = store(w + d);
    error += (merged - (w + d)) ** 2;
    if (merged === w) unchanged++;
  }
  return { relativeError: Math.sqrt(error / n) / deltaRms, unchangedShare: unchanged / n };
}

describe("the forecast of what rounding costs", () => {
  it.each([
    [0.02, 3e-3, "BF16"],
    [0.02, 3e-4, "BF16"],
    [0.02, 3e-5, "BF16"],
    [0.02, 3e-4, "F16"],
    [1.5, 1e-3, "BF16"],
  ] as const)("for weights of rms %f and changes of rms %f in %s is what happens", (w, d, dtype) => {
    const forecast = forecastRounding(w, d, dtype);
    const done = measured(w, d, dtype);
    expect(forecast.unchangedShare).toBeCloseTo(done.unchangedShare, 1.7);
    expect(forecast.relativeError / done.relativeError).toBeGreaterThan(0.93);
    expect(forecast.relativeError / done.relativeError).toBeLessThan(1.07);
  });

  it("says that a hundredth of the weights' size loses about a sixth of itself in bfloat16", () => {
    expect(forecastRounding(0.02, 2e-4, "BF16").relativeError).toBeCloseTo(0.166, 2);
    expect(forecastRounding(0.02, 2e-4, "F32").relativeError).toBeLessThan(1e-4);
  });

  it("of no change, and of zero weights, is neither NaN nor alarming", () => {
    expect(forecastRounding(0.02, 0, "BF16")).toMatchObject({ relativeError: 0, unchangedShare: 1 });
    expect(forecastRounding(0, 1e-3, "BF16")).toMatchObject({ relativeError: 0 });
  });

  it("of a whole merge weighs each tensor by the size of its change", () => {
    const loud = { forecast: forecastRounding(0.02, 3e-3, "BF16"), elements: 1000 };
    const quiet = { forecast: forecastRounding(0.02, 3e-5, "BF16"), elements: 1000 };
    const both = overallError([loud, quiet])!;
    expect(both).toBeGreaterThan(loud.forecast.relativeError);
    expect(both).toBeLessThan(0.1);
    expect(overallError([{ forecast: null, elements: 5 }])).toBeNull();
  });
});
