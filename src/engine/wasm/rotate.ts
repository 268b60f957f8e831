// AssemblyScript. Rotations and reflections of rows: what core's functions of the same names compute, bit for bit.

import { fma4 } from "./fma";
import { oneRow, twoRows } from "./merge";

const edge0: usize = memory.data(64, 16);
const edge1: usize = memory.data(64, 16);

/** Puts `count` of 16 sums where they belong, or adds them to what is there. */
@inline
function put<E>(to: usize, edge: usize, count: usize, first: bool): void {
  if (first) {
    memory.copy(to, edge, count * sizeof<E>());
    return;
  }
  for (let j: usize = 0; j < count * sizeof<E>(); j += sizeof<E>()) {
    store<E>(to + j, load<E>(to + j) + load<E>(edge + j));
  }
}

/**
 * Rows (`width` floats) times blocks of `size` on a diagonal: dst = src · Dᵀ. Each block's transpose is packed in panels;
 * `step` bytes lead from one block to the next (0: the same again). Sums are cut at the limits (32-bit, ascending, the
 * last one at `width`), each part from zero, and the parts added in turn.
 */
@inline
export function turn<M>(
  dst: usize, src: usize, rows: usize, width: usize, size: usize, panels: usize, step: usize, limits: usize,
): void {
  for (let at: usize = 0; at < width; at += size) {
    const end = at + size;
    let from = at;
    while (from < end) {
      while (<usize>load<u32>(limits) <= from) limits += 4;
      const to = min(end, <usize>load<u32>(limits));
      for (let c: usize = 0; c < size; c += 16) {
        const count = min<usize>(16, size - c);
        const a = panels + c * size * 4 + (from - at) * 64;
        let b = src + from * 4;
        let out = dst + (at + c) * 4;
        let i: usize = 0;
        for (; i + 2 <= rows; i += 2) {
          twoRows<u8, M, u8>(edge0, edge1, a, b, b + width * 4, to - from, f32x4.splat(1));
          put<f32>(out, edge0, count, from == at);
          put<f32>(out + width * 4, edge1, count, from == at);
          b += width * 8;
          out += width * 8;
        }
        if (i < rows) {
          oneRow<u8, M, u8>(edge0, a, b, to - from, f32x4.splat(1));
          put<f32>(out, edge0, count, from == at);
        }
      }
      from = to;
    }
    panels += step;
  }
}

/** The same in doubles, with panels of eight columns. */
export function turnDoubles(
  dst: usize, src: usize, rows: usize, width: usize, size: usize, panels: usize, step: usize, limits: usize,
): void {
  for (let at: usize = 0; at < width; at += size) {
    const end = at + size;
    let from = at;
    while (from < end) {
      while (<usize>load<u32>(limits) <= from) limits += 4;
      const to = min(end, <usize>load<u32>(limits));
      for (let c: usize = 0; c < size; c += 8) {
        const count = min<usize>(8, size - c);
        for (let i: usize = 0; i < rows; i++) {
          let a = panels + c * size * 8 + (from - at) * 64;
          const b = src + i * width * 8;
          let s0 = f64x2.splat(0), s1 = f64x2.splat(0), s2 = f64x2.splat(0), s3 = f64x2.splat(0);
          for (let k = from; k < to; k++) {
            const x = v128.load64_splat(b + k * 8);
            s0 = f64x2.add(s0, f64x2.mul(x, v128.load(a)));
            s1 = f64x2.add(s1, f64x2.mul(x, v128.load(a, 16)));
            s2 = f64x2.add(s2, f64x2.mul(x, v128.load(a, 32)));
            s3 = f64x2.add(s3, f64x2.mul(x, v128.load(a, 48)));
            a += 64;
          }
          v128.store(edge0, s0);
          v128.store(edge0, s1, 16);
          v128.store(edge0, s2, 32);
          v128.store(edge0, s3, 48);
          put<f64>(dst + (i * width + at + c) * 8, edge0, count, from == at);
        }
      }
      from = to;
    }
    panels += step;
  }
}

/**
 * Rows reflected at `count` directions (doubles at u, one after the other) in turn, in doubles, rounded once. Eight rows
 * at a time, side by side in `work` (width × 8 doubles): the sum along a row has one order, so rows make the lanes.
 */
@inline
export function reflect<E>(
  dst: usize, src: usize, rows: usize, width: usize, u: usize, count: usize, work: usize,
): void {
  for (let first: usize = 0; first < rows; first += 8) {
    const high = min<usize>(8, rows - first);
    memory.fill(work, 0, width * 64);
    for (let r: usize = 0; r < high; r++) {
      const row = src + (first + r) * width * sizeof<E>();
      for (let j: usize = 0; j < width; j++) store<f64>(work + (j * 8 + r) * 8, <f64>load<E>(row + j * sizeof<E>()));
    }
    for (let n: usize = 0; n < count; n++) {
      const direction = u + n * width * 8;
      let a0 = f64x2.splat(0), a1 = f64x2.splat(0), a2 = f64x2.splat(0), a3 = f64x2.splat(0);
      for (let j: usize = 0; j < width; j++) {
        const x = v128.load64_splat(direction + j * 8);
        const at = work + j * 64;
        a0 = f64x2.add(a0, f64x2.mul(v128.load(at), x));
        a1 = f64x2.add(a1, f64x2.mul(v128.load(at, 16), x));
        a2 = f64x2.add(a2, f64x2.mul(v128.load(at, 32), x));
        a3 = f64x2.add(a3, f64x2.mul(v128.load(at, 48), x));
      }
      a0 = f64x2.add(a0, a0);
      a1 = f64x2.add(a1, a1);
      a2 = f64x2.add(a2, a2);
      a3 = f64x2.add(a3, a3);
      for (let j: usize = 0; j < width; j++) {
        const x = v128.load64_splat(direction + j * 8);
        const at = work + j * 64;
        v128.store(at, f64x2.sub(v128.load(at), f64x2.mul(a0, x)));
        v128.store(at, f64x2.sub(v128.load(at, 16), f64x2.mul(a1, x)), 16);
        v128.store(at, f64x2.sub(v128.load(at, 32), f64x2.mul(a2, x)), 32);
        v128.store(at, f64x2.sub(v128.load(at, 48), f64x2.mul(a3, x)), 48);
      }
    }
    for (let r: usize = 0; r < high; r++) {
      const row = dst + (first + r) * width * sizeof<E>();
      for (let j: usize = 0; j < width; j++) store<E>(row + j * sizeof<E>(), <E>load<f64>(work + (j * 8 + r) * 8));
    }
  }
}

/** dst = f·x + g·y of n floats: two terms of a product's sum, from zero. */
@inline
export function pair<M>(dst: usize, f: f32, x: usize, g: f32, y: usize, n: usize): void {
  const u = f32x4.splat(f);
  const v = f32x4.splat(g);
  const zero = f32x4.splat(0);
  const whole = n & ~3;
  for (let i: usize = 0; i < whole * 4; i += 16) {
    v128.store(dst + i, fma4<M>(v, v128.load(y + i), fma4<M>(u, v128.load(x + i), zero)));
  }
  for (let i = whole * 4; i < n * 4; i += 4) {
    const sum = fma4<M>(v, v128.load32_splat(y + i), fma4<M>(u, v128.load32_splat(x + i), zero));
    store<f32>(dst + i, f32x4.extract_lane(sum, 0));
  }
}

/** The same in doubles, each product and sum rounded. */
export function pairDoubles(dst: usize, f: f64, x: usize, g: f64, y: usize, n: usize): void {
  for (let i: usize = 0; i < n * 8; i += 8) store<f64>(dst + i, 0.0 + f * load<f64>(x + i) + g * load<f64>(y + i));
}
