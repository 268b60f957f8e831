import { describe, expect, it } from "vitest";
import { bf16ToNumber, f16ToNumber, floatFromBits, widen } from "../../src/core/dtype.ts";
import { evaluate } from "../../src/core/evaluate.ts";
import { asLowRankUpdate, base, lowRankUpdate, source } from "../../src/core/expr.ts";
import {
  bitsToNumber,
  canonical,
  exact,
  fma32,
  rankBlocks,
  roundOnce,
  roundToBits,
} from "../../src/core/numerics.ts";
import { exactFma, mergeReference, randomCase, seeded } from "../support/canonical.ts";
import { hashedRow, TORCH_ROW_LENGTHS } from "../support/row-lengths.ts";

describe("the canonical arithmetic", () => {
  // Made with torch 2.13: W in bf16, scaled delta D in float32, bf16(W + D).
  it.each([
    [0xbb6e, 0xbb8a7d03, 0xbc01],
    [0xb928, 0xbb6cdbc1, 0xbb77],
    [0xbb4b, 0x3c2f4568, 0x3bf9],
    [0xbc27, 0xbab13dfd, 0xbc3d],
    [0x3ca8, 0xba7327b5, 0x3ca0],
  ])("adds to %i the change %i as torch does", (w, d, expected) => {
    expect(roundToBits("BF16", Math.fround(bf16ToNumber(w) + floatFromBits(d)))).toBe(expected);
  });

  it("fuses multiply and add, with one rounding", () => {
    expect(fma32(1 + 2 ** -12, 1 + 2 ** -12, -(1 + 2 ** -11))).toBe(2 ** -24);
  });

  it("does not round twice where float64 lands on a float32 midpoint", () => {
    // The product is 2⁻²⁴ − 2⁻⁷⁰: float64 cannot hold the sum with an odd c and rounds it onto the midpoint, from
    // which a second rounding to float32 would go up to even.
    const x = 2 ** -12 * (1 + 2 ** -23);
    const y = 2 ** -12 * (1 - 2 ** -23);
    const odd = 1 + 2 ** -23;
    expect(Math.fround(x * y + odd)).toBe(1 + 2 ** -22);
    expect(fma32(x, y, odd)).toBe(odd);
    expect(fma32(-x, y, -odd)).toBe(-odd);
  });

  it("multiplies and adds as whole numbers do, over the whole range of float32", () => {
    const random = seeded(7);
    const anyFloat = () => floatFromBits((random() * 2 ** 32) >>> 0);
    let compared = 0;
    for (let i = 0; i < 60_000; i++) {
      const [a, b] = [anyFloat(), anyFloat()];
      // Half of the addends lie near the product, where cancellation and midpoints are.
      const c = i % 2 === 0 ? anyFloat() : Math.fround(a * b * (random() - 0.5));
      if (![a, b, c, a * b].every((v) => Number.isFinite(v) && Math.abs(v) < 2 ** 126)) continue;
      expect(fma32(a, b, c)).toBe(exactFma(a, b, c));
      compared++;
    }
    expect(compared).toBeGreaterThan(30_000);
  });

  it.each([
    ["BF16", 16],
    ["F16", 5],
    ["F32", 193],
  ] as const)("merges rows in %s at rank %i as the kernels' own reference does", (dtype, rank) => {
    const example = randomCase({ dtype, rows: 3, cols: 21, rank }, 11);
    const { w, a, b, scale } = example;
    const values = lora(
      scale,
      { rows: 3, cols: 21, rank },
      {
        w: Float64Array.from(w, (bits) => bitsToNumber(dtype, bits)),
        a: Float64Array.from(a),
        b: Float64Array.from(b),
      },
    )(canonical(dtype));
    expect([...values].map((value) => roundToBits(dtype, value))).toEqual(mergeReference(example));
  });

  it("splits ranks over 192 into blocks as MKL does", () => {
    expect(rankBlocks(192)).toEqual([192]);
    expect(rankBlocks(193)).toEqual([96, 96, 1]);
    expect(rankBlocks(384)).toEqual([192, 192]);
    expect(rankBlocks(400)).toEqual([192, 192, 16]);
    expect(rankBlocks(512)).toEqual([192, 192, 128]);
  });

  it.each(TORCH_ROW_LENGTHS)("sums the squares of $width values as torch does", ({ width, row, bits }) => {
    const values = Float64Array.from(hashedRow(width, row));
    const length = canonical("F32").norm(values, { at: 0, count: width, stride: 1 }, "lanes");
    expect(roundToBits("F32", length)).toBe(bits);
  });

  it("rounds every half value onto itself and midpoints to even", () => {
    for (let bits = 0; bits < 0x10000; bits++) {
      const value = f16ToNumber(bits);
      if (!Number.isNaN(value)) expect(roundToBits("F16", value)).toBe(bits);
    }
    expect(roundToBits("F16", 65519.996)).toBe(0x7bff);
    expect(roundToBits("F16", 65520)).toBe(0x7c00);
    expect(roundToBits("F16", 2 ** -25)).toBe(0);
    expect(roundToBits("F16", Math.fround(2 ** -25 * 1.0001))).toBe(1);
    expect(roundToBits("F16", 1 + 2 ** -11)).toBe(roundToBits("F16", 1));
    expect(roundToBits("F16", 1 + 3 * 2 ** -11)).toBe(roundToBits("F16", 1) + 2);
    expect(roundToBits("BF16", Number.NaN) & 0x7fff).toBeGreaterThan(0x7f80);
  });

  it("agrees with the float64 oracle to within half a unit of the stored type", () => {
    const a = Float64Array.from({ length: 3 * 16 }, (_, i) => Math.fround(Math.sin(i)));
    const b = Float64Array.from({ length: 3 }, (_, i) => Math.fround(Math.cos(i)));
    const weight = Float64Array.from({ length: 16 }, (_, i) =>
      bf16ToNumber(roundToBits("BF16", Math.sin(i * 7))),
    );
    const evaluated = lora(0.5, { rows: 1, cols: 16, rank: 3 }, { w: weight, a, b });
    const rounded = evaluated(canonical("BF16")).map((value) =>
      bitsToNumber("BF16", roundToBits("BF16", value)),
    );
    for (const [j, exactly] of evaluated(exact).entries()) {
      const unit = 2 ** (Math.floor(Math.log2(Math.max(Math.abs(exactly), Math.abs(weight[j]!)))) - 7);
      expect(Math.abs(rounded[j]! - exactly)).toBeLessThanOrEqual(unit * 0.501);
    }
  });

  it("rounds a float64 value once, where two roundings would go astray", () => {
    // Just above the midpoint of two bfloat16 values: float32 drops the part that decides.
    const value = 1 + 2 ** -8 + 2 ** -40;
    expect(roundToBits("BF16", Math.fround(value))).toBe(roundToBits("BF16", 1));
    expect(roundOnce("BF16", value)).toBe(roundToBits("BF16", 1) + 1);
    expect(roundOnce("BF16", 1 + 2 ** -8 - 2 ** -40)).toBe(roundToBits("BF16", 1));
    expect(roundOnce("F16", -(1 + 2 ** -11 + 2 ** -50))).toBe(roundToBits("F16", -1) + 1);
    expect(roundOnce("F32", 1 + 2 ** -24 + 2 ** -50)).toBe(roundToBits("F32", 1) + 1);
  });
});

/** W + scale · B·A of the given values, to be evaluated by either arithmetic. */
function lora(
  scale: number,
  size: { rows: number; cols: number; rank: number },
  values: { w: Float64Array; a: Float64Array; b: Float64Array },
) {
  const expr = lowRankUpdate({
    base: "w",
    left: source(0, "b"),
    right: source(0, "a"),
    scale,
    roundFirst: false,
  });
  const shapes = { w: [size.rows, size.cols], a: [size.rank, size.cols], b: [size.rows, size.rank] };
  return (arithmetic: typeof exact) =>
    evaluate(
      expr,
      {
        whole: ({ tensor }) => ({
          shape: shapes[tensor as "w" | "a" | "b"],
          values: values[tensor as "w" | "a" | "b"],
        }),
      },
      arithmetic,
    ).values;
}

describe("an expression", () => {
  it("of LoRA is recognised, any other is not", () => {
    const parts = { base: "w", left: source(0, "b"), right: source(0, "a"), scale: 2, roundFirst: false };
    expect(asLowRankUpdate(lowRankUpdate(parts))).toEqual(parts);
    expect(asLowRankUpdate(lowRankUpdate({ ...parts, roundFirst: true }))?.roundFirst).toBe(true);
    expect(asLowRankUpdate(base("w"))).toBeNull();
    expect(asLowRankUpdate(lowRankUpdate({ ...parts, left: base("w") }))).toBeNull();
  });
});

describe("widening", () => {
  it("reads little-endian elements without rounding", () => {
    expect([...widen("F32", new Uint8Array(new Float32Array([1.5, -2]).buffer))]).toEqual([1.5, -2]);
    expect([...widen("BF16", new Uint8Array([0x80, 0x3f]))]).toEqual([1]);
    expect([...widen("F16", new Uint8Array([0x01, 0x00]))]).toEqual([2 ** -24]);
  });
});
