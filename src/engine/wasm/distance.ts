// AssemblyScript. How far stored weights are from what they should be. All inputs are floats, widened without loss; sums
// are doubles, product and sum rounded apart, so that they are the same on every machine.

import { rounded4 } from "./formats";

const padded: usize = memory.data(64, 16);

/** Positions of the doubles that a tile adds to; core's `WeightSums` says what they mean. */
const WEIGHT: usize = 0;
const DELTA: usize = 8;
const STORED: usize = 16;
const TOGETHER: usize = 24;
const ERROR: usize = 32;
const RIGHT_TOGETHER: usize = 40;
const RIGHT_ERROR: usize = 48;
const MAX_ERROR: usize = 56;
const FINITE: usize = 64;
const MOVED: usize = 72;
const RIGHT_MOVED: usize = 80;

@inline
function upper(x: v128): v128 {
  return v128.shuffle<u64>(x, x, 1, 0);
}

/** -1 where a lane is neither infinite nor NaN. */
@inline
function finite4(x: v128): v128 {
  return i32x4.lt_s(v128.and(x, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
}

@inline
function addTo(at: usize, x: v128): void {
  store<f64>(at, load<f64>(at) + f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1));
}

@inline
function square(sum: v128, x: v128): v128 {
  return f64x2.add(sum, f64x2.mul(x, x));
}

/**
 * n base weights w, stored weights c and exact changes d: adds to the doubles at `out` what they tell of a candidate in
 * the storage format T. The right change is what storing w + d in T leaves of d.
 */
@inline
export function measure<T>(w: usize, c: usize, d: usize, n: usize, out: usize): void {
  const zero = f64x2.splat(0);
  let weight = zero, delta = zero, stored = zero, together = zero, error = zero;
  let rightTogether = zero, rightError = zero, most = zero;
  let finite = 0, moved = 0, rightMoved = 0;
  const total = (n + 3) >> 2;
  const whole = n >> 2;
  for (let i: usize = 0; i < total; i++) {
    if (i == whole) {
      memory.fill(padded, 0, 48);
      const rest = (n & 3) * 4;
      memory.copy(padded, w, rest);
      memory.copy(padded + 16, c, rest);
      memory.copy(padded + 32, d, rest);
      w = padded;
      c = padded + 16;
      d = padded + 32;
    }
    let x = v128.load(w);
    let y = v128.load(c);
    let z = v128.load(d);
    const whole4 = finite4(y);
    finite += popcnt(i32x4.bitmask(whole4));
    // One element that is no number would make every sum one.
    const ok = v128.and(whole4, v128.and(finite4(x), finite4(z)));
    x = v128.and(x, ok);
    y = v128.and(y, ok);
    z = v128.and(z, ok);
    const right = rounded4<T>(f32x4.add(x, z));
    const before = rounded4<T>(x);
    moved += popcnt(i32x4.bitmask(f32x4.ne(y, before)));
    rightMoved += popcnt(i32x4.bitmask(f32x4.ne(right, before)));
    for (let half = 0; half < 2; half++) {
      const wide = f64x2.promote_low_f32x4(half ? upper(x) : x);
      const change = f64x2.promote_low_f32x4(half ? upper(z) : z);
      const s = f64x2.sub(f64x2.promote_low_f32x4(half ? upper(y) : y), wide);
      const r = f64x2.sub(f64x2.promote_low_f32x4(half ? upper(right) : right), wide);
      const e = f64x2.sub(s, change);
      weight = square(weight, wide);
      delta = square(delta, change);
      stored = square(stored, s);
      error = square(error, e);
      rightError = square(rightError, f64x2.sub(r, change));
      together = f64x2.add(together, f64x2.mul(s, change));
      rightTogether = f64x2.add(rightTogether, f64x2.mul(r, change));
      most = f64x2.pmax(most, f64x2.abs(e));
    }
    w += 16;
    c += 16;
    d += 16;
  }
  addTo(out + WEIGHT, weight);
  addTo(out + DELTA, delta);
  addTo(out + STORED, stored);
  addTo(out + TOGETHER, together);
  addTo(out + ERROR, error);
  addTo(out + RIGHT_TOGETHER, rightTogether);
  addTo(out + RIGHT_ERROR, rightError);
  const worst = max(f64x2.extract_lane(most, 0), f64x2.extract_lane(most, 1));
  store<f64>(out + MAX_ERROR, max(load<f64>(out + MAX_ERROR), worst));
  // The padding of the last block is zeros, which counted as finite.
  store<f64>(out + FINITE, load<f64>(out + FINITE) + <f64>(finite + <i32>n - <i32>(total * 4)));
  store<f64>(out + MOVED, load<f64>(out + MOVED) + <f64>moved);
  store<f64>(out + RIGHT_MOVED, load<f64>(out + RIGHT_MOVED) + <f64>rightMoved);
}

/**
 * n expected values k and found ones c, beside the base's w: adds to the doubles at `out` how many differ, how many by
 * more than one unit, and takes the largest distance in units: of the last place at the larger of |k| and |w|.
 * @param place unit in the last place of 1 in the storage type
 * @param least bits of the smallest normal number of the storage type, as a float
 * @param floor no unit is smaller
 */
export function distances(
  k: usize, c: usize, w: usize, n: usize, out: usize, place: f64, least: i32, floor: f64,
): void {
  let differing = 0, far = 0;
  let most = f64x2.splat(0);
  const scale = f64x2.splat(place);
  const smallest = f64x2.splat(floor);
  const one = f64x2.splat(1);
  const total = (n + 3) >> 2;
  const whole = n >> 2;
  for (let i: usize = 0; i < total; i++) {
    if (i == whole) {
      memory.fill(padded, 0, 48);
      const rest = (n & 3) * 4;
      memory.copy(padded, k, rest);
      memory.copy(padded + 16, c, rest);
      memory.copy(padded + 32, w, rest);
      k = padded;
      c = padded + 16;
      w = padded + 32;
    }
    const x = v128.load(k);
    const y = v128.load(c);
    const z = v128.load(w);
    k += 16;
    c += 16;
    w += 16;
    // Equal values, or neither a number.
    const nan = v128.and(f32x4.ne(x, x), f32x4.ne(y, y));
    const other = v128.andnot(f32x4.ne(x, y), nan);
    const count = popcnt(i32x4.bitmask(other));
    if (!count) continue;
    differing += count;
    const numbers = v128.and(other, v128.and(finite4(x), finite4(y)));
    const a = v128.and(x, numbers);
    const b = v128.and(y, numbers);
    // Magnitudes are ordered like their bits; the exponent alone is the power of two below.
    const base = v128.and(v128.and(z, finite4(z)), i32x4.splat(0x7fffffff));
    const large = i32x4.max_s(v128.and(a, i32x4.splat(0x7fffffff)), base);
    const power = v128.and(i32x4.max_s(large, i32x4.splat(least)), i32x4.splat(0x7f800000));
    for (let half = 0; half < 2; half++) {
      const p = f64x2.promote_low_f32x4(half ? upper(a) : a);
      const q = f64x2.promote_low_f32x4(half ? upper(b) : b);
      const unit = f64x2.mul(f64x2.promote_low_f32x4(half ? upper(power) : power), scale);
      const ulps = f64x2.div(f64x2.abs(f64x2.sub(p, q)), f64x2.max(unit, smallest));
      far += popcnt(i64x2.bitmask(f64x2.gt(ulps, one)));
      most = f64x2.pmax(most, ulps);
    }
    // Only one of them is a number: as far as it gets, and no distance.
    far += popcnt(i32x4.bitmask(v128.andnot(other, numbers)));
  }
  store<f64>(out, load<f64>(out) + <f64>differing);
  store<f64>(out + 8, load<f64>(out + 8) + <f64>far);
  const worst = max(f64x2.extract_lane(most, 0), f64x2.extract_lane(most, 1));
  store<f64>(out + 16, max(load<f64>(out + 16), worst));
}
