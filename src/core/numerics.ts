import { bf16ToNumber, f16ToNumber, floatFromBits, type MergeableDtype } from "./dtype.ts";

/*
 * The canonical arithmetic ("peft-1"), slow and obvious: what PEFT computes on an x86-64 CPU with MKL, as a rule.
 * The WASM kernels are checked against it, and so are sampled rows of every merge.
 */

/** Above this rank MKL splits the sum over the rank into blocks, each summed from zero. */
const BLOCK = 192;

/** Lengths of the blocks of the rank: ≤192 one, ≤384 two halves and a trailing 1, above that 192s and the rest. */
export function rankBlocks(rank: number): number[] {
  if (rank <= BLOCK) return [rank];
  if (rank <= 2 * BLOCK) {
    const half = Math.floor(rank / 2);
    return rank % 2 === 0 ? [half, half] : [half, half, 1];
  }
  const blocks: number[] = [];
  for (let left = rank; left > 0; left -= BLOCK) blocks.push(Math.min(BLOCK, left));
  return blocks;
}

/**
 * `a·b + c` of three float32 values, rounded once to float32. The product is exact in float64; where the float64 sum
 * is inexact and lands on the midpoint of two float32 values, its error decides, so there is no double rounding.
 */
export function fma32(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const rounded = Math.fround(sum);
  if (rounded === sum || !Number.isFinite(rounded)) return rounded;
  const virtual = sum - product;
  const error = product - (sum - virtual) + (c - virtual);
  if (error === 0) return rounded;
  const other = Math.fround(sum + (sum - rounded));
  if (other - sum !== sum - rounded || other === rounded) return rounded;
  return error > 0 ? Math.max(rounded, other) : Math.min(rounded, other);
}

export interface LowRankRow {
  /** The row of W, widened: n values. */
  readonly weight: Float64Array;
  /** The row of B, widened: r values. */
  readonly b: Float64Array;
  /** All of A, widened, row-major: r×n values. */
  readonly a: Float64Array;
  /** alpha/r or alpha/√r in float64; rounded to float32 before it multiplies. */
  readonly scale: number;
  /** Storage type of W, and of the result. */
  readonly dtype: MergeableDtype;
}

/** One row of `round(W + fround(B·A)·s)`, as stored bits. */
export function mergeRow({ weight, b, a, scale, dtype }: LowRankRow): Uint32Array {
  const columns = weight.length;
  const factor = Math.fround(scale);
  const bits = new Uint32Array(columns);
  const blocks = rankBlocks(b.length);
  for (let j = 0; j < columns; j++) {
    let total = 0;
    let k = 0;
    for (const [i, length] of blocks.entries()) {
      let acc = 0;
      for (const end = k + length; k < end; k++) acc = fma32(b[k]!, a[k * columns + j]!, acc);
      total = i === 0 ? acc : Math.fround(total + acc);
    }
    bits[j] = roundToBits(dtype, Math.fround(weight[j]! + Math.fround(total * factor)));
  }
  return bits;
}

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** Bits of a float32 value in a storage type, rounded to nearest even. */
export function roundToBits(dtype: MergeableDtype, value: number): number {
  floats[0] = value;
  const bits = words[0]!;
  if (dtype === "F32") return bits;
  return dtype === "BF16" ? roundToBf16(bits) : roundToF16(bits);
}

function roundToBf16(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function roundToF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal half: adding 0.5 makes float32's own rounding drop the right bits, half's spacing there being 2⁻²⁴.
    floats[0] = Math.fround(floatFromBits(magnitude) + 0.5);
    return sign | (words[0]! - 0x3f000000);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude - 0x38000000 + 0xfff + odd) >>> 13);
}

/** Value of stored bits. */
export function bitsToNumber(dtype: MergeableDtype, bits: number): number {
  if (dtype === "BF16") return bf16ToNumber(bits);
  return dtype === "F16" ? f16ToNumber(bits) : floatFromBits(bits);
}
