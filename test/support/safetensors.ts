import { byteLength, type Dtype } from "../../src/core/dtype.ts";
import { buildSafetensorsHeader } from "../../src/core/safetensors.ts";

export interface TestTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Zeros where absent. */
  readonly bytes?: Uint8Array;
}

/** The bytes of a valid safetensors file with the tensors in the given order. */
export function safetensorsFile(
  tensors: readonly TestTensor[],
  metadata: Record<string, string> = { format: "pt" },
): Uint8Array {
  let at = 0;
  const placed = tensors.map((tensor) => {
    const begin = at;
    at += byteLength(tensor.dtype, tensor.shape)!;
    return { ...tensor, begin, end: at };
  });
  const header = buildSafetensorsHeader(metadata, placed);
  const file = new Uint8Array(header.byteLength + at);
  file.set(header);
  for (const { bytes, begin } of placed) if (bytes) file.set(bytes, header.byteLength + begin);
  return file;
}

/** A file with any JSON as its header, valid or not, and `data` bytes of zeros. */
export function rawSafetensors(header: string, data: number, claimedLength?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.byteLength + data);
  new DataView(file.buffer).setBigUint64(0, claimedLength ?? BigInt(text.byteLength), true);
  file.set(text, 8);
  return file;
}
