import { beforeAll, describe, expect, test } from "vitest";
import { compileKernels, HEAP_START, Kernels, panelBytes } from "../../src/engine/kernels.ts";
import {
  dot32,
  exactFma,
  type FloatDtype,
  floatBits,
  floatOf,
  fma32,
  fromBytes,
  kBlocks,
  type MergeCase,
  mergeReference,
  randomCase,
  roundToBits,
  seeded,
  toBytes,
  WIDTH,
  widenBits,
} from "../support/canonical.ts";
import { hashedRow, TORCH_ROW_LENGTHS } from "../support/row-lengths.ts";

let fast: Kernels;
let emulated: Kernels;

beforeAll(async () => {
  const module = await compileKernels();
  fast = new Kernels(module);
  emulated = new Kernels(module, { emulateFma: true });
});

/** Puts arrays into WASM memory one after another, each 16-byte aligned. */
function place(kernels: Kernels, parts: readonly (Uint8Array | number)[]): number[] {
  const offsets: number[] = [];
  let at = HEAP_START;
  for (const part of parts) {
    offsets.push(at);
    at += Math.ceil((typeof part === "number" ? part : part.byteLength) / 16) * 16;
  }
  kernels.reserve(at);
  parts.forEach((part, i) => {
    if (typeof part !== "number") kernels.bytes(offsets[i]!, part.byteLength).set(part);
  });
  return offsets;
}

function floats(values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float32Array(values).buffer);
}

function merge(kernels: Kernels, input: MergeCase): { bits: number[]; changed: number } {
  const { dtype, rows, cols, rank, scale } = input;
  const [weights, a, factors, panels] = place(kernels, [
    toBytes(dtype, input.w),
    floats(input.a),
    floats(input.b),
    panelBytes(rank, cols),
  ]) as [number, number, number, number];
  kernels.packRows({ source: a, target: panels, rows: rank, cols, k: 0, rank });
  const changed = kernels.merge({ dtype, weights, rows, cols, panels, factors, rank, scale });
  return { bits: fromBytes(dtype, kernels.bytes(weights, rows * cols * WIDTH[dtype])), changed };
}

function round(kernels: Kernels, dtype: FloatDtype, values: Uint8Array): number[] {
  const n = values.byteLength / 4;
  const [source, target] = place(kernels, [values, n * WIDTH[dtype]]) as [number, number];
  kernels.round(dtype, source, target, n);
  return fromBytes(dtype, kernels.bytes(target, n * WIDTH[dtype]));
}

function widen(kernels: Kernels, dtype: FloatDtype, bits: readonly number[]): Uint32Array {
  const [source, target] = place(kernels, [toBytes(dtype, bits), bits.length * 4]) as [number, number];
  kernels.widen(dtype, source, target, bits.length);
  return new Uint32Array(kernels.bytes(target, bits.length * 4).slice().buffer);
}

describe("fused multiply-add", () => {
  // c odd in its last place, a·b just under half a unit: a double sum lands exactly on the tie, which `fround` breaks
  // upwards to even; one rounding goes down.
  const tie = { a: 2 ** -12 * (1 + 2 ** -23), b: 2 ** -12 * (1 - 2 ** -23), c: 1 + 2 ** -23 };

  test("the reference rounds once where a rounded double sum would round twice", () => {
    expect(Math.fround(tie.a * tie.b + tie.c)).toBe(1 + 2 ** -22);
    expect(fma32(tie.a, tie.b, tie.c)).toBe(1 + 2 ** -23);
    expect(exactFma(tie.a, tie.b, tie.c)).toBe(1 + 2 ** -23);
  });

  test("the processor's and the emulated one give the bits of exact arithmetic, subnormals and overflow included", () => {
    const random = seeded(1);
    const any = () => floatOf(Math.floor(random() * 2 ** 32));
    const near = (exponent: number) =>
      (random() < 0.5 ? -1 : 1) * Math.fround((1 + random()) * 2 ** exponent);
    const triples: [number, number, number][] = [
      [tie.a, tie.b, tie.c],
      [-tie.a, tie.b, -tie.c],
      [2 ** -149, 0.5, 2 ** -149],
      [2 ** -149, 0.5, 0],
      [2 ** -149, -0.5, 3 * 2 ** -149],
      [2 ** 127, 2, -(2 ** 127)],
      [2 ** 127, 2, 2 ** 127],
    ];
    for (let i = 0; i < 20_000; i++) {
      triples.push([any(), any(), any()], [near(0), near(0), near(-24)], [near(-12), near(-12), near(0)]);
      triples.push([near(-70), near(-70), near(-126)], [near(-74), near(-75), near(-147)]);
    }
    let differing = 0;
    for (const [a, b, c] of triples) {
      const exact = Number.isFinite(a * b) && Number.isFinite(c) ? exactFma(a, b, c) : Math.fround(a * b + c);
      for (const got of [fast.fma(a, b, c), emulated.fma(a, b, c), fma32(a, b, c)]) {
        if (!Object.is(got, exact)) differing++;
      }
    }
    expect(differing).toBe(0);
  });

  test("the emulation is chosen when asked for", () => {
    expect(emulated.fused).toBe(false);
  });
});

describe("conversions", () => {
  const all16 = Array.from({ length: 65_536 }, (_, i) => i);

  test.each(["BF16", "F16"] as const)("all 65,536 patterns of %s widen exactly and round back", (dtype) => {
    const wide = widen(fast, dtype, all16);
    const back = round(fast, dtype, new Uint8Array(wide.buffer));
    const wrong = all16.filter((bits) => {
      const value = widenBits(dtype, bits);
      if (Number.isNaN(value))
        return !Number.isNaN(floatOf(wide[bits]!)) || back[bits] !== roundToBits(dtype, value);
      return wide[bits] !== floatBits(value) || back[bits] !== bits;
    });
    expect(wrong).toEqual([]);
  });

  test.each(["BF16", "F16"] as const)(
    "random floats, ties and limits round to nearest even in %s",
    (dtype) => {
      const random = seeded(2);
      const patterns: number[] = [];
      for (let i = 0; i < 60_000; i++) patterns.push(Math.floor(random() * 2 ** 32));
      for (let i = 0; i < 60_000; i++) {
        // Around F16's range, where most random patterns are not: exponents -30 to 20.
        const exponent = 97 + Math.floor(random() * 50);
        patterns.push(((random() < 0.5 ? 0x80000000 : 0) + exponent * 2 ** 23 + random() * 2 ** 23) >>> 0);
      }
      // Exactly half way between every two neighbours, and one bit to either side.
      for (let bits = 0; bits < 0x7f80; bits++) {
        const low = widenBits(dtype, bits);
        const high = widenBits(dtype, bits + 1);
        if (!Number.isFinite(low) || Number.isNaN(high)) continue;
        const tie = floatBits(
          Number.isFinite(high) ? (low + high) / 2 : dtype === "F16" ? 65520 : floatOf(0x7f7f8000),
        );
        patterns.push(tie, tie - 1, tie + 1, tie + 0x80000000);
      }
      patterns.push(0x7f800000, 0xff800000, 0x7f7fffff, 0x7fc00000, 0xffffffff, 0x7f800001, 0x80000000, 1);
      const got = round(fast, dtype, new Uint8Array(new Uint32Array(patterns).buffer));
      const wrong = patterns.filter((bits, i) => got[i] !== roundToBits(dtype, floatOf(bits)));
      expect(wrong.map((bits) => bits.toString(16))).toEqual([]);
    },
  );

  test("lengths that are not a multiple of the vector width convert to the last element and not beyond", () => {
    for (const dtype of ["BF16", "F16", "F32"] as const) {
      for (let n = 0; n <= 19; n++) {
        const values = Array.from({ length: n }, (_, i) => (i + 1) / 8);
        const [source, stored, wide] = place(fast, [floats(values), n * 4 + 16, n * 4 + 16]) as [
          number,
          number,
          number,
        ];
        fast.bytes(stored, n * 4 + 16).fill(0xab);
        fast.bytes(wide, n * 4 + 16).fill(0xab);
        fast.round(dtype, source, stored, n);
        fast.widen(dtype, stored, wide, n);
        expect(Array.from(new Float32Array(fast.bytes(wide, n * 4).slice().buffer))).toEqual(values);
        expect(fast.bytes(stored + n * WIDTH[dtype], 16).every((byte) => byte === 0xab)).toBe(true);
        expect(fast.bytes(wide + n * 4, 16).every((byte) => byte === 0xab)).toBe(true);
      }
    }
  });
});

describe("merging a tile", () => {
  const SHAPES = [
    [1, 1],
    [1, 16],
    [2, 15],
    [3, 17],
    [5, 33],
    [7, 100],
    [16, 64],
    [1, 513],
    [33, 8],
  ] as const;
  const RANKS = [1, 2, 3, 5, 8, 24];

  test.each(["BF16", "F16", "F32"] as const)(
    "has the reference's bits in %s for every shape and rank, fused and emulated",
    (dtype) => {
      for (const [rows, cols] of SHAPES) {
        for (const rank of RANKS) {
          const input = randomCase({ dtype, rows, cols, rank }, rows * 1000 + cols * 10 + rank);
          const expected = mergeReference(input);
          const changed = expected.filter((bits, i) => bits !== input.w[i]).length;
          expect(merge(fast, input), `${rows}×${cols} rank ${rank}`).toEqual({ bits: expected, changed });
          expect(merge(emulated, input), `${rows}×${cols} rank ${rank}, emulated`).toEqual({
            bits: expected,
            changed,
          });
        }
      }
    },
  );

  test("sums ranks over 192 in K-blocks", () => {
    for (const rank of [192, 193, 194, 383, 384, 385, 400, 576, 577]) {
      for (const rows of [1, 3]) {
        const input = randomCase({ dtype: "F32", rows, cols: 21, rank }, rank);
        const expected = mergeReference(input);
        expect(merge(fast, input).bits, `rank ${rank}`).toEqual(expected);
        expect(merge(emulated, input).bits, `rank ${rank}, emulated`).toEqual(expected);
      }
    }
  });

  test("K-blocks are those of the contract, and they matter to the bits", () => {
    expect(kBlocks(192)).toEqual([192]);
    expect(kBlocks(193)).toEqual([96, 96, 1]);
    expect(kBlocks(384)).toEqual([192, 192]);
    expect(kBlocks(512)).toEqual([192, 192, 128]);
    const { a, b } = randomCase({ dtype: "F32", rows: 1, cols: 1, rank: 400 }, 3);
    const straight = b.reduce((sum, x, k) => fma32(x, a[k]!, sum), 0);
    expect(dot32(b, a, 400)).not.toBe(straight);
  });

  test("rounds each step once: where a rounded double sum would differ, all paths agree with exact arithmetic", () => {
    const c = 1 + 2 ** -23;
    const input: MergeCase = {
      dtype: "F32",
      rows: 2,
      cols: 18,
      rank: 2,
      scale: 1,
      w: Array.from({ length: 36 }, () => 0),
      a: [
        ...Array.from({ length: 18 }, () => 1),
        ...Array.from({ length: 18 }, () => 2 ** -12 * (1 - 2 ** -23)),
      ],
      b: [c, 2 ** -12 * (1 + 2 ** -23), -c, -(2 ** -12) * (1 + 2 ** -23)],
    };
    const expected = [...Array.from({ length: 18 }, () => c), ...Array.from({ length: 18 }, () => -c)].map(
      floatBits,
    );
    expect(merge(fast, input).bits).toEqual(expected);
    expect(merge(emulated, input).bits).toEqual(expected);
    expect(mergeReference(input)).toEqual(expected);
  });

  // Scalar vectors produced with torch 2.13: base W (bf16 bits), scaled delta (float32 bits), merged (bf16 bits).
  test.each([
    [0xbb6e, 0xbb8a7d03, 0xbc01],
    [0xb928, 0xbb6cdbc1, 0xbb77],
    [0xbb4b, 0x3c2f4568, 0x3bf9],
    [0xbc27, 0xbab13dfd, 0xbc3d],
    [0x3ca8, 0xba7327b5, 0x3ca0],
  ])("adds a delta to bf16 as torch does: %x + %x", (w, delta, expected) => {
    const input: MergeCase = {
      dtype: "BF16",
      rows: 1,
      cols: 1,
      rank: 1,
      scale: 1,
      w: [w],
      a: [floatOf(delta)],
      b: [1],
    };
    expect(merge(fast, input)).toEqual({ bits: [expected], changed: 1 });
    expect(merge(emulated, input)).toEqual({ bits: [expected], changed: 1 });
  });

  test("infinities and NaN come out as infinities and the one quiet NaN, and padding never counts as changed", () => {
    for (const dtype of ["BF16", "F16", "F32"] as const) {
      const input: MergeCase = {
        dtype,
        rows: 3,
        cols: 3,
        rank: 1,
        scale: 1,
        w: [0, 1, -1, 0, 1, -1, 0, 1, -1].map((value) => roundToBits(dtype, value)),
        a: [1, 0, 3e38],
        b: [Number.POSITIVE_INFINITY, Number.NaN, 3e38],
      };
      const expected = mergeReference(input);
      const changed = expected.filter((bits, i) => bits !== input.w[i]).length;
      expect(merge(fast, input)).toEqual({ bits: expected, changed });
      expect(merge(emulated, input)).toEqual({ bits: expected, changed });
    }
  });

  test("a delta too small to move a bf16 weight changes nothing and is counted as nothing", () => {
    const one = 0x3f80;
    const w = Array.from({ length: 20 }, () => one);
    const a = Array.from({ length: 20 }, (_, j) => (j === 17 ? 1 : 2 ** -12));
    const input: MergeCase = { dtype: "BF16", rows: 1, cols: 20, rank: 1, scale: 1, w, a, b: [1] };
    expect(merge(fast, input)).toEqual({ bits: w.map((bits, j) => (j === 17 ? 0x4000 : bits)), changed: 1 });
  });

  test("leaves the bytes around the tile alone", () => {
    const input = randomCase({ dtype: "BF16", rows: 3, cols: 19, rank: 3 }, 9);
    const bytes = 3 * 19 * 2;
    const [before, a, factors, panels] = place(fast, [
      new Uint8Array(bytes + 64).fill(0xab),
      floats(input.a),
      floats(input.b),
      panelBytes(3, 19),
    ]) as [number, number, number, number];
    fast.bytes(before + 16, bytes).set(toBytes("BF16", input.w));
    fast.packRows({ source: a, target: panels, rows: 3, cols: 19, k: 0, rank: 3 });
    fast.merge({
      dtype: "BF16",
      weights: before + 16,
      rows: 3,
      cols: 19,
      panels,
      factors,
      rank: 3,
      scale: 1,
    });
    expect(fast.bytes(before, 16).every((byte) => byte === 0xab)).toBe(true);
    expect(fast.bytes(before + 16 + bytes, 48).every((byte) => byte === 0xab)).toBe(true);
  });
});

describe("statistics of a tile", () => {
  test.each(["BF16", "F16", "F32"] as const)(
    "count, largest and squares agree with a plain loop in %s",
    (dtype) => {
      const random = seeded(4);
      for (const n of [0, 1, 7, 8, 9, 250]) {
        const bits = Array.from({ length: n }, () => roundToBits(dtype, Math.fround((random() - 0.5) * 10)));
        const values = bits.map((b) => widenBits(dtype, b));
        const [at] = place(fast, [toBytes(dtype, bits)]) as [number];
        const stats = fast.stats(dtype, at, n);
        expect(stats.finite).toBe(n);
        expect(stats.absmax).toBe(Math.max(0, ...values.map(Math.abs)));
        expect(stats.squares).toBeCloseTo(
          values.reduce((sum, v) => sum + v * v, 0),
          9,
        );
      }
    },
  );

  test("infinite and NaN elements are left out and not counted as finite", () => {
    for (const dtype of ["BF16", "F16", "F32"] as const) {
      const values = [
        1,
        Number.NaN,
        -3,
        Number.POSITIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
        2,
        0,
        0,
        -4,
        Number.NaN,
      ];
      const [at] = place(fast, [
        toBytes(
          dtype,
          values.map((v) => roundToBits(dtype, v)),
        ),
      ]) as [number];
      expect(fast.stats(dtype, at, values.length)).toEqual({ absmax: 4, squares: 30, finite: 6 });
    }
  });

  test("the squares of the largest floats do not overflow", () => {
    const huge = floatOf(0x7f7fffff);
    const [at] = place(fast, [floats([huge, -huge])]) as [number];
    expect(fast.stats("F32", at, 2)).toEqual({ absmax: huge, squares: 2 * huge * huge, finite: 2 });
  });
});

test.each(TORCH_ROW_LENGTHS)(
  "the length of a row of $width values is torch's, fused by the processor or by hand",
  ({ width, row, bits }) => {
    for (const kernels of [fast, emulated]) {
      const values = new Uint8Array(hashedRow(width, row).buffer);
      const [from, to] = place(kernels, [values, 4]) as [number, number];
      kernels.wasm[kernels === fast ? "laneNormsFused" : "laneNormsEmulated"](from, to, 1, width);
      expect(new DataView(kernels.bytes(to, 4).slice().buffer).getUint32(0, true)).toBe(bits);
    }
  },
);
