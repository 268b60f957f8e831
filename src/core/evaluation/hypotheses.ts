import type { MergeableDtype } from "../dtype.ts";
import { bitsToNumber, roundToBits } from "../numerics.ts";
import type { TouchedTensor, WeightSample } from "./retention.ts";
import { figure } from "./wording.ts";

/** What a stored change could be instead of the exact one. */
export interface Hypothesis {
  readonly code:
    | "ALPHA_IGNORED"
    | "SCALE_APPLIED_TWICE"
    | "SIGN_FLIPPED"
    | "MERGED_TWICE"
    | "SCALE_WRONG"
    | "MODULES_SWAPPED"
    | "FACTORS_TRANSPOSED"
    | "PRECISION_LOST";
  /** The factor on the change, for people; or the tensor whose change it is. */
  readonly detail: string;
}

/**
 * Whether the stored elements of a sample are W + factor·Δ rounded into the stored type, as far as that can be told. Two
 * things must agree: how much of the change is in them (the projection on Δ, which rounding shifts in a way that is
 * worked out by rounding), and how far they are from W + factor·Δ (no further than rounding brings them).
 */
export function isChange(
  { weights, stored, dtype }: WeightSample,
  delta: Float32Array,
  { factor = 1, grid = dtype }: { readonly factor?: number; readonly grid?: MergeableDtype } = {},
): boolean {
  if (isFarOff({ weights, stored }, delta, factor)) return false;
  const round = ROUNDERS[grid];
  const sums = { size: 0, together: 0, expected: 0, error: 0, least: 0 };
  for (let i = 0; i < delta.length; i++) {
    const change = delta[i]!;
    const weight = weights[i]!;
    const value = weight + factor * change;
    const right = round(value);
    const found = stored[i]!;
    if (!Number.isFinite(found)) continue;
    sums.size += change * change;
    sums.together += (found - weight) * change;
    sums.expected += (right - weight) * change;
    sums.error += (found - value) ** 2;
    sums.least += (right - value) ** 2;
  }
  if (sums.size === 0) return false;
  const noise = Math.sqrt(sums.least / sums.size);
  const projections = Math.abs(sums.together - sums.expected) / sums.size;
  const close = projections <= CLOSE * Math.abs(factor) + (CERTAINTY * noise) / Math.sqrt(delta.length);
  return close && Math.sqrt(sums.error / sums.size) <= SLACK * noise + CLOSE * Math.abs(factor);
}

/** Whether taking factor·Δ out of the stored change makes it larger: then nothing of it is in there. No rounding needed. */
function isFarOff(
  { weights, stored }: Pick<WeightSample, "weights" | "stored">,
  delta: Float32Array,
  factor: number,
): boolean {
  let before = 0;
  let after = 0;
  let size = 0;
  for (let i = 0; i < delta.length; i++) {
    const change = stored[i]! - weights[i]!;
    const wanted = factor * delta[i]!;
    if (!Number.isFinite(change)) continue;
    before += change * change;
    after += (change - wanted) ** 2;
    size += wanted * wanted;
  }
  return after > before + size / 2;
}

const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

const ROUNDERS: Readonly<Record<MergeableDtype, (value: number) => number>> = {
  F32: Math.fround,
  // `roundToBits` without the way through bits of a number: this runs some million times.
  BF16: (value) => {
    floats[0] = value;
    if (!Number.isFinite(value)) return value;
    words[0] = (words[0]! + 0x7fff + ((words[0]! >>> 16) & 1)) & 0xffff0000;
    return floats[0]!;
  },
  F16: (value) => bitsToNumber("F16", roundToBits("F16", value)),
};

/** How far, relative to a change, another arithmetic may take it. */
const CLOSE = 0.03;
/** Standard errors of a projection that are no evidence. */
const CERTAINTY = 5;
/** How much more than rounding once may be lost by rounding twice. */
const SLACK = 1.4;

/** Smallest projection that is worth a look. */
const LEAST_PROJECTION = 0.05;

/**
 * What the stored change of one tensor is, if it is not the exact one: the exact change times another number, its
 * transpose, or the change of another tensor of the same shape. `null` where nothing fits, or it is the exact change
 * after all.
 * @param others samples of other tensors at the same places
 */
export function whatItIs(
  found: TouchedTensor,
  sample: WeightSample,
  others: readonly WeightSample[],
): Hypothesis | null {
  // First: where the change is large beside the rounding, it is the exact one within any tolerance.
  const grid = coarserGrid(sample);
  if (grid !== null) return { code: "PRECISION_LOST", detail: grid };
  if (isChange(sample, sample.delta)) return null;
  const fits = ({ factor }: Factor) =>
    Math.abs(factor - 1) > CLOSE && isChange(sample, sample.delta, { factor });
  // Where several fit within their tolerances, the nearest is meant.
  const measured = ownProjection(found) ?? 1;
  const distance = ({ factor }: Factor) => Math.abs(factor - measured);
  const [named] = namedFactors(found)
    .filter(fits)
    .sort((a, b) => distance(a) - distance(b));
  if (named) return { code: named.code, detail: named.detail };
  const own: Factor = { code: "SCALE_WRONG", factor: measured, detail: figure(measured) };
  if (fits(own)) return { code: own.code, detail: own.detail };
  if (sample.transposed && isChange(sample, sample.transposed)) {
    return { code: "FACTORS_TRANSPOSED", detail: "" };
  }
  const swapped = others.filter((other) => isChange(sample, other.delta));
  if (swapped.length === 1) return { code: "MODULES_SWAPPED", detail: swapped[0]!.tensor };
  // Ambiguous: changes that are alike cannot be told apart.
  return null;
}

interface Factor {
  readonly code: Hypothesis["code"];
  readonly factor: number;
  readonly detail: string;
}

function namedFactors(found: TouchedTensor): Factor[] {
  const { scale, rank } = found;
  const factors: Factor[] = [];
  if (scale !== null && scale !== 0) {
    factors.push({ code: "ALPHA_IGNORED", factor: 1 / scale, detail: `1/${figure(scale)}` });
    factors.push({ code: "SCALE_APPLIED_TWICE", factor: scale, detail: figure(scale) });
  }
  factors.push({ code: "SIGN_FLIPPED", factor: -1, detail: "−1" });
  factors.push({ code: "MERGED_TWICE", factor: 2, detail: "2" });
  if (scale !== null && rank !== null && rank > 1) {
    const root = Math.sqrt(rank);
    const as = (of: number, what: string): Factor => ({ code: "SCALE_WRONG", factor: of, detail: what });
    factors.push(as(1 / root, `${figure(1 / root)}, as if rsLoRA's α/√r were α/r`));
    factors.push(as(root, `${figure(root)}, as if α/r were rsLoRA's α/√r`));
  }
  return factors;
}

/** The projection of the whole tensor, less what rounding does to it. */
function ownProjection({ sums }: TouchedTensor): number | null {
  if (!sums || sums.delta === 0 || sums.rightTogether <= 0) return null;
  const projection = sums.together / sums.rightTogether;
  return Math.abs(projection) > LEAST_PROJECTION ? projection : null;
}

/** The coarser type that every stored element has a value of, where they are the exact change rounded into it. */
function coarserGrid(sample: WeightSample): MergeableDtype | null {
  const { dtype, stored, delta } = sample;
  const coarser: readonly MergeableDtype[] =
    dtype === "BF16" ? [] : dtype === "F16" ? ["BF16"] : ["BF16", "F16"];
  const isOn = (grid: MergeableDtype) => stored.every((value) => ROUNDERS[grid](value) === value);
  return coarser.find((grid) => isOn(grid) && isChange(sample, delta, { grid })) ?? null;
}
