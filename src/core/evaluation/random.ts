/**
 * Random numbers that are the same on every machine for the same seed: xoshiro128++ 1.0 by D. Blackman and S. Vigna
 * (https://prng.di.unimi.it/xoshiro128plusplus.c), whose 32-bit words JavaScript computes exactly. Its state is
 * filled from the seed by the finaliser of MurmurHash3 over a Weyl sequence (SplitMix, Steele et al. 2014, in 32 bits).
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed any safe integer ≥ 0; all of its 53 bits count. */
  constructor(seed: number) {
    // Both halves go through the mixer, one after the other: seeds beyond 2^32 are not those below it again.
    const high = mix(Math.floor(seed / 2 ** 32) + 0x9e3779b9);
    let state = (high ^ (seed >>> 0)) >>> 0;
    const next = () => {
      state = (state + 0x9e3779b9) >>> 0;
      return mix(state);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    // Never all four zero, the one state that xoshiro cannot leave.
    this.#d = next() | 1;
  }

  /** A generator in the given state of four 32-bit words, not all zero. */
  static fromState(words: readonly [number, number, number, number]): Random {
    const random = new Random(0);
    [random.#a, random.#b, random.#c, random.#d] = words.map((word) => word | 0) as [
      number,
      number,
      number,
      number,
    ];
    return random;
  }

  /** The next word, uniform over 0 … 2^32 − 1. */
  word(): number {
    const a = this.#a;
    const b = this.#b;
    const sum = (a + this.#d) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + a) >>> 0;
    const c = this.#c ^ a;
    const d = this.#d ^ b;
    this.#b = b ^ c;
    this.#a = a ^ d;
    this.#c = c ^ (b << 9);
    this.#d = (d << 11) | (d >>> 21);
    return result;
  }

  /** Uniform over the numbers k / 2^32, k < 2^32. */
  unit(): number {
    return this.word() / 2 ** 32;
  }

  /** Uniform over 0 … n − 1, n ≤ 2^20 or so: some values are likelier than others by less than n / 2^32. */
  below(n: number): number {
    return Math.floor((this.word() / 2 ** 32) * n);
  }

  /** Standard normal: Box and Muller 1958, the cosine alone. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log((this.word() + 1) / 2 ** 32));
    return radius * Math.cos(2 * Math.PI * this.unit());
  }
}

/** The 32-bit finaliser of MurmurHash3 (A. Appleby, public domain): every bit of the input reaches all of the output. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
