import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Dtype } from "../../src/core/dtype.ts";
import { AppError } from "../../src/core/errors.ts";
import { lowRankUpdate, source } from "../../src/core/expr.ts";
import {
  type PoolOptions,
  type ProgramLeaf,
  runTensorTasks,
  type TensorResult,
  type TensorTask,
  taskBytes,
} from "../../src/engine/pool.ts";
import { FileSource } from "../../src/storage/file.ts";
import {
  type FloatDtype,
  mergeReference,
  randomCase,
  roundToBits,
  toBytes,
  WIDTH,
} from "../support/canonical.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-pool-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function sha(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A task that has an input. */
type InputTask = TensorTask & { readonly input: ProgramLeaf };

interface Outcome {
  results: TensorResult[];
  progress: number[];
}

async function run(tasks: readonly TensorTask[], options: Partial<PoolOptions> = {}): Promise<Outcome> {
  const results: TensorResult[] = [];
  const progress: number[] = [];
  for await (const event of runTensorTasks(tasks, { threads: 2, ...options })) {
    if (event.type === "progress") progress.push(event.bytes);
    else results[event.index] = event.result;
  }
  return { results, progress };
}

async function failure(tasks: readonly TensorTask[], options: Partial<PoolOptions> = {}): Promise<AppError> {
  const error = await run(tasks, options).then(
    () => new Error("the run succeeded"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

/** A merge task over fresh files, with the bytes that must come out. */
function mergeTask(shape: {
  name: string;
  dtype: FloatDtype;
  factors: FloatDtype;
  rows: number;
  cols: number;
  rank: number;
}) {
  const { name, dtype, factors, rows, cols, rank } = shape;
  const input = randomCase({ dtype, rows, cols, rank }, rows + cols + rank);
  const round = (values: readonly number[]) =>
    toBytes(
      factors,
      values.map((v) => roundToBits(factors, v)),
    );
  const stored = {
    ...input,
    a: input.a.map((v) => roundTrip(factors, v)),
    b: input.b.map((v) => roundTrip(factors, v)),
  };
  const w = toBytes(dtype, input.w);
  const [a, b] = [round(input.a), round(input.b)];
  const expected = toBytes(dtype, mergeReference(stored));
  const range = (bytes: Uint8Array, part: string, offset: number) => {
    // An offset that is not aligned: safetensors promises nothing about a tensor's start.
    const path = file(
      `${name}.${part}`,
      Buffer.concat([Buffer.alloc(offset, 0xee), bytes, Buffer.alloc(5, 0xee)]),
    );
    return { path, offset, bytes: bytes.byteLength };
  };
  const leaf = (key: string, dtype: FloatDtype, shape: readonly number[]) => ({ key, dtype, shape });
  const [left, right] = [source(0, "b"), source(0, "a")];
  const task: InputTask = {
    name,
    dtype,
    shape: [rows, cols],
    input: { ...range(w, "w", 3), ...leaf("base w", dtype, [rows, cols]) },
    expectDigest: sha(w),
    program: {
      expr: lowRankUpdate({ base: "w", left, right, scale: input.scale, roundFirst: false }),
      leaves: [
        { ...range(b, "b", 2), ...leaf("source 0 b", factors, [rows, rank]), digest: sha(b) },
        { ...range(a, "a", 1), ...leaf("source 0 a", factors, [rank, cols]), digest: sha(a) },
      ],
      numerics: "peft-1",
    },
    output: { path: file(`${name}.out`, new Uint8Array(w.byteLength + 14).fill(0xcd)), offset: 7 },
  };
  return { task, expected, w, input: stored };
}

function roundTrip(dtype: FloatDtype, value: number): number {
  const bits = roundToBits(dtype, value);
  if (dtype === "F32") return value;
  return dtype === "BF16"
    ? new Float32Array(new Uint32Array([bits * 65536]).buffer)[0]!
    : new Float16Array(new Uint16Array([bits]).buffer)[0]!;
}

function copyTask(name: string, dtype: Dtype, shape: readonly number[], bytes: Uint8Array): InputTask {
  const path = file(`${name}.in`, bytes);
  return {
    name,
    dtype,
    shape,
    input: { key: `base ${name}`, path, offset: 0, bytes: bytes.byteLength, dtype, shape },
    output: { path: file(`${name}.out`, new Uint8Array(0)), offset: 0 },
  };
}

describe("merging tensors", () => {
  test("writes the reference's bytes at their offset and nothing beside them, for every dtype of W, A and B", async () => {
    const cases = (["BF16", "F16", "F32"] as const).flatMap((dtype, i) =>
      (["F32", "F16", "BF16"] as const).map((factors, j) =>
        mergeTask({ name: `${dtype}-${factors}`, dtype, factors, rows: 9 + i, cols: 21 + j, rank: 3 + j }),
      ),
    );
    const { results, progress } = await run(cases.map((c) => c.task));
    cases.forEach(({ task, expected, w, input }, i) => {
      const out = readFileSync(task.output!.path);
      expect(sha(out.subarray(7, 7 + expected.byteLength)), task.name).toBe(sha(expected));
      expect([...out.subarray(0, 7), ...out.subarray(-7)]).toEqual(Array(14).fill(0xcd));
      const result = results[i]!;
      expect(result).toMatchObject({
        name: task.name,
        inputDigest: sha(w),
        outputDigest: sha(expected),
        compareDigest: null,
        elements: input.rows * input.cols,
      });
      const width = WIDTH[input.dtype];
      const moved = Array.from({ length: result.elements }, (_, e) => e).filter(
        (e) =>
          Buffer.compare(
            w.subarray(e * width, e * width + width),
            expected.subarray(e * width, e * width + width),
          ) !== 0,
      );
      expect(result.changed).toBe(moved.length);
      expect(result.outputStats.nonFinite).toBe(0);
    });
    expect(progress.at(-1)).toBe(taskBytes(cases.map((c) => c.task)));
  });

  test("tensors of several tiles, with rows wider than a tile and ranks that limit it, come out the same", async () => {
    const cases = [
      // 140 rows a tile of 934; a last tile that is odd.
      mergeTask({ name: "many-rows", dtype: "BF16", factors: "F32", rows: 301, cols: 934, rank: 2 }),
      // One row takes more than a tile.
      mergeTask({ name: "wide", dtype: "F32", factors: "BF16", rows: 3, cols: 70_001, rank: 2 }),
      // B is larger than W: the room for B sets the height of a tile.
      mergeTask({ name: "deep", dtype: "F16", factors: "F16", rows: 901, cols: 1, rank: 400 }),
    ];
    const { results } = await run(cases.map((c) => c.task));
    expect(results.map((r) => r.outputDigest)).toEqual(cases.map((c) => sha(c.expected)));
    for (const { task, expected } of cases) {
      expect(sha(readFileSync(task.output!.path).subarray(7, 7 + expected.byteLength))).toBe(sha(expected));
    }
  });

  test("the emulated fused multiply-add and any number of threads give the same results, statistics included", async () => {
    const tasks = [5, 60, 90].map(
      (rows) =>
        mergeTask({ name: `t${rows}`, dtype: "BF16", factors: "F32", rows, cols: 1501, rank: 4 }).task,
    );
    const { results } = await run(tasks);
    expect((await run(tasks, { emulateFma: true, threads: 1 })).results).toEqual(results);
  });

  test("without an output only digests are made, and the compared bytes are hashed too", async () => {
    const { task, expected, w } = mergeTask({
      name: "v",
      dtype: "BF16",
      factors: "F32",
      rows: 4,
      cols: 20,
      rank: 2,
    });
    const { output, ...digestOnly } = task;
    const merged = file("merged", expected);
    const compare = { path: merged, offset: 0, bytes: expected.byteLength };
    const { results } = await run([{ ...digestOnly, compare }]);
    expect(results[0]).toMatchObject({
      outputDigest: sha(expected),
      compareDigest: sha(expected),
      inputDigest: sha(w),
    });
    expect(readFileSync(output!.path).every((byte) => byte === 0xcd)).toBe(true);
    const damaged = expected.slice();
    damaged[11]! ^= 1;
    writeFileSync(merged, damaged);
    const again = await run([{ ...digestOnly, compare }]);
    expect(again.results[0]).toMatchObject({ outputDigest: sha(expected), compareDigest: sha(damaged) });
  });

  test("empty tensors merge into nothing, and their factors are still checked", async () => {
    const cases = [
      mergeTask({ name: "no-rows", dtype: "F32", factors: "F32", rows: 0, cols: 5, rank: 2 }),
      mergeTask({ name: "no-cols", dtype: "F32", factors: "F32", rows: 5, cols: 0, rank: 2 }),
    ];
    const { results } = await run(cases.map((c) => c.task));
    const empty = sha(new Uint8Array(0));
    for (const result of results) {
      expect(result).toMatchObject({ inputDigest: empty, outputDigest: empty, changed: 0, elements: 0 });
      expect(result.outputStats).toEqual({ absmax: null, rms: null, nonFinite: 0 });
    }
  });
});

describe("copying tensors", () => {
  test("any dtype is copied byte for byte and hashed once; floats get statistics", async () => {
    const noise = new Uint8Array(600_000).map((_, i) => (i * 31) % 251);
    const floats = new Uint8Array(new Float32Array([3, -4, Number.NaN, 0]).buffer);
    const tasks = [
      copyTask("i8", "I8", [600_000], noise),
      copyTask("i64", "I64", [10], noise.subarray(0, 80)),
      copyTask("f64", "F64", [2, 5], noise.subarray(0, 80)),
      copyTask("f32", "F32", [4], floats),
      copyTask("scalar", "BF16", [], new Uint8Array([0x80, 0x3f])),
      copyTask("empty", "F16", [0, 7], new Uint8Array(0)),
    ];
    const { results } = await run(tasks);
    tasks.forEach((task, i) => {
      const input = readFileSync(task.input.path);
      expect(readFileSync(task.output!.path).equals(input), task.name).toBe(true);
      expect(results[i]).toMatchObject({ inputDigest: sha(input), outputDigest: sha(input), changed: 0 });
    });
    const none = { absmax: null, rms: null, nonFinite: 0 };
    expect(results.map((r) => r.inputStats)).toEqual([
      none,
      none,
      none,
      { absmax: 4, rms: Math.sqrt(25 / 3), nonFinite: 1 },
      { absmax: 1, rms: 1, nonFinite: 0 },
      none,
    ]);
  });

  test("offsets over 4 GiB are read and written where they should be", async () => {
    // Sparse files: nothing but the few bytes is stored.
    const offset = 5 * 2 ** 30 + 3;
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const path = file("far", new Uint8Array(0));
    const out = file("far.out", new Uint8Array(0));
    const { open } = await import("node:fs/promises");
    const handle = await open(path, "r+");
    await handle.write(bytes, 0, 4, offset);
    await handle.close();
    const task: TensorTask = {
      name: "far",
      dtype: "U8",
      shape: [4],
      input: { key: "base far", path, offset, bytes: 4, dtype: "U8", shape: [4] },
      output: { path: out, offset },
    };
    const { results } = await run([task]);
    expect(results[0]!.outputDigest).toBe(sha(bytes));
    const written = await FileSource.open(out);
    expect(await written.read(offset, offset + 4)).toEqual(bytes);
    await written[Symbol.asyncDispose]();
  });
});

describe("what goes wrong", () => {
  const shape = { dtype: "BF16", factors: "F32", rows: 6, cols: 20, rank: 2 } as const;

  test.each(["w", "a", "b"] as const)(
    "refuses a changed byte in %s, naming tensor and file",
    async (part) => {
      const { task } = mergeTask({ name: "layer.weight", ...shape });
      const path = join(folder, `layer.weight.${part}`);
      const bytes = readFileSync(path);
      bytes[bytes.byteLength - 7]! ^= 1;
      writeFileSync(path, bytes);
      const error = await failure([task]);
      expect(error.code).toBe("INPUT_CHANGED");
      expect(error.message).toContain("layer.weight");
      expect(error.message).toContain(path);
      expect(error.details).toMatchObject({ file: path });
    },
  );

  test("a file that ends early is BAD_FILE with its name and position", async () => {
    const { task } = mergeTask({ name: "short", ...shape });
    writeFileSync(task.input.path, readFileSync(task.input.path).subarray(0, 100));
    const error = await failure([task]);
    expect(error.code).toBe("BAD_FILE");
    expect(error.message).toContain(`${task.input.path} ends at byte 100`);
  });

  test("a missing input is NOT_FOUND, a missing output file too", async () => {
    const { task } = mergeTask({ name: "gone", ...shape });
    const lost = join(folder, "lost");
    expect((await failure([{ ...task, input: { ...task.input, path: lost } }])).code).toBe("NOT_FOUND");
    const error = await failure([{ ...task, output: { path: lost, offset: 0 } }]);
    expect([error.code, error.message.includes(lost)]).toEqual(["NOT_FOUND", true]);
  });

  test("a full disk is DISK_FULL with the file and the bytes that did not fit", async () => {
    const task = copyTask("big", "U8", [600_000], new Uint8Array(600_000));
    const error = await failure([task], { failWritesAfter: 300_000, threads: 1 });
    expect(error.code).toBe("DISK_FULL");
    expect(error.message).toContain(task.output!.path);
    expect(error.message).toMatch(/\d+ bytes at position 300000/);
    expect(readFileSync(task.output!.path).byteLength).toBe(300_000);
  });

  test("one failing tensor stops the others", async () => {
    const good = Array.from({ length: 40 }, (_, i) => copyTask(`g${i}`, "U8", [4000], new Uint8Array(4000)));
    const bad: TensorTask = {
      ...copyTask("bad", "U8", [9000], new Uint8Array(9000)),
      expectDigest: sha(new Uint8Array(1)),
    };
    let finished = 0;
    const drain = async () => {
      for await (const event of runTensorTasks([...good, bad], { threads: 1 }))
        if (event.type === "tensor") finished++;
    };
    await expect(drain()).rejects.toMatchObject({ code: "INPUT_CHANGED" });
    expect(finished).toBe(0);
  });

  test("shapes that do not fit their factors are a bug, not a user's error", async () => {
    const { task } = mergeTask({ name: "odd", ...shape });
    const [b, a] = task.program!.leaves as [ProgramLeaf, ProgramLeaf];
    const program = { ...task.program!, leaves: [b, { ...a, shape: [2, 19] }] };
    await expect(run([{ ...task, program }])).rejects.toThrow(
      /odd: source 0 a has 160 bytes for the shape \[2,19\]/,
    );
  });
});
