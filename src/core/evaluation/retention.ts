import type { Dtype, MergeableDtype } from "../dtype.ts";
import type { EvaluationReport, TensorRetention } from "./report.ts";

/**
 * Sums over the elements of one touched tensor, in float64. W is the base's weight, Δ the exact change, S = W′ − W the
 * stored one, R what storing W + Δ in the candidate's type leaves of Δ: the best that any merge could store. Elements
 * that are NaN or infinite anywhere count in `finite` only.
 */
export interface WeightSums {
  /** ΣW², ΣΔ², ΣS². */
  readonly weight: number;
  readonly delta: number;
  readonly stored: number;
  /** Σ S·Δ and Σ (S − Δ)². */
  readonly together: number;
  readonly error: number;
  /** The same of R. */
  readonly rightTogether: number;
  readonly rightError: number;
  /** Largest |S − Δ|. */
  readonly maxError: number;
  /** Finite elements of the candidate. */
  readonly finite: number;
  /** Elements of W′, and of W + R, that are not W as the candidate's type stores it. */
  readonly moved: number;
  readonly rightMoved: number;
}

/** How far a stored tensor is from its canonical value. */
export interface TensorDistance {
  /** Elements of another value. */
  readonly differing: number;
  /**
   * Those of them that are more than one unit in the last place off, at the larger of |W| and |W′|; a unit is at least
   * 2⁻¹⁹ of the root mean square of what is summed, which is what float32 sums of its size err: the change, and W where
   * the change rotates it.
   */
  readonly far: number;
  /** The largest distance of two finite elements in these units; null for types that are compared as bytes. */
  readonly maxUlp: number | null;
}

/** What was found of one tensor that the adapter changes. */
export interface TouchedTensor {
  /** As planned. */
  readonly tensor: string;
  readonly module: string;
  readonly change: string;
  readonly scale: number | null;
  readonly rank: number | null;
  readonly shape: readonly number[];
  /** Of the candidate's tensor. */
  readonly dtype: Dtype;
  readonly elements: number;
  readonly nonFinite: number;
  /** Null where there is no canonical value: several adapters at once. */
  readonly distance: TensorDistance | null;
  /** Null for types that are compared as bytes. */
  readonly sums: WeightSums | null;
  /** The base has a float tensor of this size that the change is added to; else Δ is the whole value. */
  readonly hasBase: boolean;
}

/** One row of the report. */
export function retentionOf(found: TouchedTensor): TensorRetention {
  const { tensor, module, change, dtype, elements, distance, nonFinite, sums, hasBase } = found;
  const compares = sums !== null && hasBase && sums.delta > 0;
  return {
    tensor,
    module,
    change,
    dtype,
    elements,
    differing: distance?.differing ?? null,
    maxUlp: distance?.maxUlp ?? null,
    weightNorm: Math.sqrt(sums?.weight ?? 0),
    deltaNorm: Math.sqrt(sums?.delta ?? 0),
    storedNorm: Math.sqrt(sums?.stored ?? 0),
    relativeError: compares ? Math.sqrt(sums.error / sums.delta) : null,
    projection: compares ? sums.together / sums.delta : null,
    moved: movedOf(found) / Math.max(1, elements),
    maxError: sums?.maxError ?? 0,
    nonFinite,
  };
}

/** Of a new tensor every element is new; of one that is compared as bytes it is not counted apart. */
export function movedOf({ elements, sums, hasBase }: TouchedTensor): number {
  return sums && hasBase ? sums.moved : elements;
}

/** Level 1 of the report. */
export function weightsReport(
  touched: readonly TouchedTensor[],
  untouched: number,
): NonNullable<EvaluationReport["weights"]> {
  const { delta, error, together, moved, elements } = overall(touched);
  const ulps = touched.flatMap(({ distance }) => distance?.maxUlp ?? []);
  return {
    touched: touched.length,
    untouched,
    relativeError: delta > 0 ? Math.sqrt(error / delta) : null,
    projection: delta > 0 ? together / delta : null,
    moved: moved / Math.max(1, elements),
    maxUlp: ulps.length > 0 ? Math.max(...ulps) : null,
    tensors: touched.map(retentionOf),
  };
}

/** Sums over all touched tensors that have a base. */
export function overall(touched: readonly TouchedTensor[]) {
  const total = { delta: 0, error: 0, together: 0, rightTogether: 0, moved: 0, rightMoved: 0, elements: 0 };
  for (const { sums, hasBase, elements } of touched) {
    if (!sums || !hasBase) continue;
    total.delta += sums.delta;
    total.error += sums.error;
    total.together += sums.together;
    total.rightTogether += sums.rightTogether;
    total.moved += sums.moved;
    total.rightMoved += sums.rightMoved;
    total.elements += elements;
  }
  return total;
}

/** Elements of one tensor, chosen by position, for telling what else a change could be. */
export interface WeightSample {
  readonly tensor: string;
  readonly shape: readonly number[];
  /** Of the candidate. */
  readonly dtype: MergeableDtype;
  readonly weights: Float32Array;
  readonly stored: Float32Array;
  readonly delta: Float32Array;
  /** The elements of Δᵀ at the same places; null where Δ is not square. */
  readonly transposed: Float32Array | null;
}
