// AssemblyScript. Element-by-element steps over tiles of floats (`f32`) or, for exact arithmetic, doubles (`f64`).
//
// What is done is a marker type: `i8` adds, `i16` subtracts, `i32` multiplies, `i64` divides. Each step is rounded once
// to the element's type. Targets may be one of the operands.

import { rounded4 } from "./formats";

const padded: usize = memory.data(32, 16);

@inline
function vector<E, O>(a: v128, b: v128): v128 {
  if (sizeof<O>() == 1) return v128.add<E>(a, b);
  if (sizeof<O>() == 2) return v128.sub<E>(a, b);
  return sizeof<O>() == 4 ? v128.mul<E>(a, b) : v128.div<E>(a, b);
}

@inline
function scalar<E, O>(a: E, b: E): E {
  if (sizeof<O>() == 1) return a + b;
  if (sizeof<O>() == 2) return a - b;
  return sizeof<O>() == 4 ? a * b : a / b;
}

/**
 * rows × cols results at `dst`, contiguous. An operand moves on by its `Row` bytes a row (0: the same row again); where
 * `Col` is 0 it has one element a row, which serves all columns.
 */
@inline
export function binary<E, O>(
  dst: usize, a: usize, aRow: usize, aCol: bool, b: usize, bRow: usize, bCol: bool, rows: usize, cols: usize,
): void {
  const lanes: usize = 16 / sizeof<E>();
  const whole = cols - (cols % lanes);
  for (let i: usize = 0; i < rows; i++) {
    const x = v128.splat<E>(load<E>(a));
    const y = v128.splat<E>(load<E>(b));
    let j: usize = 0;
    if (aCol && bCol) {
      for (; j < whole; j += lanes) {
        const at = j * sizeof<E>();
        v128.store(dst + at, vector<E, O>(v128.load(a + at), v128.load(b + at)));
      }
    } else if (aCol) {
      for (; j < whole; j += lanes) {
        const at = j * sizeof<E>();
        v128.store(dst + at, vector<E, O>(v128.load(a + at), y));
      }
    } else {
      for (; j < whole; j += lanes) {
        const at = j * sizeof<E>();
        v128.store(dst + at, vector<E, O>(x, bCol ? v128.load(b + at) : y));
      }
    }
    for (; j < cols; j++) {
      const at = j * sizeof<E>();
      store<E>(dst + at, scalar<E, O>(load<E>(aCol ? a + at : a), load<E>(bCol ? b + at : b)));
    }
    dst += cols * sizeof<E>();
    a += aRow;
    b += bRow;
  }
}

/** n floats rounded to the storage format T and widened again. */
@inline
export function roundThrough<T>(src: usize, dst: usize, n: usize): void {
  const whole = n & ~3;
  for (let i: usize = 0; i < whole; i += 4) v128.store(dst + i * 4, rounded4<T>(v128.load(src + i * 4)));
  const rest = n & 3;
  if (!rest) return;
  memory.fill(padded, 0, 16);
  memory.copy(padded, src + whole * 4, rest * 4);
  v128.store(padded + 16, rounded4<T>(v128.load(padded)));
  memory.copy(dst + whole * 4, padded + 16, rest * 4);
}

/** x where x > 0 or NaN, else +0. */
@inline
export function relu<E>(src: usize, dst: usize, n: usize): void {
  const lanes: usize = 16 / sizeof<E>();
  const whole = n - (n % lanes);
  let i: usize = 0;
  for (; i < whole; i += lanes) {
    const x = v128.load(src + i * sizeof<E>());
    const kept = v128.or(v128.gt<E>(x, v128.splat<E>(0)), v128.ne<E>(x, x));
    v128.store(dst + i * sizeof<E>(), v128.and(x, kept));
  }
  for (; i < n; i++) {
    const x = load<E>(src + i * sizeof<E>());
    store<E>(dst + i * sizeof<E>(), x > 0 || x != x ? x : 0);
  }
}
