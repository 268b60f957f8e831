// AssemblyScript. The three storage formats as SIMD loads and stores around float32.
//
// A format is chosen at compile time by a marker type: `u16` is BF16, `i16` is F16, `f32` is F32. The branches on
// `sizeof`/`isSigned` below are static: each instantiation compiles to one straight run of instructions.
//
// NaN results are stored as one fixed quiet NaN (7fc0, 7e00, 7fc00000). Processors disagree about the sign and
// payload of a NaN they compute, and the same inputs must give the same bytes on every machine.

/** Four stored elements at `p` as f32x4. Exact for every pattern, subnormals, infinities and NaN included. */
@inline
export function widen4<T>(p: usize): v128 {
  if (sizeof<T>() == 4) return v128.load(p);
  return widenBits<T>(v128.load_ext<u16>(p));
}

/** The same for 16-bit elements already in the lower half of each 32-bit lane. */
@inline
export function widenBits<T>(h: v128): v128 {
  if (!isSigned<T>()) return i32x4.shl(h, 16);
  // F16: shift exponent and fraction into place, then let one exact multiply re-bias the exponent (2^112): it also
  // normalises subnormals. What ends at 65536 or above had exponent 31: infinity or NaN, so fill the exponent.
  const magnitude = f32x4.mul(
    i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13),
    i32x4.splat(0x77800000),
  );
  const special = v128.and(f32x4.ge(magnitude, f32x4.splat(65536)), i32x4.splat(0x7f800000));
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(magnitude, special), sign);
}

/** f32x4 → the 16 stored bits in each 32-bit lane, rounded to nearest, ties to even. */
@inline
function round4to16<T>(x: v128): v128 {
  const nan = f32x4.ne(x, x);
  if (!isSigned<T>()) {
    // BF16 is the upper half: add just under half a unit, plus one if the kept part is odd. A carry out of the
    // fraction raises the exponent, up to infinity: all of it right.
    const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
    const rounded = i32x4.shr_u(i32x4.add(x, i32x4.add(odd, i32x4.splat(0x7fff))), 16);
    return v128.bitselect(i32x4.splat(0x7fc0), rounded, nan);
  }
  const magnitude = v128.and(x, i32x4.splat(0x7fffffff));
  const sign = i32x4.shr_u(v128.and(x, i32x4.splat(0x80000000)), 16);
  // Normal results: the same trick at bit 13, with the exponent re-biased by -112. 65520 and above carry into infinity.
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(magnitude, i32x4.add(odd, i32x4.splat(0xc8000fff))), 13);
  // Below 2^-14: adding 0.5 puts the last place of the sum at 2^-24, the F16 subnormal step, so the adder rounds.
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  let r = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  r = v128.bitselect(i32x4.splat(0x7c00), r, i32x4.ge_s(magnitude, i32x4.splat(0x47800000)));
  return v128.bitselect(i32x4.splat(0x7e00), v128.or(r, sign), nan);
}

/** Rounded to the storage format and widened again. */
@inline
export function rounded4<T>(x: v128): v128 {
  return sizeof<T>() == 4 ? x : widenBits<T>(round4to16<T>(x));
}

@inline
function canonicalNan(x: v128): v128 {
  return v128.bitselect(i32x4.splat(0x7fc00000), x, f32x4.ne(x, x));
}

/** Rounds eight floats and stores them at `p`, over eight stored elements; returns how many of the eight stored bit patterns changed. */
@inline
export function replace8<T>(p: usize, x0: v128, x1: v128): i32 {
  if (sizeof<T>() == 4) {
    const y0 = canonicalNan(x0);
    const y1 = canonicalNan(x1);
    const n =
      popcnt(i32x4.bitmask(i32x4.ne(v128.load(p), y0))) + popcnt(i32x4.bitmask(i32x4.ne(v128.load(p, 16), y1)));
    v128.store(p, y0);
    v128.store(p, y1, 16);
    return n;
  }
  const y = i16x8.narrow_i32x4_u(round4to16<T>(x0), round4to16<T>(x1));
  const n = popcnt(i16x8.bitmask(i16x8.ne(v128.load(p), y)));
  v128.store(p, y);
  return n;
}

/** Rounds eight floats and stores them at `p`. */
@inline
export function store8<T>(p: usize, x0: v128, x1: v128): void {
  if (sizeof<T>() == 4) {
    v128.store(p, canonicalNan(x0));
    v128.store(p, canonicalNan(x1), 16);
  } else {
    v128.store(p, i16x8.narrow_i32x4_u(round4to16<T>(x0), round4to16<T>(x1)));
  }
}
