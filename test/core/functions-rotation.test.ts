import { describe, expect, it } from "vitest";
import type { NdArray } from "../../src/core/evaluate.ts";
import { FUNCTIONS } from "../../src/core/functions.ts";
import { solve } from "../../src/core/functions-rotation.ts";
import { canonical, exact } from "../../src/core/numerics.ts";

/** Float32 values from a seed, of about the size of weights. */
function random(shape: readonly number[], seed: number): NdArray {
  let state = seed;
  const count = shape.reduce((product, dim) => product * dim, 1);
  const values = Float64Array.from({ length: count }, () => {
    state = (state * 16807) % 2147483647;
    return Math.fround(state / 2147483647 - 0.5);
  });
  return { shape, values };
}

/** The transpose of the whole matrix that has the blocks on its diagonal. */
function dense(blocks: NdArray, width: number): NdArray {
  const [count, size] = blocks.shape as [number, number];
  const values = new Float64Array(width * width);
  for (let at = 0; at < width; at += size) {
    const block = count === 1 ? 0 : at / size;
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++)
        values[(at + j) * width + at + i] = blocks.values[(block * size + i) * size + j]!;
  }
  return { shape: [width, width], values };
}

const product = (left: NdArray, right: NdArray) => exact.matmul(left, right, "fused").values;

const turn = FUNCTIONS.turn!;

describe("rows turned by blocks", () => {
  // Up to 192 terms a sum is one K-block, up to 384 two halves, and above that blocks of 192.
  it.each([
    [64, 16],
    [320, 64],
    [320, 32],
    [384, 192],
    [448, 64],
    [960, 160],
  ])("are, bit for bit, the product with the whole matrix of width %i and blocks of %i", (width, size) => {
    const rows = random([3, width], 5);
    for (const count of [1, width / size]) {
      const blocks = random([count, size, size], 11);
      const { matmul } = canonical("F32");
      const whole = matmul(rows, dense(blocks, width), "fused").values;
      expect(turn.value([rows, blocks], {}, canonical("F32")).values).toEqual(whole);
      const near = turn.value([rows, blocks], {}, exact).values;
      for (const [i, value] of product(rows, dense(blocks, width)).entries())
        expect(near[i]).toBeCloseTo(value, 12);
    }
  });
});

describe("the Cayley transform", () => {
  it("makes orthogonal matrices of skew ones", () => {
    const skew = FUNCTIONS.skew!.value([random([1, 15], 3)], { size: 6 }, exact);
    const { values } = FUNCTIONS.cayley!.value([skew], {}, exact);
    const matrix = { shape: [6, 6], values };
    const transposed = {
      shape: [6, 6],
      values: values.map((_, i) => values[(i % 6) * 6 + Math.floor(i / 6)]!),
    };
    for (const [i, value] of product(matrix, transposed).entries()) {
      expect(value).toBeCloseTo(i % 7 === 0 ? 1 : 0, 12);
    }
  });

  it("is what the long series comes close to for small generators", () => {
    const small = random([2, 3], 3);
    const skew = FUNCTIONS.skew!.value(
      [{ ...small, values: small.values.map((value) => value / 20) }],
      { size: 3 },
      exact,
    );
    const transform = FUNCTIONS.cayley!.value([skew], {}, exact);
    const series = FUNCTIONS["cayley-neumann"]!.value([skew], { terms: 12 }, exact);
    // (I-Q)(I+Q)⁻¹ turns the other way than I+2Q+…, which begins (I+Q)(I-Q)⁻¹.
    const [count, size] = [2, 3];
    for (let n = 0; n < count; n++)
      for (let i = 0; i < size; i++)
        for (let j = 0; j < size; j++) {
          const at = (n * size + i) * size + j;
          const mirrored = (n * size + j) * size + i;
          expect(series.values[at]).toBeCloseTo(transform.values[mirrored]!, 10);
        }
  });
});

describe("the solver of small systems", () => {
  it("finds the matrix that a product was made of, whatever the order of the pivots", () => {
    const size = 7;
    const left = random([size, size], 23);
    // A zero on the diagonal needs another row for a pivot.
    left.values[0] = 0;
    const wanted = random([size, size], 29);
    const found = solve(left.values, product(left, wanted), size);
    for (const [i, value] of found.entries()) expect(value).toBeCloseTo(wanted.values[i]!, 10);
  });
});

describe("reflections of rows", () => {
  it("are the product with the chain of matrices, and keep the rows' lengths", () => {
    const [rows, width, count] = [4, 9, 3];
    const w = random([rows, width], 31);
    const directions = FUNCTIONS.orthonormal!.value([random([width, 1], 37)], {}, exact);
    const more = FUNCTIONS.orthonormal!.value([random([width, 1], 41)], {}, exact);
    const columns = new Float64Array(width * count);
    for (let j = 0; j < width; j++)
      columns.set([directions.values[j]!, more.values[j]!, directions.values[j]!], j * count);
    let chain: NdArray = { shape: [width, width], values: new Float64Array(width * width) };
    for (let i = 0; i < width; i++) chain.values[i * width + i] = 1;
    for (let n = 0; n < count; n++) {
      const mirror = new Float64Array(width * width).map((_, at) => {
        const [i, j] = [Math.floor(at / width), at % width];
        return (i === j ? 1 : 0) - 2 * columns[i * count + n]! * columns[j * count + n]!;
      });
      chain = { shape: chain.shape, values: product(chain, { shape: [width, width], values: mirror }) };
    }
    const expected = product(w, chain);
    const reflected = FUNCTIONS.reflect!.value([w, { shape: [width, count], values: columns }], {}, exact);
    for (const [i, value] of reflected.values.entries()) expect(value).toBeCloseTo(expected[i]!, 12);
    for (let i = 0; i < rows; i++) {
      const length = (of: Float64Array) => Math.hypot(...of.subarray(i * width, (i + 1) * width));
      expect(length(reflected.values)).toBeCloseTo(length(w.values), 12);
    }
  });

  it("use directions that are orthogonal to each other with Gram and Schmidt's basis", () => {
    const basis = FUNCTIONS.orthonormal!.value([random([8, 4], 43)], {}, exact);
    const transposed = {
      shape: [4, 8],
      values: Float64Array.from({ length: 32 }, (_, at) => basis.values[(at % 8) * 4 + Math.floor(at / 8)]!),
    };
    for (const [i, value] of product(transposed, basis).entries()) {
      expect(value).toBeCloseTo(i % 5 === 0 ? 1 : 0, 12);
    }
  });
});
