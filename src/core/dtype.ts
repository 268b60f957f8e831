import { float8ToNumber } from "./float8.ts";

/** Element types a safetensors file may hold, with their width in bits. */
export const DTYPE_BITS = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  F64: 64,
  I64: 64,
  U64: 64,
  C64: 64,
} as const;

export type Dtype = keyof typeof DTYPE_BITS;

/** The storage types whose elements Graftwork merges into. */
export const MERGEABLE_DTYPES = ["BF16", "F16", "F32"] as const;
export type MergeableDtype = (typeof MERGEABLE_DTYPES)[number];

export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BITS, value);
}

export function isMergeable(dtype: Dtype): dtype is MergeableDtype {
  return (MERGEABLE_DTYPES as readonly string[]).includes(dtype);
}

/** Number of elements of a shape; a 0-dim tensor has one. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Bytes a tensor takes in a file; `null` where the elements do not fill whole bytes or the product leaves 2⁵³. */
export function byteLength(dtype: Dtype, shape: readonly number[]): number | null {
  const bits = elementCount(shape) * DTYPE_BITS[dtype];
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : null;
}

const scratch = new DataView(new ArrayBuffer(8));

/** The float32 with the given bits. */
export function floatFromBits(bits: number): number {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

/** bfloat16 bits → value: the upper half of a float32. */
export function bf16ToNumber(bits: number): number {
  return floatFromBits((bits << 16) >>> 0);
}

/** IEEE half bits → value, subnormals included. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

let halves: Float32Array | null = null;

/** The value of every half, by its bits. */
export function halfTable(): Float32Array {
  halves ??= Float32Array.from({ length: 65_536 }, (_, bits) => f16ToNumber(bits));
  return halves;
}

/**
 * Reads elements from little-endian bytes, widened without rounding; of I64 up to 2⁵³, which no index passes.
 * @param bytes the tensor's bytes, row-major
 * @returns one number an element (float32 values, or float64 for F64; whole numbers for integer types)
 */
export function widen(dtype: Dtype, bytes: Uint8Array): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = READERS[dtype];
  if (!read) throw new Error(`${dtype} is not a type that can be widened`);
  const width = DTYPE_BITS[dtype] / 8;
  const out = new Float64Array(bytes.byteLength / width);
  for (let i = 0; i < out.length; i++) out[i] = read(view, i * width);
  return out;
}

const READERS: Partial<Record<Dtype, (view: DataView, at: number) => number>> = {
  BF16: (view, at) => bf16ToNumber(view.getUint16(at, true)),
  F16: (view, at) => f16ToNumber(view.getUint16(at, true)),
  F32: (view, at) => view.getFloat32(at, true),
  F64: (view, at) => view.getFloat64(at, true),
  F8_E4M3: (view, at) => float8ToNumber("F8_E4M3", view.getUint8(at)),
  F8_E5M2: (view, at) => float8ToNumber("F8_E5M2", view.getUint8(at)),
  BOOL: (view, at) => view.getUint8(at),
  U8: (view, at) => view.getUint8(at),
  I8: (view, at) => view.getInt8(at),
  I16: (view, at) => view.getInt16(at, true),
  I32: (view, at) => view.getInt32(at, true),
  I64: (view, at) => Number(view.getBigInt64(at, true)),
};
