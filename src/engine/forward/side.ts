import type { StoredTensor, TensorTask } from "../pool.ts";

/*
 * How one side of a comparison comes by a tensor's values. Plain data: it travels to the process that computes.
 */

/** `scale · left·right` added to a stored matrix, without computing the matrix: run-time branches. */
export interface LowRankTerm {
  /** A task without output whose value is [rows of the stored matrix, k], float32. */
  readonly left: TensorTask;
  /** [k, columns of the stored matrix], float32. */
  readonly right: TensorTask;
  readonly scale: number;
}

export type WeightForm =
  /** The stored values, widened to float32. */
  | { readonly kind: "stored"; readonly tensor: StoredTensor }
  /**
   * W + Σ scale·left·right, in branches beside W; DoRA's factor multiplies the whole: one number for each row or each
   * column of the stored matrix.
   */
  | {
      readonly kind: "branches";
      readonly tensor: StoredTensor;
      readonly terms: readonly LowRankTerm[];
      readonly factor: { readonly along: "rows" | "columns"; readonly task: TensorTask } | null;
    }
  /** A stored matrix in which some rows are others, token rows of an embedding; `values` is [rows, columns], float32. */
  | {
      readonly kind: "rows";
      readonly tensor: StoredTensor;
      readonly rows: readonly number[];
      readonly values: TensorTask;
    }
  /** The value of a task without output, computed when it is needed: for kinds without a branch form. */
  | { readonly kind: "computed"; readonly task: TensorTask };

/** One way to run a model: tensor names of the spec, each with its form. */
export interface Side {
  readonly name: string;
  readonly weights: Readonly<Record<string, WeightForm>>;
  /** Every product over the inputs is summed in two halves: another order of the same sums, for the noise floor. */
  readonly halves?: boolean;
}
