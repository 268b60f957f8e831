import { widen } from "../../src/core/dtype.ts";
import type { readTensors } from "./tensor-files.ts";

type Tensors = Awaited<ReturnType<typeof readTensors>>;

const FRACTION_BITS: Readonly<Record<string, number>> = { BF16: 7, F16: 10, F32: 23 };
const LOWEST_EXPONENT: Readonly<Record<string, number>> = { BF16: -126, F16: -14, F32: -126 };

/**
 * How far a merge is from another one, over all elements of the target's tensors: the share that differs, and the
 * largest difference in units in the last place at the larger of |W| and |W'|.
 */
export function distance({ before, after, target }: { before: Tensors; after: Tensors; target: Tensors }) {
  let elements = 0;
  let differing = 0;
  let ulp = 0;
  for (const [name, { dtype, bytes }] of target) {
    const expected = widen(dtype as "BF16", bytes);
    const actual = widen(dtype as "BF16", after.get(name)!.bytes);
    const base = before.get(name);
    const weight =
      base && base.bytes.byteLength === bytes.byteLength ? widen(dtype as "BF16", base.bytes) : expected;
    elements += expected.length;
    for (const [i, value] of expected.entries()) {
      if (Object.is(value, actual[i])) continue;
      differing++;
      const operand = Math.max(Math.abs(weight[i]!), Math.abs(value), 2 ** LOWEST_EXPONENT[dtype]!);
      const unit = 2 ** (Math.floor(Math.log2(operand)) - FRACTION_BITS[dtype]!);
      ulp = Math.max(ulp, Math.abs(value - actual[i]!) / unit);
    }
  }
  return { share: differing / Math.max(1, elements), ulp };
}
