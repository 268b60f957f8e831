import { describe, expect, test } from "vitest";
import {
  betaQuantile,
  chiSquaredTail,
  fairBinomialTail,
  incompleteBeta,
  logGamma,
  studentQuantile,
} from "../../../src/core/evaluation/distributions.ts";

/* All expected values are scipy 1.17.1's. */

function close(value: number, expected: number, relative = 1e-10) {
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(relative * Math.abs(expected));
}

describe("distribution functions agree with scipy", () => {
  test.each([
    [0.1, 2.252712651734206],
    [0.5, 0.5723649429247],
    [3.7, 1.428072326665388],
    [100, 359.1342053695754],
    [1e6, 12815504.569147611],
  ])("ln Γ(%d)", (x, expected) => close(logGamma(x), expected, 1e-12));

  test.each([
    [0.3, 2, 5, 0.5798250000000003],
    [0.9, 2, 5, 0.999945],
    [0.5, 0.5, 0.5, 0.5],
    [0.999, 5000, 3, 0.12435737403741323],
    [0.01, 0.1, 40, 0.927171196668713],
  ])("I_%d(%d, %d)", (x, a, b, expected) => close(incompleteBeta(x, a, b), expected));

  test.each([
    [0.025, 5, 1, 0.4781762498950185],
    [0.025, 58, 8, 0.7906184007420958],
    [0.975, 59, 7, 0.9555913430791529],
    [0.025, 999.5, 1.5, 0.9953355411912086],
    [0.975, 0.5, 3, 0.5949531330134032],
    [0.025, 1e6, 1, 0.9999963111273498],
  ])("quantile %d of beta(%d, %d)", (p, a, b, expected) => close(betaQuantile(p, a, b), expected));

  test.each([
    [1, 12.706204736174694],
    [2, 4.302652729749462],
    [2.5, 3.5746548420036817],
    [9, 2.262157162798205],
    [63, 1.998340542520741],
    [1e5, 1.9599877075346095],
  ])("Student's t of %d degrees of freedom stays below %d in 97.5 of 100 cases", (df, expected) =>
    close(studentQuantile(0.975, df), expected),
  );

  test.each([
    [0, 1],
    [0.01, 0.920344325445942],
    [1, 0.31731050786291115],
    [3.841458820694124, 0.05],
    [7.9, 0.004943479736228239],
    [8.1, 0.004426525857919834],
    [30, 4.3204630578274955e-8],
    [100, 1.5239706048320995e-23],
  ])("chi-squared's tail beyond %d", (x, expected) => close(chiSquaredTail(x), expected));

  test("the tail of fair coins is the sum of its terms", () => {
    // 1 + 10 + 45 + 120 of 1,024
    close(fairBinomialTail(3, 10), 176 / 1024, 1e-13);
    expect(fairBinomialTail(10, 10)).toBe(1);
    close(fairBinomialTail(0, 24), 2 ** -24, 1e-12);
  });
});
