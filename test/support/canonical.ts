/**
 * The canonical arithmetic of a merge, slow and obvious: one element at a time, in plain numbers. It shares no code and
 * no trick with the WASM kernels that it is compared with.
 */

export type FloatDtype = "BF16" | "F16" | "F32";

const view = new DataView(new ArrayBuffer(8));

export function floatBits(value: number): number {
  view.setFloat32(0, value);
  return view.getUint32(0);
}

export function floatOf(bits: number): number {
  view.setUint32(0, bits);
  return view.getFloat32(0);
}

/** Stored bits of a dtype → value. */
export function widenBits(dtype: FloatDtype, bits: number): number {
  if (dtype === "F32") return floatOf(bits);
  if (dtype === "BF16") return floatOf(bits * 65536);
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** float32 value → stored bits, to nearest, ties to even, by looking at both neighbours. NaN is the one quiet NaN. */
export function roundToBits(dtype: FloatDtype, value: number): number {
  if (Number.isNaN(value)) return { BF16: 0x7fc0, F16: 0x7e00, F32: 0x7fc00000 }[dtype];
  if (dtype === "F32") return floatBits(value);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  const top = dtype === "BF16" ? 0x7f80 : 0x7c00;
  if (magnitude === Number.POSITIVE_INFINITY) return sign | top;
  // Positive patterns are ordered like their values: find the largest that is not above.
  let low = 0;
  let high = top;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (widenBits(dtype, middle) <= magnitude) low = middle;
    else high = middle;
  }
  // Rounding treats the first value beyond the range as a number: 2^128 for BF16, 65536 for F16.
  const above = high === top ? (dtype === "BF16" ? 2 ** 128 : 65536) : widenBits(dtype, high);
  const down = magnitude - widenBits(dtype, low);
  const up = above - magnitude;
  return sign | (down < up || (down === up && low % 2 === 0) ? low : high);
}

/** a·b + c of float32 values with one rounding. */
export function fma32(a: number, b: number, c: number): number {
  const sum = a * b + c;
  if (!Number.isFinite(sum) || a * b === 0 || c === 0) return Math.fround(sum);
  // `sum` is rounded to 53 bits, `fround` rounds it again. That can differ from one rounding only where the first put
  // it exactly half way between two floats; there, and where floats have fewer bits (subnormals), count exactly.
  view.setFloat64(0, sum);
  const halfWay = (view.getUint32(4) & 0x1fffffff) === 0x10000000;
  return halfWay || Math.abs(sum) < 2 ** -125 ? exactFma(a, b, c) : Math.fround(sum);
}

/** The same in whole numbers: every float32 is a multiple of 2^-149, every product one of 2^-298. */
export function exactFma(a: number, b: number, c: number): number {
  const units = (x: number) => {
    const bits = floatBits(x);
    const exponent = (bits >>> 23) & 255;
    const fraction = BigInt(bits & 0x7fffff);
    const size = exponent === 0 ? fraction : (fraction | 0x800000n) << BigInt(exponent - 1);
    return bits >>> 31 ? -size : size;
  };
  const total = units(a) * units(b) + (units(c) << 149n);
  if (total === 0n) return a * b + c;
  const magnitude = total < 0n ? -total : total;
  // 24 bits of precision, but never below the subnormal step 2^-149 (bit 149 of `magnitude`).
  const shift = BigInt(Math.max(149, magnitude.toString(2).length - 24));
  let kept = magnitude >> shift;
  const rest = magnitude - (kept << shift);
  const half = 1n << (shift - 1n);
  if (rest > half || (rest === half && kept % 2n === 1n)) kept += 1n;
  const value = Math.fround(Number(kept) * 2 ** Number(shift - 298n));
  return total < 0n ? -value : value;
}

/** Lengths of the K-blocks in which the product is summed. */
export function kBlocks(rank: number): number[] {
  if (rank <= 192) return [rank];
  if (rank <= 384) {
    const half = Math.floor(rank / 2);
    return rank % 2 === 0 ? [half, half] : [half, half, 1];
  }
  const blocks: number[] = [];
  for (let left = rank; left > 0; left -= 192) blocks.push(Math.min(192, left));
  return blocks;
}

/** One element of B·A: `b` is a row of B, `a` a column of A, both float32. */
export function dot32(b: readonly number[], a: readonly number[], rank: number): number {
  let total: number | null = null;
  let k = 0;
  for (const length of kBlocks(rank)) {
    let sum = 0;
    for (const end = k + length; k < end; k++) sum = fma32(b[k]!, a[k]!, sum);
    total = total === null ? sum : Math.fround(total + sum);
  }
  return total!;
}

/** round(f32(W) + fround(P · fround(scale))), as stored bits. */
export function mergedBits(dtype: FloatDtype, weight: number, product: number, scale: number): number {
  const delta = Math.fround(product * Math.fround(scale));
  return roundToBits(dtype, Math.fround(widenBits(dtype, weight) + delta));
}

export interface MergeCase {
  readonly dtype: FloatDtype;
  readonly rows: number;
  readonly cols: number;
  readonly rank: number;
  readonly scale: number;
  /** rows × cols stored bits. */
  readonly w: readonly number[];
  /** rank × cols float32 values. */
  readonly a: readonly number[];
  /** rows × rank float32 values. */
  readonly b: readonly number[];
}

/** The stored bits of the whole merged matrix. */
export function mergeReference(input: MergeCase): number[] {
  const { dtype, rows, cols, rank, scale, w, a, b } = input;
  const columns = Array.from({ length: cols }, (_, j) =>
    Array.from({ length: rank }, (_, k) => a[k * cols + j]!),
  );
  const out: number[] = [];
  for (let i = 0; i < rows; i++) {
    const row = b.slice(i * rank, (i + 1) * rank);
    for (let j = 0; j < cols; j++) {
      out.push(mergedBits(dtype, w[i * cols + j]!, dot32(row, columns[j]!, rank), scale));
    }
  }
  return out;
}

export const WIDTH = { BF16: 2, F16: 2, F32: 4 } as const;

/** Little-endian bytes of stored bit patterns. */
export function toBytes(dtype: FloatDtype, bits: readonly number[]): Uint8Array {
  const array = dtype === "F32" ? new Uint32Array(bits) : new Uint16Array(bits);
  return new Uint8Array(array.buffer);
}

export function fromBytes(dtype: FloatDtype, bytes: Uint8Array): number[] {
  const copy = bytes.slice().buffer;
  return Array.from(dtype === "F32" ? new Uint32Array(copy) : new Uint16Array(copy));
}

/** A seeded generator of numbers in [0, 1) (mulberry32), so that a failure can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A merge of random matrices whose deltas are about as large as the weights. */
export function randomCase(
  shape: { dtype: FloatDtype; rows: number; cols: number; rank: number },
  seed: number,
): MergeCase {
  const random = seeded(seed);
  const normal = () => random() + random() + random() - 1.5;
  const { dtype, rows, cols, rank } = shape;
  return {
    ...shape,
    scale: 2 / Math.sqrt(rank),
    w: Array.from({ length: rows * cols }, () => roundToBits(dtype, Math.fround(normal() * 0.04))),
    a: Array.from({ length: rank * cols }, () => Math.fround(normal() * 0.2)),
    b: Array.from({ length: rows * rank }, () => Math.fround(normal() * 0.1)),
  };
}
