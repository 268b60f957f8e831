import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import type { NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";

/** Above this, the decomposition below takes longer than minutes on one thread. */
export const MAX_TRUNCATED_SIDE = 2048;

export const LORA_FUNCTIONS: Readonly<Record<string, ExprFunction>> = {
  /**
   * `blocks` blocks of rows of an m×n matrix side by side, each with its own columns and zeros elsewhere:
   * m×(blocks·n), `torch.block_diag(*torch.chunk(x, blocks))`.
   */
  "block-diagonal": {
    shape: ([of], { blocks }) => [of![0]!, of![1]! * blocks!],
    value([of], { blocks }) {
      const [rows, width] = of!.shape as [number, number];
      const values = new Float64Array(rows * width * blocks!);
      const height = rows / blocks!;
      for (let i = 0; i < rows; i++) {
        const row = of!.values.subarray(i * width, (i + 1) * width);
        values.set(row, i * width * blocks! + Math.floor(i / height) * width);
      }
      return { shape: [rows, width * blocks!], values };
    },
  },
  /**
   * A matrix without its `count` smallest singular values: `W − W·V·Vᵀ` (or `W − U·Uᵀ·W` where W has fewer rows than
   * columns) with the vectors of those values. In float64 whatever the arithmetic, one float32 step at the end: what
   * PEFT gets from a float32 decomposition differs from it by that one's noise.
   */
  "without-smallest": {
    shape: ([of]) => of!,
    value: ([of], { count }, { step }) => withoutSmallest(of!, count!, step),
  },
};

function withoutSmallest(
  { shape, values }: NdArray,
  count: number,
  step: (value: number) => number,
): NdArray {
  const [rows, columns] = shape as [number, number];
  const wide = rows < columns;
  const matrix = Matrix.from1DArray(rows, columns, values);
  const tall = wide ? matrix.transpose() : matrix;
  // WᵀW squares the singular values; float64 has digits to spare for a float32 matrix.
  const gram = tall.transpose().mmul(tall);
  const { eigenvectorMatrix } = new EigenvalueDecomposition(gram, { assumeSymmetric: true });
  // Eigenvalues come in ascending order.
  const smallest = eigenvectorMatrix.subMatrix(0, tall.columns - 1, 0, count - 1);
  const kept = Matrix.sub(tall, tall.mmul(smallest).mmul(smallest.transpose()));
  const result = wide ? kept.transpose() : kept;
  return { shape, values: Float64Array.from(result.to1DArray(), step) };
}
