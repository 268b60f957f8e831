import type { MergeableDtype } from "./dtype.ts";
import type { NdArray } from "./evaluate.ts";
import { type Float8Dtype, float8ToNumber, largestFloat8, roundToFloat8 } from "./float8.ts";
import type { ExprFunction } from "./functions.ts";
import { bitsToNumber, roundToBits } from "./numerics.ts";

/** Numbers stand for types in params, which hold nothing else. */
export const FLOAT8_CODES: Readonly<Record<Float8Dtype, number>> = { F8_E4M3: 0, F8_E5M2: 1 };
export const SCALE_CODES: Readonly<Record<MergeableDtype, number>> = { F32: 0, BF16: 1, F16: 2 };

const keyOf = <Name extends string>(codes: Readonly<Record<Name, number>>, code: number): Name =>
  (Object.keys(codes) as Name[]).find((name) => codes[name] === code)!;

/** The scale that element (i, j) of a matrix has, for one scale a block of `high`×`wide` elements. */
const scaleAt = (scales: NdArray, i: number, j: number, { high, wide }: { high: number; wide: number }) => {
  const across = scales.shape.length > 1 ? scales.shape.at(-1)! : 1;
  return Math.floor(i / high) * across + Math.floor(j / wide);
};

export const FLOAT8_FUNCTIONS: Readonly<Record<string, ExprFunction>> = {
  /** The scale of values that have none. */
  "float8-one": { shape: () => [1], value: () => ({ shape: [1], values: Float64Array.of(1) }) },
  /** Stored values times their scales: q[i,j] · s[⌊i/high⌋, ⌊j/wide⌋], one float32 step. */
  "float8-dequantise": {
    shape: ([values]) => values!,
    value([values, scales], params, { step }) {
      const [rows, columns] = values!.shape as [number, number];
      const out = new Float64Array(values!.values.length);
      const block = params as { high: number; wide: number };
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++) {
          const at = i * columns + j;
          out[at] = step(values!.values[at]! * scales!.values[scaleAt(scales!, i, j, block)]!);
        }
      return { shape: values!.shape, values: out };
    },
  },
  /** New scales of a matrix: the largest magnitude of each block over the type's largest value; 1 for a block of zeros. */
  "float8-scales": {
    shape: (_, { rank, rows, columns }) => (rank === 0 ? [] : rank === 1 ? [rows!] : [rows!, columns!]),
    value([values], params, { step }) {
      const [m, n] = values!.shape as [number, number];
      const { high, wide, rank, rows, columns, dtype } = params as Record<string, number>;
      const largest = new Float64Array(rows! * columns!);
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          const at = Math.floor(i / high!) * columns! + Math.floor(j / wide!);
          largest[at] = Math.max(largest[at]!, Math.abs(values!.values[i * n + j]!));
        }
      const most = largestFloat8(keyOf(FLOAT8_CODES, dtype!));
      const scales = largest.map((value) => (value === 0 ? 1 : step(value / most)));
      return { shape: rank === 0 ? [] : rank === 1 ? [rows!] : [rows!, columns!], values: scales };
    },
  },
  /** Values over their scales as these are stored, each rounded to the 8-bit type. */
  "float8-quantise": {
    shape: ([values]) => values!,
    value([values, scales], params, { step }) {
      const [rows, columns] = values!.shape as [number, number];
      const { high, wide, dtype, scaleDtype } = params as Record<string, number>;
      const format = keyOf(FLOAT8_CODES, dtype!);
      const stored = keyOf(SCALE_CODES, scaleDtype!);
      const kept = scales!.values.map((value) => bitsToNumber(stored, roundToBits(stored, value)));
      const out = new Float64Array(values!.values.length);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < columns; j++) {
          const at = i * columns + j;
          const scale = kept[scaleAt(scales!, i, j, { high: high!, wide: wide! })]!;
          out[at] = float8ToNumber(format, roundToFloat8(format, step(values!.values[at]! / scale)));
        }
      return { shape: values!.shape, values: out };
    },
  },
};
