import type { Measures } from "../../core/evaluation/measures.ts";
import type { Matrix } from "./matrix.ts";

/**
 * Compares two sides' logits, slice of the vocabulary by slice, so that no row of them ever exists whole. Sums are
 * float64, relative to the largest logit so far:
 * KL(P‖Q) = Σ p·(a − b) − (ln Σ eᵃ − ln Σ eᵇ) for logits a of P and b of Q.
 */
export class PairMeter {
  readonly #labels: Int32Array;
  readonly #maxA: Float64Array;
  readonly #sumA: Float64Array;
  /** Σ e^(a − max)·(a − b) */
  readonly #differences: Float64Array;
  readonly #maxB: Float64Array;
  readonly #sumB: Float64Array;
  readonly #topA: Int32Array;
  readonly #topB: Int32Array;
  readonly #labelA: Float64Array;
  readonly #labelB: Float64Array;
  readonly #largest: Float32Array;
  readonly #nonFinite: Int32Array;

  /** @param labels next tokens; −1: none */
  constructor(labels: Int32Array) {
    const floats = (value = 0) => new Float64Array(labels.length).fill(value);
    this.#labels = labels;
    this.#maxA = floats(Number.NEGATIVE_INFINITY);
    this.#maxB = floats(Number.NEGATIVE_INFINITY);
    this.#sumA = floats();
    this.#sumB = floats();
    this.#differences = floats();
    this.#labelA = floats(Number.NaN);
    this.#labelB = floats(Number.NaN);
    this.#topA = new Int32Array(labels.length);
    this.#topB = new Int32Array(labels.length);
    this.#largest = new Float32Array(labels.length);
    this.#nonFinite = new Int32Array(labels.length);
  }

  /**
   * @param first prediction that the first row belongs to
   * @param column of the vocabulary that the slice starts with
   */
  add(a: Matrix, b: Matrix, { first, column }: { first: number; column: number }): void {
    for (let row = 0; row < a.rows; row++) {
      const at = first + row;
      const from = row * a.cols;
      const rowA = a.data.subarray(from, from + a.cols);
      const rowB = b.data.subarray(from, from + a.cols);
      this.#tops(rowA, rowB, { at, column });
      this.#sums(rowA, rowB, at);
      const label = this.#labels[at]! - column;
      if (label >= 0 && label < a.cols) {
        this.#labelA[at] = rowA[label]!;
        this.#labelB[at] = rowB[label]!;
      }
    }
  }

  /** Largest logits, and their rescaled sums so far. */
  #tops(a: Float32Array, b: Float32Array, { at, column }: { at: number; column: number }): void {
    let [maxA, maxB] = [this.#maxA[at]!, this.#maxB[at]!];
    for (let i = 0; i < a.length; i++) {
      if (a[i]! > maxA) {
        maxA = a[i]!;
        this.#topA[at] = column + i;
      }
      if (b[i]! > maxB) {
        maxB = b[i]!;
        this.#topB[at] = column + i;
      }
    }
    const scaleA = this.#maxA[at] === maxA ? 1 : Math.exp(this.#maxA[at]! - maxA);
    this.#sumA[at]! *= scaleA;
    this.#differences[at]! *= scaleA;
    if (this.#maxB[at] !== maxB) this.#sumB[at]! *= Math.exp(this.#maxB[at]! - maxB);
    this.#maxA[at] = maxA;
    this.#maxB[at] = maxB;
  }

  #sums(a: Float32Array, b: Float32Array, at: number): void {
    const [maxA, maxB] = [this.#maxA[at]!, this.#maxB[at]!];
    let [sumA, sumB, differences, largest, broken] = [0, 0, 0, this.#largest[at]!, 0];
    for (let i = 0; i < a.length; i++) {
      const difference = a[i]! - b[i]!;
      const share = Math.exp(a[i]! - maxA);
      sumA += share;
      differences += share * difference;
      sumB += Math.exp(b[i]! - maxB);
      const size = Math.abs(difference);
      if (size > largest) largest = size;
      if (!(size < Number.POSITIVE_INFINITY)) broken++;
    }
    this.#sumA[at]! += sumA;
    this.#sumB[at]! += sumB;
    this.#differences[at]! += differences;
    this.#largest[at] = largest;
    this.#nonFinite[at]! += broken;
  }

  measures(starts: readonly number[]): Measures {
    const logOf = (sum: Float64Array, max: Float64Array) => sum.map((value, i) => Math.log(value) + max[i]!);
    const [lseA, lseB] = [logOf(this.#sumA, this.#maxA), logOf(this.#sumB, this.#maxB)];
    const nllReference = lseA.map((lse, i) => lse - this.#labelA[i]!);
    const nllCandidate = lseB.map((lse, i) => lse - this.#labelB[i]!);
    return {
      starts,
      // Rounding can leave a few 1e-16 below zero where both are the same.
      kld: this.#differences.map((sum, i) => Math.max(0, sum / this.#sumA[i]! - (lseA[i]! - lseB[i]!))),
      nllReference,
      nllCandidate,
      deltaP: nllReference.map((nll, i) => Math.exp(-nllCandidate[i]!) - Math.exp(-nll)),
      topReference: this.#topA,
      topCandidate: this.#topB,
      label: this.#labels,
      logitDifference: this.#largest,
      nonFinite: this.#nonFinite,
    };
  }
}

/** The measures of several runs, one after another. */
export function joinMeasures(parts: readonly Measures[]): Measures {
  const starts = [0];
  for (const part of parts) {
    const before = starts.at(-1)!;
    for (const start of part.starts.slice(1)) starts.push(before + start);
  }
  const join = <T extends Float64Array | Float32Array | Int32Array>(
    of: (part: Measures) => T,
    make: (n: number) => T,
  ): T => {
    const all = make(starts.at(-1)!);
    let at = 0;
    for (const part of parts) {
      all.set(of(part) as never, at);
      at += of(part).length;
    }
    return all;
  };
  const doubles = (of: (part: Measures) => Float64Array) => join(of, (n) => new Float64Array(n));
  const ints = (of: (part: Measures) => Int32Array) => join(of, (n) => new Int32Array(n));
  return {
    starts,
    kld: doubles((m) => m.kld),
    nllReference: doubles((m) => m.nllReference),
    nllCandidate: doubles((m) => m.nllCandidate),
    deltaP: doubles((m) => m.deltaP),
    topReference: ints((m) => m.topReference),
    topCandidate: ints((m) => m.topCandidate),
    label: ints((m) => m.label),
    logitDifference: join(
      (m) => m.logitDifference,
      (n) => new Float32Array(n),
    ),
    nonFinite: ints((m) => m.nonFinite),
  };
}
