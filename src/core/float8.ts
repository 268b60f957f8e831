import type { Dtype } from "./dtype.ts";

/** The two 8-bit float types of checkpoints (OCP FP8): e4m3fn has no infinity and one NaN, e5m2 is a short half. */
export const FLOAT8_DTYPES = ["F8_E4M3", "F8_E5M2"] as const;
export type Float8Dtype = (typeof FLOAT8_DTYPES)[number];

export function isFloat8(dtype: Dtype): dtype is Float8Dtype {
  return (FLOAT8_DTYPES as readonly string[]).includes(dtype);
}

const FORMATS = {
  F8_E4M3: { fraction: 3, bias: 7, largest: 448, nan: 0x7f },
  F8_E5M2: { fraction: 2, bias: 15, largest: 57_344, nan: 0x7f },
} as const;

/** The largest finite value: 448 and 57344. */
export function largestFloat8(dtype: Float8Dtype): number {
  return FORMATS[dtype].largest;
}

/** Value of 8 stored bits. */
export function float8ToNumber(dtype: Float8Dtype, bits: number): number {
  const { fraction, bias } = FORMATS[dtype];
  const sign = bits & 0x80 ? -1 : 1;
  const magnitude = bits & 0x7f;
  const exponent = magnitude >> fraction;
  const rest = magnitude & ((1 << fraction) - 1);
  if (dtype === "F8_E4M3" ? magnitude === 0x7f : exponent === 31) {
    return dtype === "F8_E5M2" && rest === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  }
  const scale = 2 ** (Math.max(1, exponent) - bias - fraction);
  return sign * (rest + (exponent === 0 ? 0 : 1 << fraction)) * scale;
}

/** Stored bits of a value: to nearest, ties to even, and to the largest finite value beyond it, as quantisers do. */
export function roundToFloat8(dtype: Float8Dtype, value: number): number {
  const { fraction, bias, largest, nan } = FORMATS[dtype];
  if (Number.isNaN(value)) return nan;
  const sign = value < 0 || Object.is(value, -0) ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(value), largest);
  // Below the smallest normal number the spacing no longer shrinks.
  const exponent = Math.max(magnitude === 0 ? -1000 : Math.floor(Math.log2(magnitude)), 1 - bias);
  const spacing = 2 ** (exponent - fraction);
  const steps = evenRound(magnitude / spacing);
  // `steps` counts from zero in this binade's spacing; a carry into the next binade comes out right by itself.
  const normal = 1 << fraction;
  const bits = steps < normal ? steps : ((exponent + bias - 1) << fraction) + steps;
  return sign | Math.min(bits, roundedLargest(dtype));
}

const roundedLargest = (dtype: Float8Dtype) => (dtype === "F8_E4M3" ? 0x7e : 0x7b);

function evenRound(value: number): number {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}
