import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { round } from "../../src/core/expr.ts";
import { runWork, type TensorResult, type TensorTask, type Work } from "../../src/engine/pool.ts";
import { joinPieces, splitTask } from "../../src/engine/split.ts";
import { type LowRankSize, lowRankTask } from "../support/low-rank-task.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-split-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(works: readonly Work[]): Promise<TensorResult[]> {
  const results: TensorResult[] = [];
  for await (const event of runWork(works, { threads: 2 })) {
    if (event.type === "done" && event.done.kind === "tensor") results[event.index] = event.done.result;
  }
  return results;
}

function writing(size: LowRankSize, name: string): { task: TensorTask; output: Uint8Array; path: string } {
  const { task, output } = lowRankTask(folder, size);
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(output.byteLength + 6));
  return { task: { ...task, output: { path, offset: 6 } }, output, path };
}

/** Runs a task in parts of about `partBytes`. */
async function inPieces(task: TensorTask, partBytes: number): Promise<TensorResult> {
  const split = splitTask(task, 0, partBytes)!;
  const work = (piece: TensorTask, after: readonly number[] = []): Work => ({
    kind: "tensor",
    task: piece,
    after,
  });
  const works = split.parts.map((piece) => work(piece));
  const parts = works.length;
  expect(parts).toBeGreaterThan(1);
  if (split.input) works.push(work(split.input));
  if (split.output) works.push(work(split.output, works.map((_, i) => i).slice(0, parts)));
  const results = await run(works);
  const rest = results.slice(parts);
  return joinPieces(task, {
    parts: results.slice(0, parts),
    input: split.input ? rest.shift()! : null,
    output: split.output ? rest.shift()! : null,
  });
}

describe("a large tensor in parts", () => {
  it.each([
    { rows: 37, cols: 50, rank: 3, partBytes: 1000 },
    { rows: 5, cols: 3000, rank: 8, partBytes: 6000 },
    { rows: 64, cols: 64, rank: 200, partBytes: 2048 },
  ])(
    "has the bytes, digests and counts of one that was done in one go: %o",
    async ({ partBytes, ...size }) => {
      const alone = writing(size, "alone");
      const [whole] = await run([{ kind: "tensor", task: alone.task }]);
      const { task, output, path } = writing(size, "parts");
      const joined = await inPieces(task, partBytes);
      expect(readFileSync(path).subarray(6)).toEqual(Buffer.from(output));
      expect(joined).toEqual({
        ...whole,
        outputStats: { ...whole!.outputStats, rms: expect.closeTo(whole!.outputStats.rms!, 12) },
      });
    },
  );

  it("takes a known input's digest over, and the digest of what is written alone", async () => {
    const { task } = writing({ rows: 20, cols: 20, rank: 2 }, "parts");
    const known = { digest: "sha256:known", stats: { absmax: 1, rms: 0.5, nonFinite: 0 } };
    const joined = await inPieces({ ...task, known }, 200);
    expect(joined).toMatchObject({ inputDigest: "sha256:known", inputStats: known.stats });
    expect(joined.outputDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it("notices another input and another factor than the expected ones", async () => {
    const { task } = writing({ rows: 20, cols: 20, rank: 2 }, "parts");
    const other = "sha256:other";
    await expect(inPieces({ ...task, expectDigest: other }, 200)).rejects.toMatchObject({
      code: "INPUT_CHANGED",
    });
    for (const i of [0, 1]) {
      const leaves = task.program!.leaves.map((leaf, at) => (at === i ? { ...leaf, digest: other } : leaf));
      const spoilt = { ...task, program: { ...task.program!, leaves } };
      await expect(inPieces(spoilt, 200)).rejects.toMatchObject({ code: "INPUT_CHANGED" });
    }
  });

  it("is one whose rows are independent updates in its own type; others stay whole", () => {
    const { task } = writing({ rows: 20, cols: 20, rank: 2 }, "parts");
    expect(splitTask(task, 0, 200)?.parts).toHaveLength(4);
    expect(splitTask(task)).toBeNull();
    expect(splitTask({ ...task, dtype: "F32" }, 0, 200)).toBeNull();
    const expr = round(task.program!.expr);
    expect(splitTask({ ...task, program: { ...task.program!, expr } }, 0, 200)).toBeNull();
    const { program: _, ...copy } = task;
    expect(splitTask(copy, 0, 200)).toBeNull();
  });
});
