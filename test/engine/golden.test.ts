import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { AppError } from "../../src/core/errors.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";

/** Adapters written by PEFT, with its merged tensors as digests; see test/fixtures/make-digests.mjs. */
const CASES = join(import.meta.dirname, "../fixtures/merge");

/** What PEFT merges and this release refuses, each with UNSUPPORTED_VARIANT. */
const NOT_YET: readonly string[] = [
  "gpt2-c-attn",
  "llama-dora",
  "llama-dora-embedding",
  "llama-embed-lora",
  "llama-kasa",
  "llama-lm-head-lora",
  "llama-lora-bias",
  "llama-mica",
  "llama-save-embed-head",
  "llama-save-lm-head",
  "llama-tied-embed",
  "llama-tied-embed-head",
  "llama-tied-lm-head",
  "llama-token-rows",
  "mixtral-experts",
  "mixtral-per-expert-old",
  "qwen2-bias-all",
  "qwen2-bias-lora-only",
  "resnet-conv-lora",
];

interface Case {
  base: string;
  adapter: string;
  want: { verdict: string; reason: string | null };
}

const names = await readdir(CASES);
const cases = await Promise.all(
  names.map(async (name) => ({
    name,
    ...(JSON.parse(await readFile(join(CASES, name, "case.json"), "utf8")) as Case),
  })),
);
const merged = cases.filter(({ name, want }) => want.verdict !== "refuse" && !NOT_YET.includes(name));
const refused = cases.filter(({ want }) => want.verdict === "refuse");

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-golden-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

const options = { threads: 2 };

async function merge({ name, base, adapter }: Case & { name: string }) {
  const folder = join(CASES, name);
  const request = {
    base: join(folder, base),
    adapter: join(folder, adapter),
    choices: { weights: [1], tokenizer: null },
  };
  const planned = await finish(planLocal(request, options));
  return finish(runMerge(await localMergeInput(request, planned, join(temporary, name)), options));
}

describe("merging equals PEFT, byte for byte", () => {
  it("covers every plain LoRA case", () => {
    expect(merged.length).toBeGreaterThanOrEqual(38);
    expect(refused.length).toBeGreaterThanOrEqual(23);
  });

  it.each(merged)("$name", async (golden) => {
    const expected = JSON.parse(await readFile(join(CASES, golden.name, "expected.json"), "utf8"));
    const summary = await merge(golden);
    const actual = allTensors(summary.facts).map((t) => [
      t.name,
      { dtype: t.dtype, shape: t.shape, digest: t.digest },
    ]);
    expect(Object.fromEntries(actual)).toEqual(expected);
    expect(summary.report.verdict).toBe("PASSED");
  });
});

describe("what has no right merge is refused with its reason, and leaves nothing", () => {
  it.each(refused)("$name: $want.reason", async (golden) => {
    const error = await merge(golden).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(AppError);
    expect((error as AppError).code).toBe(golden.want.reason);
    expect((await readdir(temporary)).filter((entry) => entry.includes(golden.name))).toEqual([]);
  });

  it.each(NOT_YET)("%s: UNSUPPORTED_VARIANT in this release", async (name) => {
    await expect(merge(cases.find((golden) => golden.name === name)!)).rejects.toMatchObject({
      code: "UNSUPPORTED_VARIANT",
    });
  });
});
