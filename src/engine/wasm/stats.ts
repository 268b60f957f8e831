// AssemblyScript. What a tile looks like, in numbers.

import { widen4 } from "./formats";

const padded: usize = memory.data(32, 16);

@inline
function upper(x: v128): v128 {
  return v128.shuffle<u64>(x, x, 1, 0);
}

/**
 * Over n stored elements of format T at p, writes at `out`: [f64 largest finite magnitude, f64 sum of squares of the
 * finite elements, f64 how many are finite].
 */
@inline
export function statistics<T>(p: usize, n: usize, out: usize): void {
  const infinity = f32x4.splat(Infinity);
  let big = f32x4.splat(0);
  let ok = i32x4.splat(0);
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
    const x = f32x4.abs(widen4<T>(p));
    const y = f32x4.abs(widen4<T>(p + 4 * sizeof<T>()));
    const xok = f32x4.lt(x, infinity);
    const yok = f32x4.lt(y, infinity);
    ok = i32x4.add(ok, i32x4.add(xok, yok));
    const u = v128.and(x, xok);
    const v = v128.and(y, yok);
    big = f32x4.pmax(big, f32x4.pmax(u, v));
    const u0 = f64x2.promote_low_f32x4(u);
    const u1 = f64x2.promote_low_f32x4(upper(u));
    const v0 = f64x2.promote_low_f32x4(v);
    const v1 = f64x2.promote_low_f32x4(upper(v));
    s0 = f64x2.add(s0, f64x2.mul(u0, u0));
    s1 = f64x2.add(s1, f64x2.mul(u1, u1));
    s2 = f64x2.add(s2, f64x2.mul(v0, v0));
    s3 = f64x2.add(s3, f64x2.mul(v1, v1));
    p += 8 * sizeof<T>();
  }
  const top = f32x4.pmax(big, upper(big));
  const m = max(f32x4.extract_lane(top, 0), f32x4.extract_lane(top, 1));
  const s = f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3));
  // The padding of the last block is zeros, which counted as finite.
  const finiteCount = <i32>n - <i32>(total * 8) -
    (i32x4.extract_lane(ok, 0) + i32x4.extract_lane(ok, 1) + i32x4.extract_lane(ok, 2) + i32x4.extract_lane(ok, 3));
  store<f64>(out, <f64>m);
  store<f64>(out, f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1), 8);
  store<f64>(out, <f64>finiteCount, 16);
}
