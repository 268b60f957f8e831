import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  counted,
  figure,
  figureWithError,
  grouped,
  intervalText,
  percent,
  percentWithError,
} from "../../../src/core/evaluation/wording.ts";

const metric = (value: number, standardError: number | null) => ({ value, standardError, interval: null });

describe("numbers for people", () => {
  it.each([
    [0, "0"],
    [1e-3, "1e-3"],
    [1.1e-5, "1.1e-5"],
    [1.234e-5, "1.23e-5"],
    [-4.5e-7, "-4.5e-7"],
    [0.99532, "0.9953"],
    [12.3456, "12.35"],
    [1500.25, "1500.25"],
    [3e9, "3e9"],
    [1e10, "1e10"],
  ])("are short: %d is %s", (value, text) => {
    expect(figure(value)).toBe(text);
  });

  it("never change a value by more than half of a hundredth", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e12, max: 1e12 }), (value) => {
        expect(Math.abs(Number(figure(value)) - value)).toBeLessThanOrEqual(Math.abs(value) * 0.00501);
      }),
    );
  });

  it.each([
    [1.1e-5, 0.2e-5, "1.1e-5 ± 0.2e-5"],
    [1.1e-5, 1.3e-7, "1.10e-5 ± 0.01e-5"],
    [2e-6, 5e-5, "2.0e-6 ± 50.0e-6"],
    [0, 3e-6, "0.0e-6 ± 3.0e-6"],
    [0.99532, 0.00042, "0.9953 ± 0.0004"],
    [1.00009, 0.00006, "1.00009 ± 0.00006"],
    [120, 0.4, "120 ± 0.4"],
    [8.4123, 0.314, "8.412 ± 0.3"],
    [1.5e-5, 0, "1.5e-5"],
    [1.5e-5, null, "1.5e-5"],
  ])("carry their error in the same power of ten: %d, %d", (value, error, text) => {
    expect(figureWithError(metric(value, error))).toBe(text);
  });

  it.each([
    [1, "100 %"],
    [0, "0 %"],
    [0.995, "99.5 %"],
    [0.9987, "99.87 %"],
    [0.99996, "99.996 %"],
    [0.9999999, "99.99999 %"],
    [0.00001, "0.001 %"],
    [-0.005, "-0.5 %"],
  ])("round no share to all or nothing: %d", (share, text) => {
    expect(percent(share)).toBe(text);
  });

  it.each([
    [1.0000005, 1.0002, "figure", "1 to 1.0002"],
    [7.82312, 9.0941, "figure", "7.823 to 9.094"],
    [-1.12e-5, 8.46e-6, "figure", "-1.12e-5 to 8.46e-6"],
    [0.9971, 0.9988, "share", "99.71 % to 99.88 %"],
    [0.99971, 0.99977, "share", "99.971 % to 99.977 %"],
    [1, 1, "share", "100 % to 100 %"],
  ] as const)("tell the ends of an interval apart: %d and %d", (from, to, form, text) => {
    expect(intervalText({ value: from, standardError: 1, interval: [from, to] }, form)).toBe(text);
  });

  it("have separators, plurals and intervals", () => {
    expect([grouped(7), grouped(1234), grouped(1_234_567)]).toEqual(["7", "1,234", "1,234,567"]);
    expect([counted(1, "document"), counted(2000, "document")]).toEqual(["1 document", "2,000 documents"]);
    expect(percentWithError(metric(0.9981, 0.0004))).toBe("99.81 % ± 0.04 %");
    expect(intervalText({ value: 1, standardError: 1, interval: [0.5, 1] }, "share")).toBe("50 % to 100 %");
    expect(intervalText(metric(1, null), "share")).toBe("–");
  });
});
