/*
 * The few distribution functions that tests and intervals need, in float64. Formula numbers are those of the NIST
 * Digital Library of Mathematical Functions (DLMF, https://dlmf.nist.gov).
 */

/** Γ's logarithm for x > 0: Lanczos' approximation with g = 7 and 9 terms (Godfrey 2001), about 1e-15 relative. */
export function logGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const z = x - 1;
  let sum = LANCZOS[0]!;
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (z + i);
  const t = z + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

/** I_x(a, b), the regularised incomplete beta function, 0 ≤ x ≤ 1, a and b > 0: continued fraction 8.17.22. */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast below the mean only; above it the complement is computed (8.17.4).
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const logFront = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x);
  let c = 1;
  let d = 1 / nonZero(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= 10_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonZero(1 + even * d);
    c = nonZero(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonZero(1 + odd * d);
    c = nonZero(1 + odd / c);
    const factor = d * c;
    fraction *= factor;
    if (Math.abs(factor - 1) < 1e-15) break;
  }
  return (Math.exp(logFront) / a) * fraction;
}

/** Lentz's method divides by what may happen to be 0. */
const nonZero = (value: number) => (Math.abs(value) < 1e-300 ? 1e-300 : value);

/** x with I_x(a, b) = p, by bisection: to the last bit that float64 can tell. */
export function betaQuantile(p: number, a: number, b: number): number {
  return bisect(0, 1, (x) => incompleteBeta(x, a, b) < p);
}

/** The value that Student's t with `df` > 0 degrees of freedom exceeds with probability 1 − p, for p ≥ 0.5. */
export function studentQuantile(p: number, df: number): number {
  // P(|T| > t) = I_x(df / 2, 1 / 2) with x = df / (df + t²).
  const x = betaQuantile(2 * (1 - p), df / 2, 0.5);
  return Math.sqrt((df * (1 - x)) / x);
}

/** The probability that chi-squared with one degree of freedom exceeds `x`. */
export function chiSquaredTail(x: number): number {
  return complementaryError(Math.sqrt(Math.max(0, x) / 2));
}

/** P(X ≤ k) for X of n fair coins, 0 ≤ k ≤ n. */
export function fairBinomialTail(k: number, n: number): number {
  // 8.17.5: the upper tail of a binomial is an incomplete beta function.
  return k >= n ? 1 : incompleteBeta(0.5, n - k, k + 1);
}

/** erfc(x) for x ≥ 0: the series 7.6.2 below 2, the continued fraction 7.9.3 above. */
function complementaryError(x: number): number {
  if (x < 2) {
    let term = x;
    let sum = x;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = x;
  for (let n = 100; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / fraction;
}

function bisect(from: number, to: number, tooLow: (x: number) => boolean): number {
  let low = from;
  let high = to;
  for (;;) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    if (tooLow(middle)) low = middle;
    else high = middle;
  }
}
