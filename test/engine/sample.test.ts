import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { base, reshape } from "../../src/core/expr.ts";
import { sampledRows, sampleTensor } from "../../src/engine/sample.ts";
import { OpenFiles } from "../../src/storage/tensor-io.ts";
import { type LowRankSize, lowRankTask } from "../support/low-rank-task.ts";

let folder: string;
let files: OpenFiles;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-sample-"));
  files = new OpenFiles();
});
afterEach(() => {
  files.closeAll();
  rmSync(folder, { recursive: true, force: true });
});

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A merged tensor in files, right but for the bytes that `spoil` changes. */
function merged(size: LowRankSize, spoil: (bytes: Uint8Array) => void = () => {}) {
  const { task, output } = lowRankTask(folder, size);
  spoil(output);
  return { task, written: { path: file("out", output), offset: 0 } };
}

describe("a second look at a written tensor", () => {
  it("finds nothing in a right one, whatever its size", () => {
    for (const size of [
      { rows: 1, cols: 1, rank: 1 },
      { rows: 3, cols: 700, rank: 2 },
      { rows: 900, cols: 5, rank: 3 },
      { rows: 40, cols: 513, rank: 200 },
    ]) {
      const { differs, pieces, skipped } = sampleTensor(merged(size), files);
      expect({ size, differs, skipped }).toEqual({ size, differs: false, skipped: false });
      expect(pieces).toBeGreaterThan(0);
    }
  });

  it.each([
    ["first", 0],
    ["last", 40 * 513 * 2 - 2],
  ])("finds a wrong %s element", (_, at) => {
    const spoilt = merged({ rows: 40, cols: 513, rank: 4 }, (bytes) => {
      bytes[at]! ^= 1;
    });
    expect(sampleTensor(spoilt, files).differs).toBe(true);
  });

  it("finds that everything lies one element too far", () => {
    const spoilt = merged({ rows: 40, cols: 513, rank: 4 }, (bytes) => bytes.copyWithin(2, 0));
    expect(sampleTensor(spoilt, files).differs).toBe(true);
  });

  it("compares a copied tensor with its input", () => {
    const { task, written } = merged({ rows: 40, cols: 513, rank: 4 });
    const { program: _, ...copy } = task;
    expect(sampleTensor({ task: copy, written }, files).differs).toBe(true);
    const own = { path: task.input!.path, offset: 0 };
    expect(sampleTensor({ task: copy, written: own }, files)).toMatchObject({ differs: false, pieces: 4 });
  });

  it("looks at a factor of thousands of rows, of which it needs a few columns", () => {
    const wide = merged({ rows: 2, cols: 600, rank: 2000 });
    expect(sampleTensor(wide, files)).toMatchObject({ elements: 1024, differs: false, skipped: false });
  });

  it("leaves out what takes too long to compute a second way, and says so", () => {
    const { task, written } = merged({ rows: 2, cols: 8, rank: 1 });
    const shape = [3000, 3000];
    const path = file("huge", new Uint8Array(3000 * 3000 * 2));
    const input = { ...task.input!, path, shape, bytes: 3000 * 3000 * 2 };
    // Which elements of the flat value make a row is not followed: all of it would be computed.
    const expr = reshape(reshape(base("w"), [3000 * 3000]), shape);
    const huge = { ...task, shape, input, program: { ...task.program!, expr, leaves: [] } };
    const looked = sampleTensor({ task: huge, written: { ...written, path } }, files);
    expect(looked).toMatchObject({ pieces: 0, skipped: true });
    expect(sampledRows([looked]).skipped).toEqual(["w"]);
  });
});
