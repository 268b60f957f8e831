import { bf16ToNumber, f16ToNumber, floatFromBits, type MergeableDtype } from "./dtype.ts";
import type { Arithmetic, NdArray } from "./evaluate.ts";
import { EXACT_NUMERICS } from "./numerics-versions.ts";
import type { Recipe } from "./recipe.ts";

/*
 * The canonical arithmetic ("peft-1"), slow and obvious: what PEFT computes on an x86-64 CPU with MKL, as a rule.
 * The WASM kernels are checked against it, and so are sampled rows of every merge. `exact` beside it is the oracle.
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

/** float64 throughout: the exact value, up to 2⁻⁵³. */
export const exact: Arithmetic = {
  step: (value) => value,
  store: (value) => value,
  matmul(left, right) {
    const [m, k, n] = matmulSizes(left, right);
    const values = new Float64Array(m * n);
    for (let i = 0; i < m; i++)
      for (let l = 0; l < k; l++) {
        const factor = left.values[i * k + l]!;
        for (let j = 0; j < n; j++) values[i * n + j]! += factor * right.values[l * n + j]!;
      }
    return { shape: [m, n], values };
  },
  norm: (values, run) => Math.sqrt(sumOfSquares(values, run)),
};

/** The canonical float32 steps for an output of this storage type. */
export function canonical(dtype: MergeableDtype): Arithmetic {
  return {
    step: Math.fround,
    store: (value) => bitsToNumber(dtype, roundToBits(dtype, value)),
    matmul: float32Product,
    norm: float32Norm,
  };
}

/** The arithmetic that a recipe names, for an output of this storage type. */
export function arithmeticOf(numerics: Recipe["numerics"], dtype: MergeableDtype): Arithmetic {
  return numerics === EXACT_NUMERICS ? exact : canonical(dtype);
}

/** Bits of a finished value in the storage type. */
export function storedBits(numerics: Recipe["numerics"], dtype: MergeableDtype, value: number): number {
  return numerics === EXACT_NUMERICS ? roundOnce(dtype, value) : roundToBits(dtype, value);
}

function matmulSizes(left: NdArray, right: NdArray): [m: number, k: number, n: number] {
  const [m, k] = left.shape as [number, number];
  const [k2, n] = right.shape as [number, number];
  if (left.shape.length !== 2 || right.shape.length !== 2 || k !== k2) {
    throw new Error(`cannot multiply [${left.shape}] by [${right.shape}]`);
  }
  return [m, k, n];
}

function float32Product(left: NdArray, right: NdArray, order: "fused" | "unfused"): NdArray {
  const [m, k, n] = matmulSizes(left, right);
  const values = new Float64Array(m * n);
  const blocks = order === "fused" ? rankBlocks(k) : [k];
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let total = 0;
      let l = 0;
      for (const [block, length] of blocks.entries()) {
        let acc = 0;
        for (const end = l + length; l < end; l++) {
          const a = left.values[i * k + l]!;
          const b = right.values[l * n + j]!;
          acc = order === "fused" ? fma32(a, b, acc) : Math.fround(acc + Math.fround(a * b));
        }
        total = block === 0 ? acc : Math.fround(total + acc);
      }
      values[i * n + j] = total;
    }
  return { shape: [m, n], values };
}

interface Run {
  readonly at: number;
  readonly count: number;
  readonly stride: number;
}

function sumOfSquares(values: Float64Array, { at, count, stride }: Run): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const value = values[at + i * stride]!;
    // A product, which is rounded once; what a power is rounded to is left to the engine that runs this.
    sum += value * value;
  }
  return sum;
}

/**
 * torch's float32 length on a CPU: of a contiguous row eight lanes without fusing, then the lanes in turn; of the
 * rest (7 at most) four in turn without fusing where there are four, the last ones fused; of a transposed view one sum in order without fusing.
 */
function float32Norm(values: Float64Array, run: Run, order: string): number {
  if (order === "double") return Math.fround(Math.sqrt(sumOfSquares(values, run)));
  const { at, count, stride } = run;
  const value = (i: number) => values[at + i * stride]!;
  const square = (i: number) => Math.fround(value(i) * value(i));
  let total = 0;
  if (order === "sequence") {
    for (let i = 0; i < count; i++) total = Math.fround(total + square(i));
    return Math.fround(Math.sqrt(total));
  }
  const whole = count - (count % 8);
  const lanes = new Float64Array(8);
  for (let i = 0; i < whole; i++) lanes[i % 8] = Math.fround(lanes[i % 8]! + square(i));
  for (const lane of lanes) total = Math.fround(total + lane);
  const fours = count - (count % 4);
  for (let i = whole; i < fours; i++) total = Math.fround(total + square(i));
  for (let i = fours; i < count; i++) total = fma32(value(i), value(i), total);
  return Math.fround(Math.sqrt(total));
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

/** Bits of a float64 value in a storage type, rounded once: through float32 rounded to odd, which loses nothing. */
export function roundOnce(dtype: MergeableDtype, value: number): number {
  const near = Math.fround(value);
  if (dtype === "F32" || near === value || !Number.isFinite(near)) return roundToBits(dtype, near);
  floats[0] = near;
  // Towards zero, with the last bit telling that something was cut off.
  if (Math.abs(near) > Math.abs(value)) words[0]! -= 1;
  words[0]! |= 1;
  return roundToBits(dtype, floats[0]!);
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
