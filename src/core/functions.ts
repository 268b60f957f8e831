import type { Arithmetic, NdArray } from "./evaluate.ts";
import { BANK } from "./functions-bank.ts";
import { ELEMENTWISE } from "./functions-elementwise.ts";
import { FLOAT8_FUNCTIONS } from "./functions-float8.ts";
import { LORA_FUNCTIONS } from "./functions-lora.ts";
import { REFLECTIONS } from "./functions-reflection.ts";
import { ROAD_FUNCTIONS } from "./functions-road.ts";
import { ROTATIONS } from "./functions-rotation.ts";
import { SPARSE } from "./functions-sparse.ts";

type Params = Readonly<Record<string, number>>;

/** A function of whole tensors that `call` expressions name. */
export interface ExprFunction {
  shape(args: readonly (readonly number[])[], params: Params): readonly number[];
  /** Row i (axis 0) of the value depends only on row i of the first argument, and on the others as a whole. */
  readonly rowwise?: boolean;
  /** Further arguments, by position, of which row i depends only on their row i too. */
  readonly alongside?: readonly number[];
  /** Of a function whose params say which rows its value has: the params for rows start … stop-1 of it alone. */
  cut?(params: Params, start: number, stop: number): Params;
  value(args: readonly NdArray[], params: Params, arithmetic: Arithmetic): NdArray;
}

/** By name. A kind that needs one adds it here, with its formula in the docstring. */
export const FUNCTIONS: Readonly<Record<string, ExprFunction>> = {
  ...BANK,
  ...ELEMENTWISE,
  ...FLOAT8_FUNCTIONS,
  ...LORA_FUNCTIONS,
  ...REFLECTIONS,
  ...ROAD_FUNCTIONS,
  ...ROTATIONS,
  ...SPARSE,
};
