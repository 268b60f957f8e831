import type { RopeSpec } from "./spec.ts";

const f = Math.fround;
const TWO_PI = f(2 * Math.PI);

export interface RopeTable {
  /** [positions, dims / 2]: the first halves, which hold for the second halves too. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

export interface RopeRequest {
  /** Positions in the sequence, from 0. */
  readonly positions: ArrayLike<number>;
  /**
   * Tokens of the sequence as the model sees it, padding left out: the last position + 1. Only "dynamic" and "longrope"
   * depend on it; see `inverseFrequencies`.
   */
  readonly length: number;
}

/**
 * Cosines and sines of the angles position · inverse frequency, times the attention factor, in float32 steps as
 * transformers 5.18 takes them (the angle is a rounded float32 product, and so on).
 */
export function ropeTable(spec: RopeSpec, { positions, length }: RopeRequest): RopeTable {
  const frequencies = inverseFrequencies(spec, length);
  const factor = f(attentionFactor(spec));
  const half = frequencies.length;
  const cos = new Float32Array(positions.length * half);
  const sin = new Float32Array(positions.length * half);
  for (let p = 0; p < positions.length; p++) {
    for (let i = 0; i < half; i++) {
      const angle = f(f(positions[p]!) * frequencies[i]!);
      cos[p * half + i] = f(Math.cos(angle)) * factor;
      sin[p * half + i] = f(Math.sin(angle)) * factor;
    }
  }
  return { cos, sin };
}

/**
 * Inverse frequencies [dims / 2] in float32, by the formulas of transformers' `modeling_rope_utils.py`. For two types
 * they depend on the sequence's length:
 * - "dynamic" (NTK): up to `maxPositions` tokens as "default"; for a longer sequence the base grows with its length, so
 *   that the same position turns by another angle in a longer text. transformers keeps the largest length that a loaded
 *   model has seen until a short text comes; here, as in a freshly loaded model, each sequence counts for itself.
 * - "longrope": the short factors up to `originalMaxPositions` tokens, the long ones above.
 */
export function inverseFrequencies(spec: RopeSpec, length: number): Float32Array {
  if (spec.type === "dynamic") return powers(spec.dims, dynamicBase(spec, length)).map(reciprocal);
  const scaled = powers(spec.dims, spec.theta);
  if (spec.type === "longrope") {
    const factors = length > given(spec.originalMaxPositions) ? spec.longFactor : spec.shortFactor;
    return scaled.map((power, i) => reciprocal(f(f(factors![i]!) * power)));
  }
  const plain = scaled.map(reciprocal);
  if (spec.type === "default") return plain;
  if (spec.type === "linear") return plain.map((value) => value / f(given(spec.factor)));
  return spec.type === "yarn" ? yarn(spec, scaled) : llama3(spec, plain);
}

/** Factor on both cosines and sines: 1 but for "yarn" and "longrope". */
export function attentionFactor(spec: RopeSpec): number {
  if (spec.type !== "yarn" && spec.type !== "longrope") return 1;
  if (spec.attentionFactor !== null) return spec.attentionFactor;
  const factor = given(spec.factor);
  if (spec.type === "longrope") {
    return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(given(spec.originalMaxPositions)));
  }
  const strength = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  return spec.mscale && spec.mscaleAllDim ? strength(spec.mscale) / strength(spec.mscaleAllDim) : strength(1);
}

/** base^(2i / dims) */
function powers(dims: number, base: number): Float32Array {
  return Float32Array.from({ length: dims / 2 }, (_, i) => f(base) ** f((2 * i) / dims));
}

/** torch divides a number by a float32 tensor through its reciprocal. */
function reciprocal(value: number): number {
  return f(1 / value);
}

function over(value: number, tensor: number): number {
  return f(reciprocal(tensor) * f(value));
}

/** https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr: the base grows by (s·L/M − (s − 1))^(d / (d − 2)). */
function dynamicBase(spec: RopeSpec, length: number): number {
  if (length <= spec.maxPositions) return spec.theta;
  const factor = given(spec.factor);
  const growth = f(f(f(f(factor) * length) / spec.maxPositions) - f(factor - 1));
  return f(f(spec.theta) * f(growth ** f(spec.dims / (spec.dims - 2))));
}

/**
 * YaRN (arXiv:2309.00071): high frequencies stay, low ones are divided by the factor, with a ramp between the dimensions
 * that turn `betaFast` and `betaSlow` times over the original length.
 */
function yarn(spec: RopeSpec, scaled: Float32Array): Float32Array {
  const factor = given(spec.factor);
  const dimensionOf = (turns: number) =>
    (spec.dims * Math.log(given(spec.originalMaxPositions) / (turns * 2 * Math.PI))) /
    (2 * Math.log(spec.theta));
  const first = dimensionOf(spec.betaFast || 32);
  const last = dimensionOf(spec.betaSlow || 1);
  const low = Math.max(spec.truncate === false ? first : Math.floor(first), 0);
  let high = Math.min(spec.truncate === false ? last : Math.ceil(last), spec.dims - 1);
  if (low === high) high += 0.001;
  return scaled.map((power, i) => {
    const ramp = Math.min(Math.max(f(f(i - f(low)) / f(high - low)), 0), 1);
    const keep = f(1 - ramp);
    return f(reciprocal(f(f(factor) * power)) * f(1 - keep)) + f(reciprocal(power) * keep);
  });
}

/** Llama 3.1: long waves are divided by the factor, short ones stay, those between are mixed. */
function llama3(spec: RopeSpec, plain: Float32Array): Float32Array {
  const [factor, original] = [f(given(spec.factor)), given(spec.originalMaxPositions)];
  const [low, high] = [given(spec.lowFreqFactor), given(spec.highFreqFactor)];
  return plain.map((value) => {
    const wave = over(TWO_PI, value);
    if (wave > f(original / low)) return value / factor;
    if (wave < f(original / high)) return value;
    const smooth = f(f(over(original, wave) - f(low)) / f(high - low));
    return f(f(f(1 - smooth) * value) / factor) + f(smooth * value);
  });
}

/** Reading a config makes sure that a type has its fields. */
function given(value: number | null): number {
  if (value === null) throw new Error("a rope type lacks a field that reading its config checks");
  return value;
}
