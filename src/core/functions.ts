import type { Arithmetic, NdArray } from "./evaluate.ts";

type Params = Readonly<Record<string, number>>;

/** A function of whole tensors that `call` expressions name. */
export interface ExprFunction {
  shape(args: readonly (readonly number[])[], params: Params): readonly number[];
  /** Row i (axis 0) of the value depends only on row i of the first argument, and on the others as a whole. */
  readonly rowwise?: boolean;
  value(args: readonly NdArray[], params: Params, arithmetic: Arithmetic): NdArray;
}

/** By name. A kind that needs one adds it here, with its formula in the docstring. */
export const FUNCTIONS: Readonly<Record<string, ExprFunction>> = {};
