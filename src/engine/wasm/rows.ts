// AssemblyScript. Steps that know the rows and columns of a tile, in floats (`f32`) or doubles (`f64`).

import { fma4 } from "./fma";

/**
 * Lengths of rows, torch's way of a contiguous row: eight lanes without fusing, then the lanes in turn. Of the rest, torch's
 * compiler squares four at once where there are four (a product and a sum), and fuses the last ones.
 */
@inline
export function laneNorms<M>(src: usize, dst: usize, rows: usize, cols: usize): void {
  const whole = cols & ~7;
  const fours = cols & ~3;
  for (let i: usize = 0; i < rows; i++) {
    let low = f32x4.splat(0), high = f32x4.splat(0);
    for (let j: usize = 0; j < whole; j += 8) {
      const x = v128.load(src + j * 4);
      const y = v128.load(src + j * 4, 16);
      low = f32x4.add(low, f32x4.mul(x, x));
      high = f32x4.add(high, f32x4.mul(y, y));
    }
    // Squares are never negative, so starting from the first lane is starting from zero.
    let total: f32 = f32x4.extract_lane(low, 0);
    total += f32x4.extract_lane(low, 1);
    total += f32x4.extract_lane(low, 2);
    total += f32x4.extract_lane(low, 3);
    total += f32x4.extract_lane(high, 0);
    total += f32x4.extract_lane(high, 1);
    total += f32x4.extract_lane(high, 2);
    total += f32x4.extract_lane(high, 3);
    for (let j = whole; j < fours; j++) {
      const x = load<f32>(src + j * 4);
      total += x * x;
    }
    for (let j = fours; j < cols; j++) {
      const x = v128.load32_splat(src + j * 4);
      total = f32x4.extract_lane(fma4<M>(x, x, f32x4.splat(total)), 0);
    }
    store<f32>(dst, sqrt<f32>(total));
    src += cols * 4;
    dst += 4;
  }
}

/** Lengths of rows, summed in order in type S over elements of type E. */
@inline
export function orderedNorms<E, S>(src: usize, dst: usize, rows: usize, cols: usize): void {
  for (let i: usize = 0; i < rows; i++) {
    let total: S = 0;
    for (let j: usize = 0; j < cols; j++) {
      const x = <S>load<E>(src + j * sizeof<E>());
      total += x * x;
    }
    store<E>(dst, <E>sqrt<S>(total));
    src += cols * sizeof<E>();
    dst += sizeof<E>();
  }
}

/** Adds the squares of a tile's rows, in order, to one sum a column. */
@inline
export function addSquares<E, S>(sums: usize, src: usize, rows: usize, cols: usize): void {
  for (let i: usize = 0; i < rows; i++) {
    for (let j: usize = 0; j < cols; j++) {
      const x = <S>load<E>(src + j * sizeof<E>());
      const at = sums + j * sizeof<S>();
      store<S>(at, load<S>(at) + x * x);
    }
    src += cols * sizeof<E>();
  }
}

/** Square roots of n sums of type S, as elements of type E. */
@inline
export function roots<E, S>(sums: usize, dst: usize, n: usize): void {
  for (let j: usize = 0; j < n; j++) store<E>(dst + j * sizeof<E>(), <E>sqrt<S>(load<S>(sums + j * sizeof<S>())));
}

/** Row by row, column j of the target is column map[j] (32-bit) of the source. */
@inline
export function gatherColumns<E>(src: usize, dst: usize, map: usize, rows: usize, from: usize, to: usize): void {
  for (let i: usize = 0; i < rows; i++) {
    for (let j: usize = 0; j < to; j++) {
      store<E>(dst + j * sizeof<E>(), load<E>(src + <usize>load<u32>(map + j * 4) * sizeof<E>()));
    }
    src += from * sizeof<E>();
    dst += to * sizeof<E>();
  }
}

/** Copies `rows` runs of `bytes` between two matrices whose rows are so many bytes apart. */
export function copyRuns(src: usize, dst: usize, rows: usize, bytes: usize, from: usize, to: usize): void {
  for (let i: usize = 0; i < rows; i++) {
    memory.copy(dst, src, bytes);
    src += from;
    dst += to;
  }
}

/** Rows first … of the Kronecker product of two matrices: each element of a row of the left times a row of the right. */
@inline
export function kron<E>(
  dst: usize, left: usize, leftCols: usize, right: usize, rightRows: usize, rightCols: usize, first: usize, rows: usize,
): void {
  const lanes: usize = 16 / sizeof<E>();
  const whole = rightCols - (rightCols % lanes);
  for (let i = first; i < first + rows; i++) {
    const l = left + (i / rightRows) * leftCols * sizeof<E>();
    const r = right + (i % rightRows) * rightCols * sizeof<E>();
    for (let j: usize = 0; j < leftCols; j++) {
      const x = load<E>(l + j * sizeof<E>());
      const many = v128.splat<E>(x);
      let k: usize = 0;
      for (; k < whole; k += lanes) {
        v128.store(dst + k * sizeof<E>(), v128.mul<E>(many, v128.load(r + k * sizeof<E>())));
      }
      for (; k < rightCols; k++) store<E>(dst + k * sizeof<E>(), x * load<E>(r + k * sizeof<E>()));
      dst += rightCols * sizeof<E>();
    }
  }
}

/**
 * sums (m × cols) += left (m × rows, its rows `leftRow` bytes apart) · tile (rows × cols): one fused step for each row of
 * the tile, in order, from the sums so far.
 */
@inline
export function accumulate<M>(
  sums: usize, left: usize, leftRow: usize, m: usize, tile: usize, rows: usize, cols: usize,
): void {
  const whole = cols & ~7;
  for (let i: usize = 0; i < m; i++) {
    for (let j: usize = 0; j < whole; j += 8) {
      let low = v128.load(sums + j * 4);
      let high = v128.load(sums + j * 4, 16);
      let y = tile + j * 4;
      for (let k: usize = 0; k < rows; k++) {
        const x = v128.load32_splat(left + k * 4);
        low = fma4<M>(x, v128.load(y), low);
        high = fma4<M>(x, v128.load(y, 16), high);
        y += cols * 4;
      }
      v128.store(sums + j * 4, low);
      v128.store(sums + j * 4, high, 16);
    }
    for (let j = whole; j < cols; j++) {
      let sum = v128.load32_splat(sums + j * 4);
      let y = tile + j * 4;
      for (let k: usize = 0; k < rows; k++) {
        sum = fma4<M>(v128.load32_splat(left + k * 4), v128.load32_splat(y), sum);
        y += cols * 4;
      }
      store<f32>(sums + j * 4, f32x4.extract_lane(sum, 0));
    }
    sums += cols * 4;
    left += leftRow;
  }
}
