import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dtype } from "../../src/core/dtype.ts";
import {
  add,
  base,
  call,
  concat,
  type Expr,
  mul,
  over,
  round,
  scale,
  slice,
  source,
} from "../../src/core/expr.ts";
import { compileKernels, Kernels } from "../../src/engine/kernels.ts";
import { seeded } from "../support/canonical.ts";
import { check, type Example, runTask, stored, taskOf } from "../support/programs.ts";

let folder: string;
let kernels: Kernels;
let emulated: Kernels;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-calls-"));
  const module = await compileKernels();
  kernels = new Kernels(module);
  emulated = new Kernels(module, { emulateFma: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const w = base("w");
const of = (name: string) => source(0, name);

function example(
  expr: Expr,
  shape: readonly number[],
  tensors: Record<string, readonly number[]>,
  rest: Partial<Example> = {},
): Example {
  const random = seeded(shape[0]! + shape[1]!);
  const number = () => Math.fround((random() + random() + random() - 1.5) * 0.5);
  const all = new Map(
    Object.entries(tensors).map(([name, size]) => [`source 0 ${name}`, stored("F32", size, number)]),
  );
  all.set("base w", stored("BF16", shape, number));
  return { expr, shape, dtype: "F32", tensors: all, ...rest };
}

/** In both arithmetics, with both ways to multiply and add, and in tiles of one row and of all. */
function checkAll(make: (rest: Partial<Example>) => Example): void {
  for (const numerics of ["peft-1", "exact-1"] as const) {
    const one = make({ numerics });
    check(one, { folder, kernels, tileElements: 1 });
    check(one, { folder, kernels: emulated });
  }
}

/** Whole numbers as they are stored. */
function integers(dtype: "I32" | "I64", values: readonly number[]) {
  const bytes =
    dtype === "I32" ? new Int32Array(values) : new BigInt64Array(values.map((value) => BigInt(value)));
  return { dtype: dtype as Dtype as "F32", bytes: new Uint8Array(bytes.buffer) };
}

describe("functions of core have the interpreter's bits in kernels", () => {
  test.each([
    [9, 24, 3, 8],
    [5, 32, 16, 2],
    [6, 60, 20, 3],
    [3, 400, 50, 8],
    [4, 400, 40, 1],
    [3, 200, 200, 1],
    [2, 480, 240, 2],
    [1, 36, 6, 6],
  ])("rows turned by blocks: %i×%i, blocks of %i", (rows, width, size, count) => {
    checkAll((rest) => example(call("turn", [w, of("r")]), [rows, width], { r: [count, size, size] }, rest));
  });

  test("columns sorted for a butterfly and back", () => {
    for (const back of [0, 1])
      checkAll((rest) => example(call("butterfly", [w], { group: 16, half: 2, back }), [5, 48], {}, rest));
  });

  test.each([
    [3, 20, 1],
    [17, 33, 4],
    [8, 64, 8],
  ])("rows reflected: %i×%i at %i directions", (rows, width, count) => {
    checkAll((rest) => example(call("reflect", [w, of("u")]), [rows, width], { u: [width, count] }, rest));
  });

  test.each([
    [12, 5, 4],
    [400, 3, 80],
    [200, 1, 100],
    [8, 9, 2],
  ])("pairs of rows turned: %i×%i in groups of %i", (rows, columns, group) => {
    const parts: Expr[] = [];
    for (let start = 0; start < rows; start += group) {
      const middle = start + group / 2;
      parts.push(scale(-1, slice(w, 0, middle, start + group)), slice(w, 0, start, middle));
    }
    const params = { half: group / 2, rows, first: 0 };
    const expr = call("turn-pairs", [w, concat(0, parts), round(of("c")), round(of("s"))], params);
    checkAll((rest) => example(expr, [rows, columns], { c: [rows, 1], s: [rows, 1] }, rest));
  });

  test("circulant blocks", () => {
    const expr = add(w, round(over(15, round(call("circulant", [of("k")], { first: 0, count: 10 })))));
    checkAll((rest) => example(expr, [10, 15], { k: [2, 3, 5] }, rest));
  });

  test("sines and cosines of a column, and a lower limit", () => {
    const least = call("at-least", [of("t")], { least: 0.1 });
    const expr = mul(w, add(call("cos", [of("t")]), call("sin", [least])));
    checkAll((rest) => example(expr, [9, 7], { t: [9, 7] }, rest));
  });
});

describe("values added at places", () => {
  const params = { rows: 9, columns: 7, first: 0 };
  const expr = add(call("add-at", [w, of("v"), of("i")], params), of("t"));
  const shapes = { v: [6], t: [9, 7] };
  const withPlaces = (dtype: "I32" | "I64", shape: readonly number[], values: readonly number[]) => {
    return (rest: Partial<Example>) => {
      const one = example(expr, [9, 7], shapes, rest);
      one.tensors.set("source 0 i", { ...integers(dtype, values), shape });
      return one;
    };
  };

  test("given as rows and columns, several at one place, in the order of the file", () => {
    checkAll(withPlaces("I32", [2, 6], [0, 8, 3, 3, 3, 8, 1, 6, 2, 2, 2, 6]));
  });

  test("given as positions in the matrix", () => {
    checkAll(withPlaces("I64", [6], [62, 0, 5, 5, 5, 33]));
  });

  test("outside of it are refused", () => {
    const task = taskOf(withPlaces("I32", [6], [62, 0, 5, 63, 5, 33])({}), folder);
    expect(() => runTask(task, kernels)).toThrow(expect.objectContaining({ code: "INDEX_OUT_OF_RANGE" }));
  });
});
