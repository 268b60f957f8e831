import type { MergeableDtype } from "./dtype.ts";
import { type Float8Dtype, float8ToNumber, largestFloat8, roundToFloat8 } from "./float8.ts";
import type { ExprFunction } from "./functions.ts";
import { bitsToNumber, roundToBits } from "./numerics.ts";

/** Numbers stand for types in params, which hold nothing else. */
export const FLOAT8_CODES: Readonly<Record<Float8Dtype, number>> = { F8_E4M3: 0, F8_E5M2: 1 };
export const SCALE_CODES: Readonly<Record<MergeableDtype, number>> = { F32: 0, BF16: 1, F16: 2 };

const keyOf = <Name extends string>(codes: Readonly<Record<Name, number>>, code: number): Name =>
  (Object.keys(codes) as Name[]).find((name) => codes[name] === code)!;

/** New scales: where the largest magnitudes of blocks of `high`×`wide` elements are kept, one a block. */
export interface ScaleParams {
  readonly high: number;
  readonly wide: number;
  /** Blocks below one another, and side by side. */
  readonly rows: number;
  readonly columns: number;
  /** Dimensions of the stored scales: 0, 1 or 2. */
  readonly rank: number;
  /** Codes of the 8-bit type and of the scales' own. */
  readonly dtype: number;
  readonly scaleDtype: number;
}

export const scaleShape = ({ rank, rows, columns }: ScaleParams): readonly number[] =>
  rank === 0 ? [] : rank === 1 ? [rows * columns] : [rows, columns];

/** Widens the largest magnitudes by `rows` rows from row `at` on; `values` row-major with `n` columns. */
export function addLargest(
  largest: Float64Array,
  values: ArrayLike<number>,
  { at, n }: { at: number; n: number },
  { high, wide, columns }: ScaleParams,
): void {
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.abs(values[i]!);
    const block = Math.floor((at + Math.floor(i / n)) / high) * columns + Math.floor((i % n) / wide);
    // NaN goes through: what is quantised with it is refused.
    if (!(magnitude <= largest[block]!)) largest[block] = magnitude;
  }
}

/** Largest magnitudes → scales as they are stored: over the type's largest value; 1 for a block of zeros. */
export function scalesFrom(
  largest: Float64Array,
  { dtype, scaleDtype }: ScaleParams,
  step: (value: number) => number,
): Float64Array {
  const most = largestFloat8(keyOf(FLOAT8_CODES, dtype));
  const stored = keyOf(SCALE_CODES, scaleDtype);
  return largest.map((value) =>
    value === 0 ? 1 : bitsToNumber(stored, roundToBits(stored, step(value / most))),
  );
}

export const FLOAT8_FUNCTIONS: Readonly<Record<string, ExprFunction>> = {
  /** A matrix of ones, to spread one scale over a block with. */
  ones: {
    shape: (_, { rows, columns }) => [rows!, columns!],
    value: (_, { rows, columns }) => ({
      shape: [rows!, columns!],
      values: new Float64Array(rows! * columns!).fill(1),
    }),
  },
  /** The scales that a matrix gets when it is quantised: see `scalesFrom`. */
  "float8-scales": {
    shape: (_, params) => scaleShape(params as unknown as ScaleParams),
    value([matrix], params, { step }) {
      const known = params as unknown as ScaleParams;
      const largest = new Float64Array(known.rows * known.columns);
      addLargest(largest, matrix!.values, { at: 0, n: matrix!.shape[1]! }, known);
      return { shape: scaleShape(known), values: scalesFrom(largest, known, step) };
    },
  },
  /** Each value rounded to an 8-bit type, and widened again. */
  "float8-round": {
    shape: ([values]) => values!,
    rowwise: true,
    value([of], { dtype }) {
      const format = keyOf(FLOAT8_CODES, dtype!);
      return {
        shape: of!.shape,
        values: of!.values.map((v) => float8ToNumber(format, roundToFloat8(format, v))),
      };
    },
  },
};
