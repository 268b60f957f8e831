import { AppError } from "./errors.ts";
import type { NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";

const map = ({ shape, values }: NdArray, f: (value: number) => number): NdArray => ({
  shape,
  values: values.map((value) => f(value)),
});

/** A function of each element for itself; its value is one float32 step. */
const elementwise = (f: (value: number) => number): ExprFunction => ({
  shape: ([of]) => of!,
  rowwise: true,
  value: ([of], _, { step }) => map(of!, (value) => step(f(value))),
});

export const ELEMENTWISE: Readonly<Record<string, ExprFunction>> = {
  cos: elementwise(Math.cos),
  sin: elementwise(Math.sin),
  /** max(x, `least`), torch's `clamp(min=…)`: NaN stays. */
  "at-least": {
    shape: ([of]) => of!,
    rowwise: true,
    value([of], { least }, { step }) {
      const bound = step(least!);
      return map(of!, (value) => (value < bound ? bound : value));
    },
  },
  /** Its first argument, of which the second has to be a copy. */
  agreeing: {
    shape: ([one]) => one!,
    value([one, other]) {
      const same = one!.values.length === other!.values.length;
      if (same && one!.values.every((value, i) => Object.is(value, other!.values[i]))) return one!;
      throw new AppError(
        "COPIES_DIFFER",
        "the adapter file holds two copies of a shared tensor that differ, and which one is meant is a guess: save the adapter again.",
      );
    },
  },
};
