import { type Dtype, widen } from "../core/dtype.ts";
import type { NdArray } from "../core/evaluate.ts";
import type { StoredTensor } from "./pool.ts";

const INTEGERS: Partial<Record<Dtype, (bytes: ArrayBuffer) => ArrayLike<number | bigint>>> = {
  I64: (bytes) => new BigInt64Array(bytes),
  I32: (bytes) => new Int32Array(bytes),
  I16: (bytes) => new Int16Array(bytes),
  I8: (bytes) => new Int8Array(bytes),
  U8: (bytes) => new Uint8Array(bytes),
  BOOL: (bytes) => new Uint8Array(bytes),
};

/** A stored tensor as numbers, from all of its bytes. */
export function widened({ dtype, shape }: Pick<StoredTensor, "dtype" | "shape">, bytes: Uint8Array): NdArray {
  const integers = INTEGERS[dtype];
  if (!integers) return { shape, values: widen(dtype, bytes) };
  const aligned = bytes.slice().buffer as ArrayBuffer;
  return { shape, values: Float64Array.from(Array.from(integers(aligned), Number)) };
}
