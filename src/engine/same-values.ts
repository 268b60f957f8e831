import { join } from "node:path";
import type { LocatedTensor } from "../core/checkpoint.ts";
import { DTYPE_BITS, elementCount, isMergeable, widen } from "../core/dtype.ts";
import { OpenFiles, readExact } from "../storage/tensor-io.ts";

/** A tensor and the folder that its file lies in. */
export interface PlacedTensor {
  readonly folder: string;
  readonly tensor: LocatedTensor;
}

/** Elements that are compared at once. */
const BLOCK = 1 << 19;

/**
 * Whether two digested tensors of one shape hold the same numbers. Equal bytes say so without reading; the bytes of
 * another float type are widened and compared, so that a checkpoint saved in float32 does not differ from its bfloat16.
 */
export function sameValues(one: PlacedTensor, other: PlacedTensor): boolean {
  if (one.tensor.dtype === other.tensor.dtype) return one.tensor.digest === other.tensor.digest;
  if (!isMergeable(one.tensor.dtype) || !isMergeable(other.tensor.dtype)) return false;
  const files = new OpenFiles();
  const read = ({ folder, tensor }: PlacedTensor, at: number, count: number) => {
    const width = DTYPE_BITS[tensor.dtype] / 8;
    const path = join(folder, tensor.file);
    const bytes = new Uint8Array(count * width);
    readExact(files.reading(path), path, bytes, tensor.begin + at * width);
    return widen(tensor.dtype, bytes);
  };
  try {
    const elements = elementCount(one.tensor.shape);
    for (let at = 0; at < elements; at += BLOCK) {
      const count = Math.min(BLOCK, elements - at);
      const values = read(other, at, count);
      if (read(one, at, count).some((value, i) => !Object.is(value, values[i]))) return false;
    }
    return true;
  } finally {
    files.closeAll();
  }
}
