import type { Arithmetic, NdArray } from "./evaluate.ts";
import type { ExprFunction } from "./functions.ts";
import { rankBlocks } from "./numerics.ts";

/*
 * What OFT and BOFT need: rotations made of small blocks. A rotation is kept as its blocks (n×b×b), never as the whole
 * matrix on whose diagonal they would stand: that has width² entries, nearly all of them zero.
 */

/**
 * Skew-symmetric blocks: args [v (n × b(b-1)/2)], params { size: b } → (n×b×b), the upper triangles row by row from
 * `v`, the lower ones with the sign changed.
 */
const skew: ExprFunction = {
  shape: ([v], { size }) => [v![0]!, size!, size!],
  value([v], params) {
    const size = params.size!;
    const [count, each] = v!.shape as [number, number];
    const values = new Float64Array(count * size * size);
    for (let n = 0; n < count; n++) {
      let from = n * each;
      for (let i = 0; i < size; i++)
        for (let j = i + 1; j < size; j++) {
          const value = v!.values[from++]!;
          values[(n * size + i) * size + j] = value;
          values[(n * size + j) * size + i] = 0 - value;
        }
    }
    return { shape: [count, size, size], values };
  },
};

/**
 * COFT's constraint: args [q (n×b×b)], params { eps } → each block shortened to the length `eps/√n` where it is longer
 * (Frobenius); PEFT applies it at the merge, too.
 */
const constrain: ExprFunction = {
  shape: ([q]) => q!,
  value([q], params, { step }) {
    const [count, size] = q!.shape as [number, number];
    const most = step(step(params.eps!) / step(Math.sqrt(count)));
    const values = q!.values.slice();
    for (let n = 0; n < count; n++) {
      const block = values.subarray(n * size * size, (n + 1) * size * size);
      const length = step(Math.sqrt(block.reduce((sum, value) => sum + value * value, 0)));
      if (length > most)
        for (const [i, value] of block.entries()) block[i] = step(most * step(value / length));
    }
    return { shape: q!.shape, values };
  },
};

/**
 * Rotations by the Cayley transform cut short: args [q (n×b×b), skew], params { terms } → `I + 2Q + 2Q² + … + 2Qᵏ⁻¹ + Qᵏ`
 * with k = terms-1, but at least 3 from three terms on, as PEFT sums them.
 */
const cayleyNeumann: ExprFunction = {
  shape: ([q]) => q!,
  value: ([q], { terms }, arithmetic) => eachBlock(q!, (block) => seriesOf(block, terms!, arithmetic)),
};

function seriesOf(q: NdArray, terms: number, { step, matmul }: Arithmetic): NdArray {
  const size = q.shape[0]!;
  const sum = new Float64Array(size * size);
  for (let i = 0; i < size; i++) sum[i * size + i] = 1;
  const grow = (power: NdArray, times: number) => {
    for (const [i, value] of power.values.entries()) sum[i] = step(sum[i]! + times * value);
  };
  if (terms > 1) grow(q, 2);
  if (terms > 2) {
    const last = Math.max(3, terms - 1);
    let power = q;
    for (let exponent = 2; exponent <= last; exponent++) {
      power = matmul(power, q, "fused");
      grow(power, exponent === last ? 1 : 2);
    }
  }
  return { shape: q.shape, values: sum };
}

/**
 * Rotations by the Cayley transform: args [q (n×b×b), skew] → `(I-Q)·(I+Q)⁻¹`, solved in float64 and rounded to float32
 * once. torch solves in float32, so its last bits are its own.
 */
const cayley: ExprFunction = {
  shape: ([q]) => q!,
  value: ([q], _, { step }) =>
    eachBlock(q!, ({ shape, values }) => {
      const size = shape[0]!;
      // X·(I+Q) = I-Q is (I+Q)ᵀ·Xᵀ = (I-Q)ᵀ, and Q is skew: (I-Q)·Xᵀ = I+Q.
      const minus = values.map((value, i) => unit(i, size) - value);
      const plus = values.map((value, i) => unit(i, size) + value);
      const solved = solve(minus, plus, size);
      return { shape, values: transposed(solved, size).map((value) => step(value)) };
    }),
};

const unit = (at: number, size: number) => (at % (size + 1) === 0 ? 1 : 0);

function transposed(values: Float64Array, size: number): Float64Array {
  return values.map((_, i) => values[(i % size) * size + Math.floor(i / size)]!);
}

function eachBlock(q: NdArray, f: (block: NdArray) => NdArray): NdArray {
  const [count, size] = q.shape as [number, number];
  const values = new Float64Array(q.values.length);
  for (let n = 0; n < count; n++) {
    const at = n * size * size;
    values.set(f({ shape: [size, size], values: q.values.slice(at, at + size * size) }).values, at);
  }
  return { shape: q.shape, values };
}

/** X of A·X = B for square matrices, by elimination with the largest pivot of a column. */
export function solve(a: Float64Array, b: Float64Array, size: number): Float64Array {
  const left = a.slice();
  const right = b.slice();
  const row = (of: Float64Array, i: number) => of.subarray(i * size, (i + 1) * size);
  for (let k = 0; k < size; k++) {
    let pivot = k;
    for (let i = k + 1; i < size; i++)
      if (Math.abs(left[i * size + k]!) > Math.abs(left[pivot * size + k]!)) pivot = i;
    for (const matrix of [left, right]) swap(row(matrix, k), row(matrix, pivot));
    for (let i = k + 1; i < size; i++) {
      const times = left[i * size + k]! / left[k * size + k]!;
      if (times === 0) continue;
      for (const matrix of [left, right]) subtract(row(matrix, i), row(matrix, k), times);
    }
  }
  for (let k = size - 1; k >= 0; k--) {
    const own = row(right, k);
    for (let i = k + 1; i < size; i++) subtract(own, row(right, i), left[k * size + i]!);
    for (let j = 0; j < size; j++) own[j]! /= left[k * size + k]!;
  }
  return right;
}

function swap(one: Float64Array, other: Float64Array): void {
  for (let j = 0; j < one.length; j++) [one[j], other[j]] = [other[j]!, one[j]!];
}

function subtract(from: Float64Array, row: Float64Array, times: number): void {
  for (let j = 0; j < from.length; j++) from[j]! -= times * row[j]!;
}

/**
 * Rows turned by blocks: args [w (m×k), r (n×b×b)] → `w·Dᵀ` with D the blocks on the diagonal, k = n·b, or all of them
 * the same block for n = 1. PEFT multiplies by the whole D: its zeros add nothing, but the sum over all k columns has
 * K-blocks, and where their limits fall inside a block of D, its sum is rounded apart on either side.
 */
const turn: ExprFunction = {
  shape: ([w]) => w!,
  rowwise: true,
  value([w, r], _, { step, matmul }) {
    const [rows, width] = w!.shape as [number, number];
    const [count, size] = r!.shape as [number, number];
    const values = new Float64Array(rows * width);
    const limits = limitsOf(width);
    for (let at = 0; at < width; at += size) {
      const block = count === 1 ? 0 : at / size;
      const edges = [at, ...limits.filter((limit) => limit > at && limit < at + size), at + size];
      for (let i = 0; i + 1 < edges.length; i++) {
        const [from, to] = [edges[i]!, edges[i + 1]!];
        const left = columns(w!, from, to);
        const part = matmul(left, turnedColumns(r!, { block, from: from - at, to: to - at }), "fused");
        for (let row = 0; row < rows; row++)
          for (let j = 0; j < size; j++) {
            const to = row * width + at + j;
            const value = part.values[row * size + j]!;
            values[to] = i === 0 ? value : step(values[to]! + value);
          }
      }
    }
    return { shape: w!.shape, values };
  },
};

/** Where the K-blocks of a sum over so many terms end. */
function limitsOf(terms: number): number[] {
  let at = 0;
  return rankBlocks(terms).map((length) => {
    at += length;
    return at;
  });
}

function columns({ shape, values }: NdArray, from: number, to: number): NdArray {
  const [rows, width] = shape as [number, number];
  const cut = new Float64Array(rows * (to - from));
  for (let i = 0; i < rows; i++) cut.set(values.subarray(i * width + from, i * width + to), i * (to - from));
  return { shape: [rows, to - from], values: cut };
}

/** Columns from … to-1 of one block, as rows. */
function turnedColumns(
  r: NdArray,
  { block, from, to }: { block: number; from: number; to: number },
): NdArray {
  const size = r.shape[1]!;
  const values = new Float64Array((to - from) * size);
  for (let k = from; k < to; k++)
    for (let j = 0; j < size; j++) values[(k - from) * size + j] = r.values[(block * size + j) * size + k]!;
  return { shape: [to - from, size], values };
}

/**
 * BOFT's butterfly: args [w (m×k)], params { group, half, back } → the columns of each group of `group` columns in another
 * order: cut into pieces of `half` columns, the pieces with even numbers first, then the odd ones; `back` 1 undoes it.
 */
const butterfly: ExprFunction = {
  shape: ([w]) => w!,
  rowwise: true,
  value([w], { group, half, back }) {
    const [rows, width] = w!.shape as [number, number];
    const order = butterflyOrder(width, group!, half!);
    const values = new Float64Array(rows * width);
    for (let i = 0; i < rows; i++)
      for (const [to, from] of order.entries()) {
        if (back === 1) values[i * width + to] = w!.values[i * width + from]!;
        else values[i * width + from] = w!.values[i * width + to]!;
      }
    return { shape: w!.shape, values };
  },
};

function butterflyOrder(width: number, group: number, half: number): number[] {
  const pieces = group / half;
  const sorted = Array.from({ length: pieces }, (_, i) => i).sort((a, b) => (a % 2) - (b % 2) || a - b);
  return Array.from({ length: width }, (_, i) => {
    const within = i % group;
    return i - within + sorted[Math.floor(within / half)]! * half + (within % half);
  });
}

export const ROTATIONS: Readonly<Record<string, ExprFunction>> = {
  skew,
  constrain,
  "cayley-neumann": cayleyNeumann,
  cayley,
  turn,
  butterfly,
};
