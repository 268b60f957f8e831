// AssemblyScript. Fused multiply-add of four floats, by the processor or by hand.
//
// The mode is a marker type, chosen at compile time: `f32` uses relaxed_madd, `f64` the emulation; `i32` is no fused
// operation at all but a product and a sum, each rounded.

/** a·b + c with one rounding, two lanes, given as doubles; the result still has to be demoted to float32. */
@inline
function roundToOdd(a: v128, b: v128, c: v128): v128 {
  // A product of two floats has at most 48 bits: exact in a double. The sum is not, and rounding it to 53 and then
  // to 24 bits would round twice. Rounding to odd first (keep a trace of what was cut off in the last bit) is safe,
  // because 53 ≥ 24 + 2 bits. `e` is exactly what the addition cut off (Knuth's TwoSum).
  const p = f64x2.mul(a, b);
  const s = f64x2.add(p, c);
  const bb = f64x2.sub(s, p);
  const e = f64x2.add(f64x2.sub(p, f64x2.sub(s, bb)), f64x2.sub(c, bb));
  const zero = f64x2.splat(0);
  // Both compares are false for NaN, which `e` is when s is infinite or NaN: those stay as they are.
  const inexact = v128.or(f64x2.lt(e, zero), f64x2.gt(e, zero));
  const even = i64x2.eq(v128.and(s, i64x2.splat(1)), i64x2.splat(0));
  // One step away from zero where the cut-off part points the same way as s, one towards zero otherwise.
  const step = v128.or(i64x2.shr_s(v128.xor(e, s), 63), i64x2.splat(1));
  return i64x2.add(s, v128.and(step, v128.and(inexact, even)));
}

@inline
function upper(x: v128): v128 {
  return v128.shuffle<u64>(x, x, 1, 0);
}

/** fma(a, b, c) per lane: the same bits in both modes (the payload of a NaN apart). */
@inline
export function fma4<M>(a: v128, b: v128, c: v128): v128 {
  if (isInteger<M>()) return f32x4.add(c, f32x4.mul(a, b));
  if (sizeof<M>() == 4) return f32x4.relaxed_madd(a, b, c);
  const lo = roundToOdd(
    f64x2.promote_low_f32x4(a),
    f64x2.promote_low_f32x4(b),
    f64x2.promote_low_f32x4(c),
  );
  const hi = roundToOdd(
    f64x2.promote_low_f32x4(upper(a)),
    f64x2.promote_low_f32x4(upper(b)),
    f64x2.promote_low_f32x4(upper(c)),
  );
  return v128.shuffle<u64>(f32x4.demote_f64x2_zero(lo), f32x4.demote_f64x2_zero(hi), 0, 2);
}
