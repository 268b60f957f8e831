import { fma32 } from "./numerics.ts";

const LOG2_E = Math.fround(Math.LOG2E);
/** ln 2 in two parts, the first with few enough bits that a product with a small whole number is exact. */
const LN2_HIGH = Math.fround(0.693145751953125);
const LN2_LOW = Math.fround(0.000001428606765330187);
/** Of (eˢ − 1 − s)/s² on |s| ≤ ln 2 / 2, highest power first. */
const COEFFICIENTS = [
  0.00019852761761285365, 0.0013930435525253415, 0.008333360776305199, 0.041666485369205475,
  0.1666666716337204, 0.5,
].map(Math.fround);

/**
 * eˣ of a float32 value in float32 steps, as SLEEF's `expf` computes it (at most 1 ulp off), which torch's softmax uses
 * on a CPU: x = q·ln 2 + s, a polynomial in s, and q as the exponent.
 */
export function expFloat32(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x < -104) return 0;
  if (x > 100) return Number.POSITIVE_INFINITY;
  const q = roundHalfEven(Math.fround(x * LOG2_E));
  const s = fma32(q, -LN2_LOW, fma32(q, -LN2_HIGH, x));
  const [first, ...others] = COEFFICIENTS as [number, ...number[]];
  const u = others.reduce((value, coefficient) => fma32(value, s, coefficient), first);
  const power = Math.fround(1 + fma32(Math.fround(s * s), u, s));
  return Math.fround(power * 2 ** q);
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
