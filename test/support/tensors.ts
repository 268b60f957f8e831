import { readTensors } from "./tensor-files.ts";

/** The numbers of a tensor, I64 as whole numbers. */
export interface LoadedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** Reads a small safetensors file of F32 and I64 tensors as a whole, without the product's own reader. */
export async function loadTensors(path: string): Promise<Map<string, LoadedTensor>> {
  const tensors = [...(await readTensors(path))].map(([name, { dtype, shape, bytes }]) => {
    // A copy of its own, which begins where a number may.
    const { buffer } = new Uint8Array(bytes);
    if (dtype !== "F32" && dtype !== "I64") throw new Error(`${name} is ${dtype}`);
    const data =
      dtype === "F32" ? new Float32Array(buffer) : Int32Array.from(new BigInt64Array(buffer), Number);
    return [name, { shape, data }] as const;
  });
  return new Map(tensors);
}
