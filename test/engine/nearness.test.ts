import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { addDistances, ulpAt } from "../../src/core/devices.ts";
import { base } from "../../src/core/expr.ts";
import { roundToBits } from "../../src/core/numerics.ts";
import { NearnessMeter } from "../../src/engine/nearness.ts";
import type { TensorTask } from "../../src/engine/pool.ts";
import { OpenFiles } from "../../src/storage/tensor-io.ts";
import { DeviceTasks } from "../support/device-tasks.ts";

let folder: string;
let files: OpenFiles;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-near-"));
  files = new OpenFiles();
});
afterEach(() => {
  files.closeAll();
  rmSync(folder, { recursive: true, force: true });
});

const stored = (...values: number[]) =>
  new Uint8Array(Uint16Array.from(values, (value) => roundToBits("BF16", value)).buffer);

/** A task whose base holds small values: nothing is larger than 2⁻¹⁰. */
function task(elements: number): TensorTask {
  const tasks = new DeviceTasks(folder);
  const w = tasks.store({ leaf: base("w"), shape: [elements], scale: 2 ** -10 });
  return tasks.task("w", w, { base: w });
}

function measure(canonical: number[], computed: number[], options = {}) {
  const meter = new NearnessMeter(task(canonical.length), files, options);
  meter.compare(stored(...canonical), stored(...computed), 0);
  return meter.found;
}

describe("the distance from the canonical value", () => {
  it("is counted in elements and in units in the last place", () => {
    // Between 1 and 2 bf16 values are 2⁻⁷ apart.
    const found = measure([1, 1, 1, -1], [1, 1 + 2 ** -7, 1 + 2 ** -6, -1]);
    expect(found).toMatchObject({ elements: 4, differing: 2, maxUlp: 2, changed: 4, projection: null });
  });

  it("is measured at the larger of the old and the new value", () => {
    const near = task(1);
    const before = new NearnessMeter(near, files);
    // The new value is tiny beside the base's: as many of its own units as one likes are few of the base's.
    before.compare(stored(2 ** -30), stored(2 ** -29), 0);
    expect(before.found.maxUlp).toBeLessThan(2 ** -8);
    expect(before.found.maxUlp).toBeGreaterThan(0);
    expect(measure([2 ** -7], [2 ** -7 + 2 ** -14]).maxUlp).toBe(1);
  });

  it("is infinite where one is a number and the other none, and nothing between two zeros or two NaN", () => {
    expect(measure([1, Number.POSITIVE_INFINITY], [Number.NaN, 1]).maxUlp).toBe(Number.POSITIVE_INFINITY);
    expect(measure([0, Number.NaN], [-0, Number.NaN])).toMatchObject({ differing: 1, maxUlp: 0 });
  });

  it("says how much of the change is there, if asked", () => {
    expect(measure([1, 1], [1, 1], { projects: true }).projection).toBeCloseTo(1, 2);
    expect(measure([1, 1], [2, 2], { projects: true }).projection).toBeCloseTo(2, 2);
  });

  it("adds up over tensors", () => {
    const one = { differing: 1, elements: 10, maxUlp: 0.5 };
    expect(addDistances([one, { differing: 2, elements: 20, maxUlp: 1 }])).toEqual({
      differing: 3,
      elements: 30,
      maxUlp: 1,
    });
    expect(addDistances([])).toEqual({ differing: 0, elements: 0, maxUlp: 0 });
  });
});

describe("a unit in the last place", () => {
  it.each([
    ["BF16", 1, 2 ** -7],
    ["BF16", 1.99, 2 ** -7],
    ["BF16", 0, 2 ** -133],
    ["F16", 1024, 1],
    ["F16", 2 ** -20, 2 ** -24],
    ["F32", 3, 2 ** -22],
    ["F32", 2 ** -140, 2 ** -149],
  ] as const)("of %s at %d is %d", (dtype, magnitude, ulp) => {
    expect(ulpAt(dtype, magnitude)).toBe(ulp);
  });
});
