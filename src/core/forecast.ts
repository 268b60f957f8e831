import type { MergeableDtype } from "./dtype.ts";

/** What storing a change will cost, worked out from sizes alone: see `forecastRounding`. */
export interface DeltaForecast {
  /** Root mean square of the base tensor's elements. */
  readonly weightRms: number;
  /** Root mean square of the change's elements, the scale included. */
  readonly deltaRms: number;
  /** Expected relative error of the stored change: rms of what rounding adds, over `deltaRms`. Above 1, more is lost than kept. */
  readonly relativeError: number;
  /** Expected share of elements that do not move at all. */
  readonly unchangedShare: number;
}

/** Bits of the fraction that a storage type keeps after the leading one, and its lowest normal exponent. */
const PRECISION: Readonly<Record<MergeableDtype, { bits: number; lowest: number }>> = {
  BF16: { bits: 7, lowest: -126 },
  F16: { bits: 10, lowest: -14 },
  F32: { bits: 23, lowest: -126 },
};

/** Binades below the standard deviation that still hold a noticeable share of a normal distribution. */
const BINADES = 24;

/**
 * How much of a change survives rounding, for weights N(0, weightRms²) that lie on the storage type's grid and a
 * change N(0, deltaRms²) independent of them. In each binade of |W| the grid has one spacing u; there an element
 * stays where |D| < u/2, and the error is D − u·round(D/u).
 */
export function forecastRounding(weightRms: number, deltaRms: number, dtype: MergeableDtype): DeltaForecast {
  if (!(deltaRms > 0)) return { weightRms, deltaRms, relativeError: 0, unchangedShare: 1 };
  const { bits, lowest } = PRECISION[dtype];
  // Weights of zero take the smallest spacing there is.
  if (!(weightRms > 0)) return { weightRms, deltaRms, relativeError: 0, unchangedShare: 0 };
  const top = Math.floor(Math.log2(weightRms)) + 4;
  let squares = 0;
  let unchanged = 0;
  for (let i = 0; i < BINADES; i++) {
    const exponent = top - i;
    const last = i === BINADES - 1;
    const share =
      shareBelow(2 ** (exponent + 1) / weightRms) - (last ? 0 : shareBelow(2 ** exponent / weightRms));
    const spacing = 2 ** (Math.max(exponent, lowest) - bits);
    squares += share * squaredError(spacing, deltaRms);
    unchanged += share * shareBelow(spacing / 2 / deltaRms);
  }
  return { weightRms, deltaRms, relativeError: Math.sqrt(squares) / deltaRms, unchangedShare: unchanged };
}

/** P(|Z| < x) of a standard normal Z. */
function shareBelow(x: number): number {
  return erf(x / Math.SQRT2);
}

/** E[(D − u·round(D/u))²] for D ~ N(0, σ²): uniform where σ spans many spacings, else summed cell by cell. */
function squaredError(spacing: number, sigma: number): number {
  if (sigma > 4 * spacing) return spacing ** 2 / 12;
  const cells = Math.ceil((8 * sigma) / spacing);
  let total = 0;
  for (let k = -cells; k <= cells; k++) total += cellError(k * spacing, spacing, sigma);
  return total;
}

/** ∫ (x − c)² φ(x/σ)/σ dx over the cell [c − u/2, c + u/2], by Simpson's rule. */
function cellError(centre: number, spacing: number, sigma: number): number {
  const steps = 32;
  const width = spacing / steps;
  // Far narrower than the cell, the distribution lies between the sample points.
  if (sigma < width) return centre === 0 ? sigma ** 2 : 0;
  let sum = 0;
  for (let i = 0; i <= steps; i++) {
    const x = centre - spacing / 2 + i * width;
    const weight = i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2;
    sum += weight * (x - centre) ** 2 * Math.exp(-(x ** 2) / (2 * sigma ** 2));
  }
  return (sum * width) / 3 / (sigma * Math.sqrt(2 * Math.PI));
}

/** Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7. */
function erf(x: number): number {
  const t = 1 / (1 + 0.3275911 * x);
  const polynomial =
    ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return 1 - polynomial * Math.exp(-x * x);
}

/** Of a whole merge: the error of all stored changes together, relative to the changes. Null without forecasts. */
export function overallError(
  parts: readonly { readonly forecast: DeltaForecast | null; readonly elements: number }[],
): number | null {
  let error = 0;
  let change = 0;
  for (const { forecast, elements } of parts) {
    if (!forecast) continue;
    const squares = elements * forecast.deltaRms ** 2;
    change += squares;
    error += squares * forecast.relativeError ** 2;
  }
  return change > 0 ? Math.sqrt(error / change) : null;
}
