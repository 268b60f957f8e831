import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { compileKernels, Kernels } from "../../src/engine/kernels.ts";
import { seeded } from "../support/canonical.ts";
import { check } from "../support/programs.ts";
import { randomExample } from "../support/random-expr.ts";

let folder: string;
let fast: Kernels;
let emulated: Kernels;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-compile-"));
  const module = await compileKernels();
  fast = new Kernels(module);
  emulated = new Kernels(module, { emulateFma: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SHAPES: readonly (readonly number[])[] = [
  [6, 21],
  [1, 33],
  [40, 8],
  [17],
  [1],
  [],
  [24, 12],
  [4, 6, 9],
  [6, 3, 3, 3],
  [3, 1],
  [0, 5],
  [12, 48],
];

describe("programs give the bits of the interpreter", () => {
  const seeds = Array.from({ length: 25 }, (_, i) => i);
  test.each(seeds)("for random expressions and shapes, %i", (seed) => {
    for (let i = 0; i < 40; i++) {
      const random = seeded(seed * 1000 + i);
      const shape = SHAPES[Math.floor(random() * SHAPES.length)]!;
      const depth = 1 + Math.floor(random() * 4);
      const example = randomExample(random, shape, depth);
      const tile = [1, 30, 100, 65_536][Math.floor(random() * 4)]!;
      try {
        check(example, { folder, kernels: random() < 0.8 ? fast : emulated, tileElements: tile });
      } catch (error) {
        const { expr, dtype, numerics } = example;
        const seedText = `seed ${seed * 1000 + i}, [${shape}] ${dtype} ${numerics} tile ${tile}`;
        throw new Error(`${seedText}\n${JSON.stringify(expr)}\n${(error as Error).stack?.slice(0, 1500)}`);
      }
    }
  });
});
