// AssemblyScript. Exact arithmetic: doubles on the way, one rounding into the storage format at the end.

import { store8, widen4 } from "./formats";

/** Columns of one packed panel of doubles: as many bytes as sixteen floats. */
const PANEL: usize = 8;

const padded: usize = memory.data(128, 16);

@inline
function upper(x: v128): v128 {
  return v128.shuffle<u64>(x, x, 1, 0);
}

/** n stored elements at src → n doubles at dst. */
@inline
export function widenDouble<T>(src: usize, dst: usize, n: usize): void {
  const whole = n & ~3;
  for (let i: usize = 0; i < whole; i += 4) put(dst + i * 8, widen4<T>(src + i * sizeof<T>()));
  const rest = n & 3;
  if (!rest) return;
  memory.copy(padded, src + whole * sizeof<T>(), rest * sizeof<T>());
  put(padded + 32, widen4<T>(padded));
  memory.copy(dst + whole * 8, padded + 32, rest * 8);
}

@inline
function put(to: usize, x: v128): void {
  v128.store(to, f64x2.promote_low_f32x4(x));
  v128.store(to, f64x2.promote_low_f32x4(upper(x)), 16);
}

/**
 * Four doubles as floats that round to the storage format as the doubles would: where something is cut off, towards zero
 * with the last bit set ("to odd"). For F32 itself simply to nearest.
 */
@inline
function narrow4<T>(at: usize): v128 {
  const a = v128.load(at);
  const b = v128.load(at, 16);
  const near = v128.shuffle<u64>(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
  if (sizeof<T>() == 4) return near;
  const low = f64x2.promote_low_f32x4(near);
  const high = f64x2.promote_low_f32x4(upper(near));
  const beyond = v128.shuffle<u32>(f64x2.gt(f64x2.abs(low), f64x2.abs(a)), f64x2.gt(f64x2.abs(high), f64x2.abs(b)), 0, 2, 4, 6);
  const inexact = v128.shuffle<u32>(f64x2.ne(low, a), f64x2.ne(high, b), 0, 2, 4, 6);
  const finite = i32x4.lt_s(v128.and(near, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
  // A mask is -1 where it holds: adding it takes one step towards zero.
  const odd = v128.or(i32x4.add(near, beyond), i32x4.splat(1));
  return v128.bitselect(odd, near, v128.and(inexact, finite));
}

/** n doubles at src → n stored elements at dst, rounded once. */
@inline
export function roundDouble<T>(src: usize, dst: usize, n: usize): void {
  const whole = n & ~7;
  for (let i: usize = 0; i < whole; i += 8) {
    store8<T>(dst + i * sizeof<T>(), narrow4<T>(src + i * 8), narrow4<T>(src + i * 8 + 32));
  }
  const rest = n & 7;
  if (!rest) return;
  memory.fill(padded, 0, 64);
  memory.copy(padded, src + whole * 8, rest * 8);
  store8<T>(padded + 64, narrow4<T>(padded), narrow4<T>(padded + 32));
  memory.copy(dst + whole * sizeof<T>(), padded + 64, rest * sizeof<T>());
}

/** Columns [0, cols) of row k (doubles at src) into panels [ceil(cols/8)][rank][8] at dst, the last one padded with 0. */
export function packDoubles(src: usize, dst: usize, cols: usize, k: usize, rank: usize): void {
  let to = dst + k * 64;
  for (let c: usize = 0; c < cols; c += PANEL) {
    const n = min(PANEL, cols - c);
    if (n < PANEL) memory.fill(to, 0, 64);
    memory.copy(to, src + c * 8, n * 8);
    to += rank * 64;
  }
}

/** dst (rows × cols) := left (rows × rank) · panels; each sum in order from zero, products and sums rounded to double. */
export function multiplyDoubles(dst: usize, rows: usize, cols: usize, panels: usize, left: usize, rank: usize): void {
  for (let c: usize = 0; c < cols; c += PANEL) {
    const count = min(PANEL, cols - c);
    let b = left;
    let to = dst + c * 8;
    for (let i: usize = 0; i < rows; i++) {
      let s0 = f64x2.splat(0), s1 = f64x2.splat(0), s2 = f64x2.splat(0), s3 = f64x2.splat(0);
      let a = panels;
      for (let k: usize = 0; k < rank; k++) {
        const x = v128.load64_splat(b + k * 8);
        s0 = f64x2.add(s0, f64x2.mul(x, v128.load(a)));
        s1 = f64x2.add(s1, f64x2.mul(x, v128.load(a, 16)));
        s2 = f64x2.add(s2, f64x2.mul(x, v128.load(a, 32)));
        s3 = f64x2.add(s3, f64x2.mul(x, v128.load(a, 48)));
        a += 64;
      }
      v128.store(padded, s0);
      v128.store(padded, s1, 16);
      v128.store(padded, s2, 32);
      v128.store(padded, s3, 48);
      memory.copy(to, padded, count * 8);
      to += cols * 8;
      b += rank * 8;
    }
    panels += rank * 64;
  }
}

/** sums (m × cols) += left (m × rows, its rows `leftRow` bytes apart) · tile (rows × cols), row after row. */
export function accumulateDoubles(
  sums: usize, left: usize, leftRow: usize, m: usize, tile: usize, rows: usize, cols: usize,
): void {
  for (let i: usize = 0; i < m; i++) {
    for (let k: usize = 0; k < rows; k++) {
      const x = load<f64>(left + k * 8);
      const y = tile + k * cols * 8;
      for (let j: usize = 0; j < cols * 8; j += 8) store<f64>(sums + j, load<f64>(sums + j) + x * load<f64>(y + j));
    }
    sums += cols * 8;
    left += leftRow;
  }
}
