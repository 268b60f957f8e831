// AssemblyScript entry: everything src/engine/kernels.ts may call. Pointers are byte offsets into the imported memory.

import { distances, measure } from "./distance";
import { binary, relu, roundThrough } from "./elements";
import { accumulateDoubles, multiplyDoubles, packDoubles, roundDouble, widenDouble } from "./exact";
import { fma4 } from "./fma";
import { store8, widen4 } from "./formats";
import { mergeTile } from "./merge";
import { pair, pairDoubles, reflect, turn, turnDoubles } from "./rotate";
import { accumulate, addSquares, copyRuns, gatherColumns, kron, laneNorms, orderedNorms, roots } from "./rows";
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
  return mergeTile<u16, f32, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeF16(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f32, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeF32(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<f32, f32, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeBf16Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<u16, f64, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeF16Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f64, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeF32Emulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<f32, f64, u8>(w, rows, cols, a, b, rank, s);
}
export function mergeBf16First(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<u16, f32, u16>(w, rows, cols, a, b, rank, s);
}
export function mergeF16First(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f32, u16>(w, rows, cols, a, b, rank, s);
}
export function mergeBf16FirstEmulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<u16, f64, u16>(w, rows, cols, a, b, rank, s);
}
export function mergeF16FirstEmulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, s: f32): i32 {
  return mergeTile<i16, f64, u16>(w, rows, cols, a, b, rank, s);
}

// left · panels as floats at w.
export function multiply(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize): void {
  mergeTile<u8, f32, u8>(w, rows, cols, a, b, rank, 1);
}
export function multiplyEmulated(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize): void {
  mergeTile<u8, f64, u8>(w, rows, cols, a, b, rank, 1);
}
export function multiplyUnfused(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize): void {
  mergeTile<u8, i32, u8>(w, rows, cols, a, b, rank, 1);
}

// Elements whose stored bits at p differ from those at q.
export function differing16(p: usize, q: usize, n: usize): i32 { return differing<u16>(p, q, n); }
export function differing32(p: usize, q: usize, n: usize): i32 { return differing<u32>(p, q, n); }

@inline
function differing<W>(p: usize, q: usize, n: usize): i32 {
  const lanes: usize = 16 / sizeof<W>();
  const whole = n - (n % lanes);
  let count = 0;
  let i: usize = 0;
  for (; i < whole; i += lanes) {
    const other = v128.ne<W>(v128.load(p + i * sizeof<W>()), v128.load(q + i * sizeof<W>()));
    count += popcnt(v128.bitmask<W>(other));
  }
  for (; i < n; i++) count += i32(load<W>(p + i * sizeof<W>()) != load<W>(q + i * sizeof<W>()));
  return count;
}

// Steps of tile programs: element by element, in floats and in doubles.
export function addFloats(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f32, i8>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function subFloats(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f32, i16>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function mulFloats(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f32, i32>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function divFloats(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f32, i64>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function addDoubles(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f64, i8>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function subDoubles(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f64, i16>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function mulDoubles(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f64, i32>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function divDoubles(d: usize, a: usize, ar: usize, ac: bool, b: usize, br: usize, bc: bool, rows: usize, cols: usize): void {
  binary<f64, i64>(d, a, ar, ac, b, br, bc, rows, cols);
}
export function throughBf16(src: usize, dst: usize, n: usize): void { roundThrough<u16>(src, dst, n); }
export function throughF16(src: usize, dst: usize, n: usize): void { roundThrough<i16>(src, dst, n); }
export function reluFloats(src: usize, dst: usize, n: usize): void { relu<f32>(src, dst, n); }
export function reluDoubles(src: usize, dst: usize, n: usize): void { relu<f64>(src, dst, n); }

// … and by rows.
export function laneNormsFused(src: usize, dst: usize, rows: usize, cols: usize): void { laneNorms<f32>(src, dst, rows, cols); }
export function laneNormsEmulated(src: usize, dst: usize, rows: usize, cols: usize): void { laneNorms<f64>(src, dst, rows, cols); }
export function sequenceNorms(src: usize, dst: usize, rows: usize, cols: usize): void { orderedNorms<f32, f32>(src, dst, rows, cols); }
export function doubleNorms(src: usize, dst: usize, rows: usize, cols: usize): void { orderedNorms<f32, f64>(src, dst, rows, cols); }
export function exactNorms(src: usize, dst: usize, rows: usize, cols: usize): void { orderedNorms<f64, f64>(src, dst, rows, cols); }
export function addSquaresFloats(sums: usize, src: usize, rows: usize, cols: usize): void { addSquares<f32, f32>(sums, src, rows, cols); }
export function addSquaresMixed(sums: usize, src: usize, rows: usize, cols: usize): void { addSquares<f32, f64>(sums, src, rows, cols); }
export function addSquaresDoubles(sums: usize, src: usize, rows: usize, cols: usize): void { addSquares<f64, f64>(sums, src, rows, cols); }
export function rootsFloats(sums: usize, dst: usize, n: usize): void { roots<f32, f32>(sums, dst, n); }
export function rootsMixed(sums: usize, dst: usize, n: usize): void { roots<f32, f64>(sums, dst, n); }
export function rootsDoubles(sums: usize, dst: usize, n: usize): void { roots<f64, f64>(sums, dst, n); }
export function gatherFloats(src: usize, dst: usize, map: usize, rows: usize, from: usize, to: usize): void { gatherColumns<f32>(src, dst, map, rows, from, to); }
export function gatherDoubles(src: usize, dst: usize, map: usize, rows: usize, from: usize, to: usize): void { gatherColumns<f64>(src, dst, map, rows, from, to); }
export { copyRuns };
export function kronFloats(d: usize, l: usize, lc: usize, r: usize, rr: usize, rc: usize, first: usize, rows: usize): void {
  kron<f32>(d, l, lc, r, rr, rc, first, rows);
}
export function kronDoubles(d: usize, l: usize, lc: usize, r: usize, rr: usize, rc: usize, first: usize, rows: usize): void {
  kron<f64>(d, l, lc, r, rr, rc, first, rows);
}
export function accumulateFused(sums: usize, left: usize, lr: usize, m: usize, tile: usize, rows: usize, cols: usize): void {
  accumulate<f32>(sums, left, lr, m, tile, rows, cols);
}
export function accumulateEmulated(sums: usize, left: usize, lr: usize, m: usize, tile: usize, rows: usize, cols: usize): void {
  accumulate<f64>(sums, left, lr, m, tile, rows, cols);
}
export function accumulateUnfused(sums: usize, left: usize, lr: usize, m: usize, tile: usize, rows: usize, cols: usize): void {
  accumulate<i32>(sums, left, lr, m, tile, rows, cols);
}
export { accumulateDoubles };

// Functions of core.
export function turnFused(d: usize, s: usize, rows: usize, width: usize, size: usize, a: usize, step: usize, limits: usize): void {
  turn<f32>(d, s, rows, width, size, a, step, limits);
}
export function turnEmulated(d: usize, s: usize, rows: usize, width: usize, size: usize, a: usize, step: usize, limits: usize): void {
  turn<f64>(d, s, rows, width, size, a, step, limits);
}
export function pairFused(d: usize, f: f32, x: usize, g: f32, y: usize, n: usize): void { pair<f32>(d, f, x, g, y, n); }
export function pairEmulated(d: usize, f: f32, x: usize, g: f32, y: usize, n: usize): void { pair<f64>(d, f, x, g, y, n); }
export function pairUnfused(d: usize, f: f32, x: usize, g: f32, y: usize, n: usize): void { pair<i32>(d, f, x, g, y, n); }
export function reflectFloats(d: usize, s: usize, rows: usize, width: usize, u: usize, count: usize, work: usize): void {
  reflect<f32>(d, s, rows, width, u, count, work);
}
export function reflectDoubles(d: usize, s: usize, rows: usize, width: usize, u: usize, count: usize, work: usize): void {
  reflect<f64>(d, s, rows, width, u, count, work);
}
export { pairDoubles, turnDoubles };

// Exact arithmetic.
export function widenDoubleBf16(src: usize, dst: usize, n: usize): void { widenDouble<u16>(src, dst, n); }
export function roundDoubleBf16(src: usize, dst: usize, n: usize): void { roundDouble<u16>(src, dst, n); }
export function widenDoubleF16(src: usize, dst: usize, n: usize): void { widenDouble<i16>(src, dst, n); }
export function roundDoubleF16(src: usize, dst: usize, n: usize): void { roundDouble<i16>(src, dst, n); }
export function widenDoubleF32(src: usize, dst: usize, n: usize): void { widenDouble<f32>(src, dst, n); }
export function roundDoubleF32(src: usize, dst: usize, n: usize): void { roundDouble<f32>(src, dst, n); }
export { multiplyDoubles, packDoubles };

// Stored weights against what they should be.
export function measureBf16(w: usize, c: usize, d: usize, n: usize, out: usize): void { measure<u16>(w, c, d, n, out); }
export function measureF16(w: usize, c: usize, d: usize, n: usize, out: usize): void { measure<i16>(w, c, d, n, out); }
export function measureF32(w: usize, c: usize, d: usize, n: usize, out: usize): void { measure<f32>(w, c, d, n, out); }
export { distances };

/** a·b + c as this machine's relaxed_madd computes it; arguments, so that no compiler folds it. */
export function relaxedMadd(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma4<f32>(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}

/** a·b + c with one rounding, by the emulation. */
export function emulatedMadd(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma4<f64>(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}
