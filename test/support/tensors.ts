import { readFileSync } from "node:fs";

/** A tensor of a small safetensors file, I64 as numbers. */
export interface LoadedTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** Reads a small safetensors file of F32 and I64 tensors as a whole, without the product's own reader. */
export function loadTensors(path: string): Map<string, LoadedTensor> {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString()) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, LoadedTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets } = entry;
    const [begin, end] = data_offsets.map((at) => 8 + length + at) as [number, number];
    const bytes = new Uint8Array(file.subarray(begin, end)).buffer;
    if (dtype !== "F32" && dtype !== "I64") throw new Error(`${name} is ${dtype}`);
    const data =
      dtype === "F32" ? new Float32Array(bytes) : Int32Array.from(new BigInt64Array(bytes), Number);
    tensors.set(name, { shape, data });
  }
  return tensors;
}
