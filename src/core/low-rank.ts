import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/** Rows of a difference F − W, as they are read: `rows` × n float64 values, row-major. */
export interface RowBlock {
  /** First row. */
  readonly at: number;
  readonly rows: number;
  readonly values: Float64Array;
}

/** Reads all rows once, in order, in blocks; called once a pass. */
export type Passes = () => Iterable<RowBlock>;

export interface LowRankFactors {
  /** m×r, row-major. */
  readonly left: Float64Array;
  /** r×n, row-major. */
  readonly right: Float64Array;
  /** Descending; what the singular value decomposition found, at most `rank` of them. */
  readonly singularValues: readonly number[];
  /** ‖D‖², of the whole difference. */
  readonly energy: number;
}

/** Columns beyond the rank that the range finder keeps: they make the last kept direction accurate. */
const OVERSAMPLING = 8;
/** Passes that sharpen the range: two are enough for the flat spectra of weight differences (Halko et al. 2011, 4.5). */
const POWER_PASSES = 2;

interface Size {
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
  readonly seed: number;
}

/**
 * The best approximation of rank r to a difference D (m×n) that is never held in memory: randomised range finder with
 * power iterations (Halko, Martinsson, Tropp 2011, algorithm 4.4), then an exact decomposition of the small rest.
 * D ≈ left·right, both with √σ in them. The seed decides the random start; the same seed gives the same bytes.
 */
export function approximate(passes: Passes, size: Size): LowRankFactors {
  const { rows, columns, rank } = size;
  const width = Math.min(rank + OVERSAMPLING, rows, columns);
  let energy = 0;
  let range = gaussian(columns * width, size.seed);
  const left = new Float64Array(rows * width);
  for (let pass = 0; pass <= POWER_PASSES; pass++) {
    energy = 0;
    for (const block of passes()) {
      timesRight(block, columns, range, width, left);
      for (const value of block.values) energy += value * value;
    }
    orthonormalise(left, rows, width);
    range = new Float64Array(columns * width);
    for (const block of passes()) timesTransposed(block, columns, left, width, range);
    // The last one stays as it is: it is Dᵀ·Q.
    if (pass < POWER_PASSES) orthonormalise(range, columns, width);
  }
  return { ...truncated({ left, range, width }, size), energy };
}

/** Q (m×w, orthonormal) and C = Dᵀ·Q (n×w) → factors of rank r from the eigenvectors of CᵀC. */
function truncated(
  { left, range, width }: { left: Float64Array; range: Float64Array; width: number },
  { rows, columns, rank }: Size,
) {
  const gram = new Matrix(width, width);
  for (let i = 0; i < columns; i++)
    for (let k = 0; k < width; k++)
      for (let l = 0; l < width; l++)
        gram.set(k, l, gram.get(k, l) + range[i * width + k]! * range[i * width + l]!);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(gram, { assumeSymmetric: true });
  const order = realEigenvalues.map((_, i) => i).sort((a, b) => realEigenvalues[b]! - realEigenvalues[a]!);
  const kept = Math.min(rank, width);
  const singularValues = order.slice(0, kept).map((i) => Math.sqrt(Math.max(0, realEigenvalues[i]!)));
  // Beyond the rank of D itself the factors are zero: an adapter of the rank asked for, and the same product.
  const leftOut = new Float64Array(rows * rank);
  const rightOut = new Float64Array(rank * columns);
  for (const [r, sigma] of singularValues.entries()) {
    if (sigma <= (singularValues[0] ?? 0) * 1e-12) continue;
    const vector = order[r]!;
    const root = Math.sqrt(sigma);
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += left[i * width + k]! * eigenvectorMatrix.get(k, vector);
      leftOut[i * rank + r] = sum * root;
    }
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += range[j * width + k]! * eigenvectorMatrix.get(k, vector);
      rightOut[r * columns + j] = sum / root;
    }
  }
  return { left: leftOut, right: rightOut, singularValues };
}

/** ‖D − left·right‖², of factors as they are stored: ‖D‖² − 2⟨D, left·right⟩ + ‖left·right‖². */
export function residual(
  passes: Passes,
  factors: { readonly left: Float64Array; readonly right: Float64Array },
  { columns, rank }: Pick<Size, "columns" | "rank">,
): number {
  let sum = 0;
  const row = new Float64Array(columns);
  for (const { at, rows, values } of passes())
    for (let i = 0; i < rows; i++) {
      row.fill(0);
      for (let k = 0; k < rank; k++) {
        const factor = factors.left[(at + i) * rank + k]!;
        for (let j = 0; j < columns; j++) row[j]! += factor * factors.right[k * columns + j]!;
      }
      for (let j = 0; j < columns; j++) sum += (values[i * columns + j]! - row[j]!) ** 2;
    }
  return sum;
}

/** Rows of left := block · range. */
function timesRight(
  { at, rows, values }: RowBlock,
  columns: number,
  range: Float64Array,
  width: number,
  left: Float64Array,
) {
  for (let i = 0; i < rows; i++) {
    const out = left.subarray((at + i) * width, (at + i + 1) * width).fill(0);
    for (let j = 0; j < columns; j++) {
      const value = values[i * columns + j]!;
      if (value === 0) continue;
      const from = j * width;
      for (let k = 0; k < width; k++) out[k]! += value * range[from + k]!;
    }
  }
}

/** range += blockᵀ · rows of left. */
function timesTransposed(
  { at, rows, values }: RowBlock,
  columns: number,
  left: Float64Array,
  width: number,
  range: Float64Array,
) {
  for (let i = 0; i < rows; i++) {
    const from = left.subarray((at + i) * width, (at + i + 1) * width);
    for (let j = 0; j < columns; j++) {
      const value = values[i * columns + j]!;
      if (value === 0) continue;
      const to = j * width;
      for (let k = 0; k < width; k++) range[to + k]! += value * from[k]!;
    }
  }
}

/** Makes the columns orthonormal in place (Gram-Schmidt, twice: once loses orthogonality); dependent ones become zero. */
function orthonormalise(matrix: Float64Array, rows: number, width: number): void {
  for (let k = 0; k < width; k++) {
    const before = length(matrix, rows, width, k);
    for (let round = 0; round < 2; round++)
      for (let l = 0; l < k; l++) {
        let dot = 0;
        for (let i = 0; i < rows; i++) dot += matrix[i * width + k]! * matrix[i * width + l]!;
        for (let i = 0; i < rows; i++) matrix[i * width + k]! -= dot * matrix[i * width + l]!;
      }
    const after = length(matrix, rows, width, k);
    const factor = after > before * 1e-13 ? 1 / after : 0;
    for (let i = 0; i < rows; i++) matrix[i * width + k]! *= factor;
  }
}

function length(matrix: Float64Array, rows: number, width: number, column: number): number {
  let sum = 0;
  for (let i = 0; i < rows; i++) sum += matrix[i * width + column]! ** 2;
  return Math.sqrt(sum);
}

/** Standard normal numbers by Box and Muller, from a 32-bit mixing generator (splitmix32): the same everywhere. */
function gaussian(count: number, seed: number): Float64Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
  return Float64Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
