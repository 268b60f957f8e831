import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { AppError } from "../../src/core/errors.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { distance } from "../support/distance.ts";
import { GOLDEN_RESULTS, type GoldenResult, goldenResults } from "../support/features.ts";
import { readTensors } from "../support/tensor-files.ts";

/** Adapters written by PEFT, with its merged tensors as digests; see test/fixtures/make-digests.mjs. */
const CASES = join(import.meta.dirname, "../fixtures/merge");

interface Case {
  name: string;
  base: string;
  adapter: string;
  want: {
    verdict: "equal" | "close" | "refuse" | "differs-on-purpose";
    reason: string | null;
    max_ulp_operand: number | null;
    max_share: number | null;
  };
}

const folders = (await readdir(CASES, { withFileTypes: true })).filter((entry) => entry.isDirectory());
const cases = await Promise.all(
  folders.map(async ({ name }): Promise<Case> => {
    return { ...JSON.parse(await readFile(join(CASES, name, "case.json"), "utf8")), name };
  }),
);
const wanting = (...verdicts: string[]) => cases.filter(({ want }) => verdicts.includes(want.verdict));

/** One line a case, printed at the end: what came out against what PEFT, or the right result, holds. */
const table: GoldenResult[] = [];
const note = (name: string, outcome: string, equalShare = "", maxUlp = "") =>
  table.push({ case: name, outcome, equalShare, maxUlp });

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-golden-"));
});
afterAll(async () => {
  await rm(temporary, { recursive: true, force: true });
  const rows = [
    ["case", "outcome", "equal share", "max ulp"],
    ...table.map((result) => Object.values(result)),
  ];
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ");
  console.log(rows.map(line).join("\n"));
});

const options = { threads: 2 };

async function merge({ name, base, adapter }: Case) {
  const folder = join(CASES, name);
  const request = {
    base: join(folder, base),
    adapter: join(folder, adapter),
    choices: { weights: [1], tokenizer: null },
  };
  const planned = await finish(planLocal(request, options));
  return finish(runMerge(await localMergeInput(request, planned, join(temporary, name)), options));
}

async function mergedAndExpected(golden: Case) {
  const expected = JSON.parse(await readFile(join(CASES, golden.name, "expected.json"), "utf8"));
  const summary = await merge(golden);
  const actual = allTensors(summary.facts).map((t) => [
    t.name,
    { dtype: t.dtype, shape: t.shape, digest: t.digest },
  ]);
  expect(summary.report.verdict).toBe("PASSED");
  return { expected, actual: Object.fromEntries(actual) };
}

describe("merging gives the bytes that PEFT wrote, or the right ones where PEFT's are wrong", () => {
  it.each(wanting("equal", "differs-on-purpose"))("$name", async (golden) => {
    const { actual, expected } = await mergedAndExpected(golden);
    expect(actual).toEqual(expected);
    note(golden.name, golden.want.verdict, "1", "0");
  });
});

describe("where the last bits depend on a solver, merging comes close to PEFT", () => {
  it.each(wanting("close"))("$name", async (golden) => {
    const { actual, expected } = await mergedAndExpected(golden);
    const target = await readTensors(join(CASES, golden.name, "expected.safetensors"));
    const before = await readTensors(join(CASES, golden.name, golden.base, "model.safetensors"));
    const after = await readTensors(join(temporary, golden.name, "model.safetensors"));
    for (const [tensor, { digest }] of Object.entries<{ digest: string }>(expected)) {
      if (!target.has(tensor)) expect(actual[tensor]?.digest, tensor).toBe(digest);
    }
    const { share, ulp } = distance({ before, after, target });
    note(golden.name, "close", (1 - share).toFixed(6), ulp.toFixed(3));
    expect(share).toBeLessThanOrEqual(golden.want.max_share!);
    expect(ulp).toBeLessThanOrEqual(golden.want.max_ulp_operand!);
  });
});

describe("what has no right merge is refused with its reason, and leaves nothing", () => {
  it.each(wanting("refuse"))("$name: $want.reason", async (golden) => {
    const error = await merge(golden).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).code).toBe(golden.want.reason);
    expect((await readdir(temporary)).filter((entry) => entry.includes(golden.name))).toEqual([]);
    note(golden.name, `refused: ${golden.want.reason}`);
  });
});

describe("the committed results", () => {
  // README.md prints its table of features from them (`npm run docs`). Update: GRAFTWORK_GOLDEN=write.
  it("are those of this run", async () => {
    const byName = (results: readonly GoldenResult[]) =>
      [...results].sort((a, b) => (a.case < b.case ? -1 : 1));
    if (process.env.GRAFTWORK_GOLDEN === "write" && table.length === cases.length) {
      await writeFile(GOLDEN_RESULTS, `${JSON.stringify(byName(table), null, 2)}\n`);
    }
    // Of a run with a filter, the part that ran.
    const ran = new Set(table.map((result) => result.case));
    expect(byName(table)).toEqual(byName(goldenResults().filter((result) => ran.has(result.case))));
  });
});
