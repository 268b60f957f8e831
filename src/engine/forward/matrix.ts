/** A row-major float32 matrix; of hidden states one row a token. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array;
}

export function matrix(
  rows: number,
  cols: number,
  data: Float32Array = new Float32Array(rows * cols),
): Matrix {
  if (data.length !== rows * cols) throw new Error(`${data.length} numbers are no matrix [${rows}, ${cols}]`);
  return { rows, cols, data };
}

/** Rows start … stop−1, without copying. */
export function rowsOf({ cols, data }: Matrix, start: number, stop: number): Matrix {
  return { rows: stop - start, cols, data: data.subarray(start * cols, stop * cols) };
}

/** Columns start … stop−1, copied. */
export function columnsOf(of: Matrix, start: number, stop: number): Matrix {
  const cols = stop - start;
  const data = new Float32Array(of.rows * cols);
  for (let row = 0; row < of.rows; row++) {
    const at = row * of.cols;
    data.set(of.data.subarray(at + start, at + stop), row * cols);
  }
  return { rows: of.rows, cols, data };
}

/** Writes a matrix into columns `start` and after of another one with as many rows. */
export function putColumns(into: Matrix, start: number, part: Matrix): void {
  for (let row = 0; row < part.rows; row++) {
    into.data.set(part.data.subarray(row * part.cols, (row + 1) * part.cols), row * into.cols + start);
  }
}

/** to += scale · of, in float32. */
export function addScaled(to: Matrix, of: Matrix, scale: number): void {
  const { data } = to;
  const from = of.data;
  const by = Math.fround(scale);
  if (by === 1) for (let i = 0; i < data.length; i++) data[i]! += from[i]!;
  else for (let i = 0; i < data.length; i++) data[i]! += Math.fround(from[i]! * by);
}

/** Adds one row to each row. */
export function addRow({ rows, cols, data }: Matrix, row: Float32Array): void {
  for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < cols; j++, at++) data[at]! += row[j]!;
}

/** Multiplies each row with one row, element by element. */
export function multiplyRow({ rows, cols, data }: Matrix, row: Float32Array): void {
  for (let i = 0, at = 0; i < rows; i++) for (let j = 0; j < cols; j++, at++) data[at]! *= row[j]!;
}

export function scaled({ rows, cols, data }: Matrix, by: number): Matrix {
  const factor = Math.fround(by);
  return { rows, cols, data: factor === 1 ? data : data.map((value) => value * factor) };
}
