// AssemblyScript entry: everything src/engine/kernels.ts may call. Pointers are byte offsets into the imported memory.

import { fma4 } from "./fma";
import { store8, widen4 } from "./formats";
import { mergeTile } from "./merge";
import { statistics } from "./stats";

const padded: usize = memory.data(64, 16);

/** n stored elements at src → n floats at dst. */
@inline
function widen<T>(src: usize, dst: usize, n: usize): void {
  const whole = n & ~3;
  for (let i: usize = 0; i < whole; i += 4) v128.store(dst + i * 4, widen4<T>(src + i * sizeof<T>()));
  const rest = n & 3;
  if (!rest) return;
  memory.copy(padded, src + whole * sizeof<T>(), rest * sizeof<T>());
  v128.store(padded + 32, widen4<T>(padded));
  memory.copy(dst + whole * 4, padded + 32, rest * 4);
}

/** n floats at src → n stored elements at dst, rounded to nearest, ties to even. */
@inline
function round<T>(src: usize, dst: usize, n: usize): void {
  const whole = n & ~7;
  for (let i: usize = 0; i < whole; i += 8) {
    store8<T>(dst + i * sizeof<T>(), v128.load(src + i * 4), v128.load(src + i * 4, 16));
  }
  const rest = n & 7;
  if (!rest) return;
  memory.fill(padded, 0, 32);
  memory.copy(padded, src + whole * 4, rest * 4);
  store8<T>(padded + 32, v128.load(padded), v128.load(padded, 16));
  memory.copy(dst + whole * sizeof<T>(), padded + 32, rest * sizeof<T>());
}

export function widenBf16(src: usize, dst: usize, n: usize): void { widen<u16>(src, dst, n); }
export function widenF16(src: usize, dst: usize, n: usize): void { widen<i16>(src, dst, n); }
export function widenF32(src: usize, dst: usize, n: usize): void { memory.copy(dst, src, n * 4); }

export function roundBf16(src: usize, dst: usize, n: usize): void { round<u16>(src, dst, n); }
export function roundF16(src: usize, dst: usize, n: usize): void { round<i16>(src, dst, n); }
export function roundF32(src: usize, dst: usize, n: usize): void { round<f32>(src, dst, n); }

export function statsBf16(p: usize, n: usize, out: usize): void { statistics<u16>(p, n, out); }
export function statsF16(p: usize, n: usize, out: usize): void { statistics<i16>(p, n, out); }
export function statsF32(p: usize, n: usize, out: usize): void { statistics<f32>(p, n, out); }

/**
 * Columns [0, cols) of row k of A (floats at src) into panels [ceil(cols/16)][rank][16] at dst; the last panel's
 * missing columns become zero. The panel layout makes the inner loop of a merge read one straight line of memory.
 */
export function packRow(src: usize, dst: usize, cols: usize, k: usize, rank: usize): void {
  const panel = rank * 64;
  let to = dst + k * 64;
  const whole = cols & ~15;
  for (let c: usize = 0; c < whole; c += 16) {
    v128.store(to, v128.load(src));
    v128.store(to, v128.load(src, 16), 16);
    v128.store(to, v128.load(src, 32), 32);
    v128.store(to, v128.load(src, 48), 48);
    src += 64;
    to += panel;
  }
  const rest = cols & 15;
  if (!rest) return;
  memory.fill(to, 0, 64);
  memory.copy(to, src, rest * 4);
}

export function mergeBf16(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<u16, f32>(w, rows, cols, a, b, rank, s);
}
export function mergeF16(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f32>(w, rows, cols, a, b, rank, s);
}
export function mergeF32(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<f32, f32>(w, rows, cols, a, b, rank, s);
}
export function mergeBf16Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<u16, f64>(w, rows, cols, a, b, rank, s);
}
export function mergeF16Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f64>(w, rows, cols, a, b, rank, s);
}
export function mergeF32Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<f32, f64>(w, rows, cols, a, b, rank, s);
}

/** a·b + c as this machine's relaxed_madd computes it; arguments, so that no compiler folds it. */
export function relaxedMadd(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma4<f32>(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}

/** a·b + c with one rounding, by the emulation. */
export function emulatedMadd(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma4<f64>(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}
