/**
 * What running two sides over the same tokens told of every prediction, column by column. A prediction is a position
 * whose next token is known (of a classifier: one row for each text). All of one document lie together.
 */
export interface Measures {
  /** First prediction of each document, and one more entry: the number of predictions. */
  readonly starts: readonly number[];
  /** KL divergence of the candidate's distribution from the reference's, in nats; float64 from float32 logits. */
  readonly kld: Float64Array;
  /** −ln p of the next token. NaN for a classifier. */
  readonly nllReference: Float64Array;
  readonly nllCandidate: Float64Array;
  /** p of the next token: candidate less reference. NaN for a classifier. */
  readonly deltaP: Float64Array;
  /** The most likely token of each side. */
  readonly topReference: Int32Array;
  readonly topCandidate: Int32Array;
  /** The next token; −1 for a classifier. */
  readonly label: Int32Array;
  /** Largest absolute difference of a logit. */
  readonly logitDifference: Float32Array;
  /** Logits that are NaN or infinite on the candidate's side. */
  readonly nonFinite: Int32Array;
}

/** How far two sides are apart after one layer, over all positions. */
export interface LayerDistance {
  /** "embedding", "layer 0", …, "final norm". */
  readonly name: string;
  /** ‖candidate − reference‖ / ‖reference‖, Frobenius norms; null where an element is NaN or infinite. */
  readonly relativeError: number | null;
  /** Of finite elements. */
  readonly maxAbs: number;
}
