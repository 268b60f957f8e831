// AssemblyScript. What a tile looks like, in numbers.

import { widenBits } from "./formats";

const padded: usize = memory.data(32, 16);

@inline
function upper(x: v128): v128 {
  return v128.shuffle<u64>(x, x, 1, 0);
}

/** sum + x² of two lanes. A float's square is exact in a double, so fused or not gives the same bits everywhere. */
@inline
function addSquares(x: v128, sum: v128): v128 {
  const wide = f64x2.promote_low_f32x4(x);
  return f64x2.relaxed_madd(wide, wide, sum);
}

/**
 * Over n stored elements of format T at p, writes at `out`: [f64 largest finite magnitude, f64 sum of squares of the
 * finite elements, f64 how many are finite].
 */
@inline
export function statistics<T>(p: usize, n: usize, out: usize): void {
  let big = i32x4.splat(0);
  let finite = 0;
  let s0 = f64x2.splat(0), s1 = f64x2.splat(0), s2 = f64x2.splat(0), s3 = f64x2.splat(0);
  const blocks = n >> 3;
  const rest = n & 7;
  const total = blocks + (rest ? 1 : 0);
  for (let i: usize = 0; i < total; i++) {
    if (i == blocks) {
      memory.fill(padded, 0, 32);
      memory.copy(padded, p, rest * sizeof<T>());
      p = padded;
    }
    let u: v128;
    let v: v128;
    // Magnitudes are ordered like their bits, so infinities and NaN are what is not below the bits of infinity. They
    // become zero; `big` holds bits: pairs of 16 or one of 32 a lane.
    if (sizeof<T>() == 2) {
      const bits = v128.and(v128.load(p), i16x8.splat(0x7fff));
      const ok = i16x8.lt_s(bits, i16x8.splat(isSigned<T>() ? 0x7c00 : 0x7f80));
      const kept = v128.and(bits, ok);
      finite += popcnt(i16x8.bitmask(ok));
      big = i16x8.max_s(big, kept);
      u = widenBits<T>(i32x4.extend_low_i16x8_u(kept));
      v = widenBits<T>(i32x4.extend_high_i16x8_u(kept));
    } else {
      const x = v128.and(v128.load(p), i32x4.splat(0x7fffffff));
      const y = v128.and(v128.load(p, 16), i32x4.splat(0x7fffffff));
      const xok = i32x4.lt_s(x, i32x4.splat(0x7f800000));
      const yok = i32x4.lt_s(y, i32x4.splat(0x7f800000));
      finite += popcnt(i32x4.bitmask(xok)) + popcnt(i32x4.bitmask(yok));
      u = v128.and(x, xok);
      v = v128.and(y, yok);
      big = i32x4.max_s(big, i32x4.max_s(u, v));
    }
    s0 = addSquares(u, s0);
    s1 = addSquares(upper(u), s1);
    s2 = addSquares(v, s2);
    s3 = addSquares(upper(v), s3);
    p += 8 * sizeof<T>();
  }
  if (sizeof<T>() == 2) {
    big = f32x4.max(
      widenBits<T>(i32x4.extend_low_i16x8_u(big)),
      widenBits<T>(i32x4.extend_high_i16x8_u(big)),
    );
  }
  const top = f32x4.max(big, upper(big));
  const s = f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3));
  store<f64>(out, <f64>max(f32x4.extract_lane(top, 0), f32x4.extract_lane(top, 1)));
  store<f64>(out, f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1), 8);
  // The padding of the last block is zeros, which counted as finite.
  store<f64>(out, <f64>(finite + <i32>n - <i32>(total * 8)), 16);
}
