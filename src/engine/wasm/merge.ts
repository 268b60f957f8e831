// AssemblyScript. The merge of one tile: W := round(f32(W) + round?(fround(B·A) · scale)); or B·A alone, as floats.
//
// B·A is summed over k in order, with fused multiply-add from zero. Ranks over 192 are cut into blocks as MKL's sgemm
// does, each summed from zero and the block sums added left to right; that order is PEFT's on a CPU, bit for bit.
//
// What happens to the sums is a marker type: a storage format (see formats.ts) adds them to W; `u8` stores them.
// `F` tells whether the change is rounded to the storage format before it is added: `u16` yes, `u8` no.

import { fma4 } from "./fma";
import { replace8, rounded4, widen4 } from "./formats";

/** Columns of one packed panel of A. */
const PANEL: usize = 16;
/** Bytes of packed A kept in the first-level cache while all rows of the tile pass over it. */
const GROUP_BYTES: usize = 16384;

const sums: usize = memory.data(128, 16);
const edge0: usize = memory.data(64, 16);
const edge1: usize = memory.data(64, 16);

/** Bytes of one element where the results go. */
@inline
function width<T>(): usize {
  return sizeof<T>() == 1 ? 4 : sizeof<T>();
}

/** Length of the K blocks for a rank; the last block is what remains. Unfused sums (`i32`) have no blocks. */
@inline
function blockLength<M>(rank: usize): usize {
  if (isInteger<M>() || rank <= 192) return rank;
  return rank <= 384 ? rank >> 1 : 192;
}

/** 16 columns of two rows. Returns how many stored elements changed. */
export function twoRows<T, M, F>(w0: usize, w1: usize, a: usize, b0: usize, b1: usize, rank: usize, scale: v128): i32 {
  const block = blockLength<M>(rank);
  const zero = f32x4.splat(0);
  let left = rank;
  let c00 = zero, c01 = zero, c02 = zero, c03 = zero;
  let c10 = zero, c11 = zero, c12 = zero, c13 = zero;
  while (true) {
    let n = min(block, left);
    left -= n;
    while (n >= 2) {
      let x0 = v128.load32_splat(b0);
      let x1 = v128.load32_splat(b1);
      let y = v128.load(a);
      c00 = fma4<M>(x0, y, c00);
      c10 = fma4<M>(x1, y, c10);
      y = v128.load(a, 16);
      c01 = fma4<M>(x0, y, c01);
      c11 = fma4<M>(x1, y, c11);
      y = v128.load(a, 32);
      c02 = fma4<M>(x0, y, c02);
      c12 = fma4<M>(x1, y, c12);
      y = v128.load(a, 48);
      c03 = fma4<M>(x0, y, c03);
      c13 = fma4<M>(x1, y, c13);
      x0 = v128.load32_splat(b0, 4);
      x1 = v128.load32_splat(b1, 4);
      y = v128.load(a, 64);
      c00 = fma4<M>(x0, y, c00);
      c10 = fma4<M>(x1, y, c10);
      y = v128.load(a, 80);
      c01 = fma4<M>(x0, y, c01);
      c11 = fma4<M>(x1, y, c11);
      y = v128.load(a, 96);
      c02 = fma4<M>(x0, y, c02);
      c12 = fma4<M>(x1, y, c12);
      y = v128.load(a, 112);
      c03 = fma4<M>(x0, y, c03);
      c13 = fma4<M>(x1, y, c13);
      a += 128;
      b0 += 8;
      b1 += 8;
      n -= 2;
    }
    if (n) {
      const x0 = v128.load32_splat(b0);
      const x1 = v128.load32_splat(b1);
      let y = v128.load(a);
      c00 = fma4<M>(x0, y, c00);
      c10 = fma4<M>(x1, y, c10);
      y = v128.load(a, 16);
      c01 = fma4<M>(x0, y, c01);
      c11 = fma4<M>(x1, y, c11);
      y = v128.load(a, 32);
      c02 = fma4<M>(x0, y, c02);
      c12 = fma4<M>(x1, y, c12);
      y = v128.load(a, 48);
      c03 = fma4<M>(x0, y, c03);
      c13 = fma4<M>(x1, y, c13);
      a += 64;
      b0 += 4;
      b1 += 4;
    }
    if (rank <= 192) break;
    if (left + block < rank) {
      c00 = f32x4.add(v128.load(sums), c00);
      c01 = f32x4.add(v128.load(sums, 16), c01);
      c02 = f32x4.add(v128.load(sums, 32), c02);
      c03 = f32x4.add(v128.load(sums, 48), c03);
      c10 = f32x4.add(v128.load(sums, 64), c10);
      c11 = f32x4.add(v128.load(sums, 80), c11);
      c12 = f32x4.add(v128.load(sums, 96), c12);
      c13 = f32x4.add(v128.load(sums, 112), c13);
    }
    if (!left) break;
    v128.store(sums, c00);
    v128.store(sums, c01, 16);
    v128.store(sums, c02, 32);
    v128.store(sums, c03, 48);
    v128.store(sums, c10, 64);
    v128.store(sums, c11, 80);
    v128.store(sums, c12, 96);
    v128.store(sums, c13, 112);
    c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = zero;
  }
  return add16<T, F>(w0, c00, c01, c02, c03, scale) + add16<T, F>(w1, c10, c11, c12, c13, scale);
}

/** 16 columns of one row. Returns how many stored elements changed. */
export function oneRow<T, M, F>(w: usize, a: usize, b: usize, rank: usize, scale: v128): i32 {
  const block = blockLength<M>(rank);
  const zero = f32x4.splat(0);
  let left = rank;
  let c0 = zero, c1 = zero, c2 = zero, c3 = zero;
  while (true) {
    let n = min(block, left);
    left -= n;
    while (n) {
      const x = v128.load32_splat(b);
      c0 = fma4<M>(x, v128.load(a), c0);
      c1 = fma4<M>(x, v128.load(a, 16), c1);
      c2 = fma4<M>(x, v128.load(a, 32), c2);
      c3 = fma4<M>(x, v128.load(a, 48), c3);
      a += 64;
      b += 4;
      n--;
    }
    if (left + block < rank) {
      c0 = f32x4.add(v128.load(sums), c0);
      c1 = f32x4.add(v128.load(sums, 16), c1);
      c2 = f32x4.add(v128.load(sums, 32), c2);
      c3 = f32x4.add(v128.load(sums, 48), c3);
    }
    if (!left) break;
    v128.store(sums, c0);
    v128.store(sums, c1, 16);
    v128.store(sums, c2, 32);
    v128.store(sums, c3, 48);
    c0 = c1 = c2 = c3 = zero;
  }
  return add16<T, F>(w, c0, c1, c2, c3, scale);
}

/** One multiply, one add, one rounding, in place. */
@inline
function add16<T, F>(w: usize, c0: v128, c1: v128, c2: v128, c3: v128, scale: v128): i32 {
  const size: usize = width<T>();
  if (sizeof<T>() == 1) {
    v128.store(w, c0);
    v128.store(w, c1, 16);
    v128.store(w, c2, 32);
    v128.store(w, c3, 48);
    return 0;
  }
  const n = replace8<T>(w, changed4<T, F>(w, c0, scale), changed4<T, F>(w + 4 * size, c1, scale));
  w += 8 * size;
  return n + replace8<T>(w, changed4<T, F>(w, c2, scale), changed4<T, F>(w + 4 * size, c3, scale));
}

/** Four weights with their change added, before they are rounded. */
@inline
function changed4<T, F>(w: usize, sum: v128, scale: v128): v128 {
  const change = f32x4.mul(sum, scale);
  return f32x4.add(widen4<T>(w), sizeof<F>() == 2 ? rounded4<T>(change) : change);
}

/** Copies one narrow row back; returns how many of its elements changed. */
function putBack<T>(w: usize, edge: usize, count: usize): i32 {
  let changed = 0;
  if (sizeof<T>() > 1) {
    for (let i: usize = 0; i < count * sizeof<T>(); i += sizeof<T>()) {
      if (sizeof<T>() == 4) changed += i32(load<u32>(w + i) != load<u32>(edge + i));
      else changed += i32(load<u16>(w + i) != load<u16>(edge + i));
    }
  }
  memory.copy(w, edge, count * width<T>());
  return changed;
}

/**
 * The last, narrower panel: through a padded copy, since the next row's elements follow directly in memory. What lands
 * in the padding is meant to be nothing but may be NaN (0 · Infinity), so the changes are counted on the way back.
 */
function edgeRows<T, M, F>(w: usize, rows: usize, count: usize, stride: usize, a: usize, b: usize, rank: usize, scale: v128): i32 {
  const bytes = count * width<T>();
  let changed = 0;
  let i: usize = 0;
  for (; i + 2 <= rows; i += 2) {
    memory.copy(edge0, w, bytes);
    memory.copy(edge1, w + stride, bytes);
    twoRows<T, M, F>(edge0, edge1, a, b, b + rank * 4, rank, scale);
    changed += putBack<T>(w, edge0, count) + putBack<T>(w + stride, edge1, count);
    w += 2 * stride;
    b += rank * 8;
  }
  if (i < rows) {
    memory.copy(edge0, w, bytes);
    oneRow<T, M, F>(edge0, a, b, rank, scale);
    changed += putBack<T>(w, edge0, count);
  }
  return changed;
}

/**
 * Merges a tile in place and returns how many stored elements changed (0 where the sums are stored instead).
 * w: rows × cols in format T, row-major, contiguous; a: packed panels of A; b: rows × rank floats, row-major.
 */
@inline
export function mergeTile<T, M, F>(w: usize, rows: usize, cols: usize, a: usize, b: usize, rank: usize, factor: f32): i32 {
  const scale = f32x4.splat(factor);
  const stride = cols * width<T>();
  const panelBytes = rank * PANEL * 4;
  const wide = PANEL * width<T>();
  const panels = cols / PANEL;
  const group = max<usize>(1, GROUP_BYTES / max<usize>(1, panelBytes));
  let changed = 0;
  for (let first: usize = 0; first < panels; first += group) {
    const count = min(group, panels - first);
    const ga = a + first * panelBytes;
    let gw = w + first * wide;
    let gb = b;
    let i: usize = 0;
    for (; i + 2 <= rows; i += 2) {
      for (let p: usize = 0; p < count; p++) {
        const at = gw + p * wide;
        changed += twoRows<T, M, F>(at, at + stride, ga + p * panelBytes, gb, gb + rank * 4, rank, scale);
      }
      gw += 2 * stride;
      gb += rank * 8;
    }
    if (i < rows) {
      for (let p: usize = 0; p < count; p++) changed += oneRow<T, M, F>(gw + p * wide, ga + p * panelBytes, gb, rank, scale);
    }
  }
  const rest = cols % PANEL;
  if (rest) {
    changed += edgeRows<T, M, F>(w + panels * wide, rows, rest, stride, a + panels * panelBytes, b, rank, scale);
  }
  return changed;
}
