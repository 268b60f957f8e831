import { beforeAll, describe, expect, it } from "vitest";
import { ulpAt } from "../../../src/core/devices.ts";
import { MERGEABLE_DTYPES, type MergeableDtype, widen } from "../../../src/core/dtype.ts";
import { bitsToNumber, roundToBits } from "../../../src/core/numerics.ts";
import { CHUNK, WeightMeter } from "../../../src/engine/evaluation/weight-meter.ts";
import { compileKernels } from "../../../src/engine/kernels.ts";
import { type FloatDtype, toBytes } from "../../support/canonical.ts";

let meter: WeightMeter;
beforeAll(async () => {
  meter = new WeightMeter(await compileKernels());
});

const stored = (dtype: FloatDtype, values: readonly number[]) =>
  toBytes(
    dtype,
    values.map((value) => roundToBits(dtype, value)),
  );
const random = (seed: number) => (i: number) => {
  const x = Math.sin(i * 12.9898 + seed * 78.233) * 43758.5453;
  return x - Math.floor(x) - 0.5;
};
const list = (count: number, of: (i: number) => number) => Array.from({ length: count }, (_, i) => of(i));

/** W, W′ and Δ as they are stored. */
function example(dtype: MergeableDtype, count: number) {
  const [weight, delta, noise] = [random(1), random(2), random(3)];
  const w = stored(dtype, list(count, weight));
  const c = stored(
    dtype,
    list(count, (i) => weight(i) + 0.1 * delta(i) + (i % 5 === 0 ? 0.01 * noise(i) : 0)),
  );
  const d = stored(
    "F32",
    list(count, (i) => 0.1 * delta(i)),
  );
  return { w, c, d, values: [widen(dtype, w), widen(dtype, c), widen("F32", d)] as const };
}

describe.each(MERGEABLE_DTYPES)("measuring %s", (dtype) => {
  it.each([1, 2, 3, 4, 7, 64, 1001, CHUNK])("%i elements gives what float64 gives", (count) => {
    const { w, c, d, values } = example(dtype, count);
    const [weights, found, deltas] = values;
    meter.start();
    meter.put(0, dtype, w);
    meter.put(1, dtype, c);
    meter.put(2, "F32", d);
    meter.addSums(dtype, count);
    const right = weights.map((value, i) =>
      bitsToNumber(dtype, roundToBits(dtype, Math.fround(value + deltas[i]!))),
    );
    const sum = (of: (i: number) => number) => weights.reduce((total, _, i) => total + of(i), 0);
    const change = (of: Float64Array) => (i: number) => of[i]! - weights[i]!;
    const [s, r] = [change(found), change(right)];
    const expected = {
      weight: sum((i) => weights[i]! ** 2),
      delta: sum((i) => deltas[i]! ** 2),
      stored: sum((i) => s(i) ** 2),
      together: sum((i) => s(i) * deltas[i]!),
      error: sum((i) => (s(i) - deltas[i]!) ** 2),
      rightTogether: sum((i) => r(i) * deltas[i]!),
      rightError: sum((i) => (r(i) - deltas[i]!) ** 2),
      maxError: Math.max(...list(count, (i) => Math.abs(s(i) - deltas[i]!))),
      finite: count,
      moved: sum((i) => (s(i) === 0 ? 0 : 1)),
      rightMoved: sum((i) => (r(i) === 0 ? 0 : 1)),
    };
    for (const [name, value] of Object.entries(expected)) {
      const measured = meter.sums[name as keyof typeof expected];
      expect(Math.abs(measured - value), name).toBeLessThanOrEqual(1e-9 * Math.abs(value));
    }
  });

  it("leaves elements that are no numbers out of the sums, and counts them", () => {
    const { w, c, d } = example(dtype, 9);
    const clean = () => {
      meter.put(0, dtype, w);
      meter.put(2, "F32", d);
    };
    meter.start();
    clean();
    const values = [...widen(dtype, c)];
    meter.put(1, dtype, stored(dtype, [...values.slice(0, 7), Number.NaN, Number.NEGATIVE_INFINITY]));
    meter.addSums(dtype, 9);
    const { finite, stored: some, delta } = meter.sums;
    expect(finite).toBe(7);
    meter.start();
    clean();
    meter.put(1, dtype, c);
    meter.addSums(dtype, 7);
    expect(meter.sums).toMatchObject({ stored: some, delta });
  });

  it.each([1, 5, 8, 1001])("tells how far %i elements are from what they should be", (count) => {
    const { w, c, d, values } = example(dtype, count);
    const [weights, found, deltas] = values;
    const expected = stored(
      dtype,
      list(count, (i) => weights[i]! + deltas[i]!),
    );
    meter.start();
    meter.put(0, dtype, w);
    meter.put(1, dtype, c);
    meter.put(2, dtype, expected);
    meter.addDistances(dtype, count, 0);
    const ulps = [...widen(dtype, expected)].map((value, i) => {
      const at = Math.max(Math.abs(value), Math.abs(weights[i]!));
      return Math.abs(value - found[i]!) / ulpAt(dtype, at);
    });
    expect(d.byteLength).toBe(4 * count);
    expect(meter.distance).toEqual({
      differing: ulps.filter((ulp) => ulp > 0).length,
      far: ulps.filter((ulp) => ulp > 1).length,
      maxUlp: Math.max(...ulps),
    });
  });

  it("counts NaN beside a number as far, beside NaN as equal, and zeros of either sign as equal", () => {
    const expected = [1, Number.NaN, Number.NaN, 0, 1];
    const found = [Number.NaN, 1, Number.NaN, -0, 1];
    meter.start();
    meter.put(0, dtype, stored(dtype, [1, 1, 1, 0, 1]));
    meter.put(1, dtype, stored(dtype, found));
    meter.put(2, dtype, stored(dtype, expected));
    meter.addDistances(dtype, 5, 0);
    expect(meter.distance).toEqual({ differing: 2, far: 2, maxUlp: 0 });
  });

  it("has no unit below what sums of the change's size err", () => {
    meter.start();
    meter.clear(0);
    meter.put(1, dtype, stored(dtype, [2 ** -12]));
    meter.put(2, dtype, stored(dtype, [0]));
    meter.addDistances(dtype, 1, 2 ** 7);
    expect(meter.distance).toEqual({ differing: 1, far: 0, maxUlp: 1 });
  });
});

describe("a candidate that is only computed", () => {
  it.each(MERGEABLE_DTYPES)("is the sum, rounded once into %s", (dtype) => {
    const { w, d } = example(dtype, 100);
    meter.start();
    meter.put(0, dtype, w);
    meter.put(2, "F32", d);
    meter.roundSum(dtype, 100);
    meter.addSums(dtype, 100);
    const { error, rightError, together, rightTogether, moved, rightMoved } = meter.sums;
    expect([error, together, moved]).toEqual([rightError, rightTogether, rightMoved]);
    expect(moved).toBeGreaterThan(0);
  });
});
