import { AppError } from "./errors.ts";
import type { NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";

type Params = Readonly<Record<string, number>>;

/**
 * A matrix with some values added at their places: args [of (m×n), values (k), places (2×k rows and columns, or k
 * positions in row-major order)], params { rows, columns, first }, where `of` is rows `first` … of a matrix of so many
 * rows. Nothing is added anywhere else, so that a zero keeps its sign. Values at one place are added one after another.
 */
const addAt: ExprFunction = {
  shape: ([of]) => of!,
  rowwise: true,
  cut: (params, start) => ({ ...params, first: params.first! + start }),
  value([of, added, places], params, { step }) {
    const { columns, first } = params as { columns: number; first: number };
    const values = of!.values.slice();
    for (const [i, value] of added!.values.entries()) {
      const [row, column] = place(places!, i, params);
      const at = (row - first) * columns + column;
      if (at >= 0 && at < values.length) values[at] = step(values[at]! + value);
    }
    return { shape: of!.shape, values };
  },
};

function place(places: NdArray, i: number, { rows, columns }: Params): [row: number, column: number] {
  const { values, shape } = places;
  const pair = shape.length === 2;
  const row = pair ? values[i]! : Math.floor(values[i]! / columns!);
  const column = pair ? values[shape[1]! + i]! : values[i]! % columns!;
  const fits = (at: number, size: number) => Number.isInteger(at) && at >= 0 && at < size;
  if (!fits(row, rows!) || !fits(column, columns!)) {
    const found = pair ? `[${row}, ${column}]` : String(values[i]);
    throw new AppError(
      "INDEX_OUT_OF_RANGE",
      `the adapter adds a value at ${found}, which is no place in a weight of [${rows}, ${columns}]: the adapter belongs to another base, or its file is damaged. Name the base it was trained on.`,
    );
  }
  return [row, column];
}

/**
 * Blocks of circulant matrices (C3A): args [kernel (m×n×b)], params { first, count }; the value has m·b rows and n·b
 * columns, and entry [i, j] of block (p, q) is `kernel[p, q, (j − i) mod b]`.
 */
const circulant: ExprFunction = {
  shape: ([kernel], { count }) => [count!, kernel![1]! * kernel![2]!],
  cut: (params, start, stop) => ({ first: params.first! + start, count: stop - start }),
  value([kernel], params) {
    const { first, count } = params as { first: number; count: number };
    const [, across, size] = kernel!.shape as [number, number, number];
    const columns = across * size;
    const values = new Float64Array(count * columns);
    for (let row = 0; row < count; row++) {
      const block = Math.floor((first + row) / size);
      const i = (first + row) % size;
      for (let column = 0; column < columns; column++) {
        const lag = (((column % size) - i) % size) + size;
        const at = (block * across + Math.floor(column / size)) * size + (lag % size);
        values[row * columns + column] = kernel!.values[at]!;
      }
    }
    return { shape: [count, columns], values };
  },
};

export const SPARSE: Readonly<Record<string, ExprFunction>> = { "add-at": addAt, circulant };
