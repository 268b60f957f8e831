import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MergeableDtype } from "../../src/core/dtype.ts";
import {
  add,
  base,
  concat,
  div,
  type Expr,
  kron,
  lowRankUpdate,
  matmul,
  mul,
  norm,
  over,
  permute,
  relu,
  repeat,
  reshape,
  round,
  scale,
  slice,
  source,
  sub,
  transpose,
} from "../../src/core/expr.ts";
import { compileKernels, Kernels } from "../../src/engine/kernels.ts";
import { LeafCache } from "../../src/engine/leaf-cache.ts";
import { TensorRunner } from "../../src/engine/tensor-runner.ts";
import { seeded } from "../support/canonical.ts";
import { check, type Example, expectedBits, runTask, stored, taskOf } from "../support/programs.ts";

let folder: string;
let module: WebAssembly.Module;
let kernels: Kernels;
let emulated: Kernels;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-tiles-"));
  module = await compileKernels();
  kernels = new Kernels(module);
  emulated = new Kernels(module, { emulateFma: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const DTYPES = ["BF16", "F16", "F32"] as const;
const w = base("w");
const of = (name: string) => source(0, name);

/** An example whose tensors are random, with a few zeros of either sign, infinities and NaN where `special`. */
function example(
  expr: Expr,
  shape: readonly number[],
  tensors: Record<string, readonly number[]>,
  rest: Partial<Example> & { seed?: number; special?: boolean; inputDtype?: MergeableDtype } = {},
): Example {
  const random = seeded(rest.seed ?? 1);
  const dtype = rest.dtype ?? "BF16";
  const number = () => {
    if (rest.special && random() < 0.02) return [0, -0, Number.NaN, 1e39, -1e39][Math.floor(random() * 5)]!;
    return Math.fround((random() + random() + random() - 1.5) * 0.5);
  };
  const all = new Map(
    Object.entries(tensors).map(([name, size]) => [`source 0 ${name}`, stored("F32", size, number)]),
  );
  all.set("base w", stored(rest.inputDtype ?? dtype, shape, number));
  return { expr, shape, dtype, tensors: all, ...(rest.numerics && { numerics: rest.numerics }) };
}

describe("low-rank updates", () => {
  const RANKS = [1, 3, 5, 24, 64, 193, 400];
  const sides = (out: number, rank: number, inputs: number) => ({ b: [out, rank], a: [rank, inputs] });
  const update = (left: Expr, right: Expr, roundFirst = false) =>
    lowRankUpdate({ base: "w", left, right, scale: 0.3, roundFirst });

  test.each(RANKS)("of rank %i are the interpreter's in every arithmetic, type and storage", (rank) => {
    for (const [i, dtype] of DTYPES.entries()) {
      const shape = [7, 37] as const;
      const rest = { dtype, seed: rank + i, special: i === 1 };
      const factors = sides(7, rank, 37);
      for (const roundFirst of [false, true]) {
        const straight = example(update(of("b"), of("a"), roundFirst), shape, factors, rest);
        check(straight, { folder, kernels });
        check(straight, { folder, kernels: emulated });
        const turned = update(transpose(of("a")), transpose(of("b")), roundFirst);
        check(example(turned, shape, { a: [rank, 7], b: [37, rank] }, rest), { folder, kernels });
      }
      const exact = example(update(of("b"), of("a")), shape, factors, { ...rest, numerics: "exact-1" });
      check(exact, { folder, kernels, tileElements: 100 });
      const inputDtype = DTYPES[(i + 1) % 3]!;
      check(example(update(of("b"), of("a")), shape, factors, { ...rest, inputDtype }), { folder, kernels });
    }
  });

  test("of convolutions, through flattened factors", () => {
    const shape = [6, 4, 3, 3];
    const change = reshape(scale(2, matmul(reshape(of("b"), [6, 5]), reshape(of("a"), [5, 36]))), shape);
    for (const expr of [add(w, change), add(change, w), add(w, round(change))]) {
      check(example(expr, shape, { b: [6, 5, 1, 1], a: [5, 4, 3, 3] }), { folder, kernels });
    }
  });

  test("whose factors are products themselves", () => {
    const left = mul(reshape(of("e"), [40, 1]), of("b"));
    const right = mul(reshape(of("d"), [6, 1]), slice(of("a"), 1, 0, 21));
    const tensors = { e: [40], b: [40, 6], d: [6], a: [6, 30] };
    check(example(update(left, right), [40, 21], tensors), { folder, kernels });
  });

  test("of a row that is wider than a tile", () => {
    const wide = 140_001;
    check(example(update(of("b"), of("a")), [2, wide], sides(2, 2, wide), { dtype: "F32" }), {
      folder,
      kernels,
    });
    const first = example(update(of("b"), of("a")), [1, wide], sides(1, 2, wide), { inputDtype: "F16" });
    check(first, { folder, kernels });
  });

  test("of rank 0 leave the weight as it is", () => {
    check(example(update(of("b"), of("a")), [4, 9], sides(4, 0, 9)), { folder, kernels });
  });

  test("of experts that are one tensor", () => {
    const one = (e: number) =>
      reshape(scale(2, matmul(slice(of("b"), 1, e, 6, 3), slice(of("a"), 0, e * 2, e * 2 + 2))), [1, 8, 20]);
    const expr = add(w, round(concat(0, [one(0), one(1), one(2)])));
    for (const tileElements of [40, 65_536])
      check(example(expr, [3, 8, 20], { b: [8, 6], a: [6, 20] }), { folder, kernels, tileElements });
  });
});

describe("values that need all rows first", () => {
  const total = add(w, scale(0.5, matmul(of("b"), of("a"))));
  const shape = [400, 19] as const;
  const factors = { b: [400, 3], a: [3, 19], m: [19] };

  test.each(["peft-1", "exact-1"] as const)("lengths of columns, in %s", (numerics) => {
    for (const order of ["sequence", "double"] as const) {
      const expr = mul(div(reshape(of("m"), [1, 19]), norm(total, 0, order)), total);
      check(example(expr, shape, factors, { numerics }), { folder, kernels, tileElements: 200 });
      const turned = mul(
        reshape(div(of("m"), reshape(norm(transpose(total), 1, order), [19])), [1, 19]),
        total,
      );
      check(example(turned, shape, factors, { numerics }), { folder, kernels, tileElements: 200 });
    }
  });

  test.each(["peft-1", "exact-1"] as const)(
    "products from the left, in blocks of the rows, in %s",
    (numerics) => {
      for (const rows of [150, 193, 400]) {
        const tensors = { p: [5, rows], q: [rows, 5], r: [5, 19] };
        const inner = relu(matmul(of("p"), w));
        const peanut = add(w, round(scale(2, matmul(of("q"), inner))));
        const turned = permute(
          add(transpose(w), matmul(relu(matmul(transpose(w), transpose(of("p")))), transpose(of("q")))),
          [1, 0],
        );
        const removed = add(w, matmul(of("q"), sub(of("r"), matmul(of("p"), w, "unfused"))));
        for (const expr of [peanut, turned, removed]) {
          check(example(expr, [rows, 19], tensors, { numerics, special: rows === 150 }), {
            folder,
            kernels,
            tileElements: 300,
          });
          check(example(expr, [rows, 19], tensors, { numerics }), { folder, kernels: emulated });
        }
      }
    },
  );
});

describe("other kinds", () => {
  test.each(["peft-1", "exact-1"] as const)("stream in %s", (numerics) => {
    const product = matmul(of("b"), of("a"));
    const low = { b: [24, 3], a: [3, 36] };
    const block = (i: number) => reshape(slice(of("k"), 0, i, i + 1), [4, 4]);
    const rows = (i: number) => slice(w, 0, i * 4, i * 4 + 4);
    const bat = (i: number) =>
      add(reshape(matmul(reshape(rows(i), [36, 4]), block(i)), [4, 36]), repeat(block(i), 1, 36));
    const cases: [Expr, Record<string, readonly number[]>][] = [
      [add(w, over(12, scale(16, product))), low],
      [add(w, scale(2, mul(product, matmul(of("d"), of("c"))))), { ...low, d: [24, 3], c: [3, 36] }],
      [add(w, scale(2, kron(of("x"), of("y")))), { x: [4, 9], y: [6, 4] }],
      [mul(w, reshape(of("l"), [24, 1])), { l: [24] }],
      [mul(w, of("l")), { l: [36] }],
      [add(w, round(mul(w, round(product)))), low],
      [add(w, repeat(transpose(of("m")), 1, 36)), { m: [5, 24] }],
      [add(w, repeat(repeat(transpose(of("m")), 0, 24), 1, 36)), { m: [5, 7] }],
      [add(w, concat(0, [0, 1, 2, 3, 4, 5].map(bat))), { k: [6, 4, 4] }],
      [
        add(w, concat(1, [product, matmul(of("d"), of("c"))])),
        { b: [24, 3], a: [3, 20], d: [24, 2], c: [2, 16] },
      ],
      [add(w, reshape(permute(reshape(of("z"), [24, 6, 6]), [0, 2, 1]), [24, 36])), { z: [24, 36] }],
    ];
    for (const [expr, tensors] of cases)
      for (const dtype of DTYPES)
        check(example(expr, [24, 36], tensors, { numerics, dtype, special: dtype === "F16" }), {
          folder,
          kernels,
          tileElements: 300,
        });
  });

  test("a cast streams between all types, rounding once", () => {
    for (const inputDtype of DTYPES)
      for (const dtype of DTYPES)
        for (const numerics of ["peft-1", "exact-1"] as const)
          check(example(w, [33, 70], {}, { dtype, inputDtype, numerics, special: true }), {
            folder,
            kernels,
            tileElements: 500,
          });
  });

  test("a replaced tensor of any type takes the output's, without an input or with one of another shape", () => {
    const random = seeded(7);
    const tensors = new Map([
      ["source 0 t", stored("F32", [9, 11], () => random() - 0.5)],
      ["base w", stored("BF16", [4, 11], random)],
    ]);
    const at = { expr: of("t"), shape: [9, 11], dtype: "BF16" as const };
    check({ ...at, tensors }, { folder, kernels });
    tensors.delete("base w");
    check({ ...at, tensors }, { folder, kernels, tileElements: 20 });
  });
});

describe("what is read is what was imported", () => {
  const expr = add(w, mul(of("t"), of("t")));
  const large = example(expr, [1030, 1024], { t: [1030, 1024] });

  test("a factor that streams beside the output is checked on the way", () => {
    const task = taskOf(large, folder);
    runTask(task, kernels);
    const [leaf] = task.program!.leaves;
    const bytes = readFileSync(leaf!.path);
    bytes[leaf!.offset + leaf!.bytes - 1]! ^= 1;
    writeFileSync(leaf!.path, bytes);
    expect(() => runTask(task, kernels)).toThrow(
      /A factor of tensor "t" \(source 0 t\).*is not what was imported/,
    );
  });

  test("a factor of which only a part is used is checked as a whole", () => {
    const small = example(add(w, slice(of("t"), 0, 2, 6)), [4, 9], { t: [8, 9] });
    const task = taskOf(small, folder);
    expect(runTask(task, kernels).bits).toEqual(expectedBits(small));
    const [leaf] = task.program!.leaves;
    const bytes = readFileSync(leaf!.path);
    bytes[leaf!.offset]! ^= 1;
    writeFileSync(leaf!.path, bytes);
    expect(() => runTask(task, kernels)).toThrow(/is not what was imported/);
  });
});

describe("what several tensors share", () => {
  test("is read once a thread, and found by its digest alone", () => {
    const shared = example(add(w, transpose(of("t"))), [6, 9], { t: [9, 6] });
    const task = taskOf(shared, folder);
    const hooks = { checkStopped: () => {}, advance: () => {}, wrote: () => {} };
    const runner = new TensorRunner(kernels, hooks);
    const { outputDigest } = runner.run(task);
    const [leaf] = task.program!.leaves;
    const bytes = readFileSync(leaf!.path);
    bytes.fill(0, leaf!.offset, leaf!.offset + leaf!.bytes);
    writeFileSync(leaf!.path, bytes);
    expect(runner.run(task).outputDigest).toBe(outputDigest);
    const other = { ...leaf!, digest: `sha256:${"0".repeat(64)}` };
    expect(() => runner.run({ ...task, program: { ...task.program!, leaves: [other] } })).toThrow(
      expect.objectContaining({ code: "INPUT_CHANGED" }),
    );
    runner.close();
  });

  test("is kept up to a size, the one used last the longest", () => {
    const cache = new LeafCache();
    const leafOf = (name: string) => ({
      key: name,
      path: name,
      offset: 0,
      bytes: 4,
      dtype: "F32" as const,
      shape: [1],
      digest: `sha256:${name}`,
    });
    const large = () => new Float32Array(5 * 2 ** 20);
    for (const name of ["a", "b"]) cache.put(leafOf(name), 4, large());
    expect(cache.get(leafOf("a"), 4)).toBeDefined();
    cache.put(leafOf("c"), 4, large());
    expect(["a", "b", "c"].map((name) => cache.get(leafOf(name), 4) !== undefined)).toEqual([
      true,
      false,
      true,
    ]);
    const { digest: _, ...unknown } = leafOf("d");
    cache.put(unknown, 4, new Float32Array(1));
    expect(cache.get(unknown, 4)).toBeUndefined();
  });
});

describe("size", () => {
  /** A task over a base tensor that is a hole in a file: it takes no room on the disk. */
  function holeTask(
    expr: Expr,
    shape: readonly [number, number],
    tensors: Record<string, readonly number[]>,
  ) {
    const task = taskOf(example(expr, [1, 1], tensors), folder);
    const path = join(folder, "hole");
    const bytes = shape[0] * shape[1] * 2;
    const file = openSync(path, "w");
    ftruncateSync(file, bytes + 5);
    closeSync(file);
    const { output: _, expectDigest: __, ...rest } = task;
    const known = { digest: "sha256:0", stats: { absmax: 0, rms: 0, nonFinite: 0 } };
    return {
      ...rest,
      shape,
      known,
      digests: "none" as const,
      input: { ...task.input!, path, offset: 5, bytes, shape },
    };
  }

  test("a tensor over 2 GiB streams in less than 32 MiB of memory beside its factors", () => {
    const shape = [1_080_000, 1000] as const;
    const own = new Kernels(module);
    const expr = add(w, mul(reshape(of("l"), [1_080_000, 1]), reshape(of("m"), [1, 1000])));
    const task = holeTask(expr, shape, { l: [1_080_000], m: [1000] });
    const { result } = runTask({ ...task, output: { path: "/dev/null", offset: 0 } }, own);
    expect(result.elements).toBe(1_080_000_000);
    expect(result.outputStats.nonFinite).toBe(0);
    expect(result.changed).toBeGreaterThan(1_000_000_000);
    expect(own.size).toBeLessThan(32 * 2 ** 20);
  });

  test("what has to be in memory as a whole is refused above the limit, by the tensor's name", () => {
    const task = holeTask(add(w, permute(w, [1, 0])), [6000, 6000], {});
    expect(() => runTask({ ...task, output: { path: "/dev/null", offset: 0 } }, kernels)).toThrow(
      expect.objectContaining({
        code: "TENSOR_TOO_LARGE",
        message: expect.stringMatching(/Tensor "t".*36000000 elements.*the limit is 33554432/),
      }),
    );
  });

  test("ten thousand tensors take no more memory than one", () => {
    const own = new Kernels(module);
    const one = example(add(w, scale(2, mul(of("t"), of("t")))), [3, 5], { t: [3, 5] });
    const { output: _, ...task } = taskOf(one, folder);
    const runner = new TensorRunner(own, { checkStopped: () => {}, advance: () => {}, wrote: () => {} });
    const digests = new Set([runner.run(task).outputDigest]);
    const before = own.size;
    for (let i = 0; i < 10_000; i++) digests.add(runner.run(task).outputDigest);
    runner.close();
    expect(own.size).toBe(before);
    expect(digests.size).toBe(1);
  });
});
