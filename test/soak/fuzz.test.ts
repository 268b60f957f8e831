import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FuzzReport } from "./fuzz.ts";
import { loadCorpus, runCase } from "./fuzz-case.ts";
import { mutateJson } from "./mutate-json.ts";
import { Random } from "./random.ts";

const run = promisify(execFile);

/** In a process of its own, so that its memory is its own and a crash is seen as one. */
async function fuzz(...args: string[]): Promise<FuzzReport> {
  const main = join(import.meta.dirname, "main.ts");
  const { stdout } = await run(process.execPath, [main, "fuzz", ...args, "--json"]).catch((error) => {
    if (typeof error.stdout === "string" && error.stdout.startsWith("{")) return error as { stdout: string };
    throw error;
  });
  return JSON.parse(stdout);
}

describe("hostile input", () => {
  it("of 500 kinds neither crashes nor hangs nor takes memory, and fails with an AppError", {
    timeout: 600_000,
  }, async () => {
    const report = await fuzz("--cases", "500", "--seed", "1", "--merges", "25");
    expect(report.failures).toEqual([]);
    expect(report.peakMb).toBeLessThan(500);
    // It reaches everything: files, configs, plans and merges.
    for (const end of [
      "BAD_FILE",
      "BAD_JSON",
      "BAD_ADAPTER_CONFIG",
      "UNSAFE_PICKLE",
      "SHAPE_MISMATCH",
      "planned",
      "merged",
    ]) {
      expect(report.outcomes, end).toHaveProperty(end);
    }
  });
});

describe("the fuzzer", () => {
  let scratch: string;
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), "graftwork-fuzz-test-"));
  });
  afterAll(() => rm(scratch, { recursive: true, force: true }));

  it("makes the same case from the same seed and index, and another one from another", () => {
    const text = JSON.stringify({ peft_type: "LORA", r: 8, target_modules: ["q_proj", "v_proj"] });
    const mutated = (seed: number) => mutateJson(text, new Random(seed));
    expect(mutated(1)).toBe(mutated(1));
    expect(new Set([1, 2, 3, 4, 5, 6].map(mutated)).size).toBeGreaterThan(3);
  });

  it("takes an error that is no AppError for a failure", async () => {
    const corpus = await loadCorpus();
    // A fixture that is gone is not something that Graftwork reads wrongly.
    const broken = { ...corpus, cases: corpus.cases.map((one) => ({ ...one, base: join(scratch, "gone") })) };
    const request = {
      corpus: broken,
      seed: 1,
      index: 0,
      scratch: join(scratch, "case"),
      merged: new Set<string>(),
      maxMerges: 0,
    };
    await expect(runCase(request)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
