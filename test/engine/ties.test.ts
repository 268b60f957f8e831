import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import type { Recipe } from "../../src/core/recipe.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";

/**
 * `expected-peft.json`: digests of what PEFT 0.21.0 wrote with transformers 5.18.0 for an adapter of a tied model. The
 * ensured case has `ensure_weight_tying`, and random factors.
 */
const FIXTURES = join(import.meta.dirname, "../fixtures");
const BASE = join(FIXTURES, "models/llama-tied-bf16");
const CASES: Readonly<Record<string, string>> = {
  "LoRA on the embedding": "merge/llama-tied-embed",
  "LoRA on the head": "merge/llama-tied-lm-head",
  "LoRA on both": "merge/llama-tied-embed-head",
  "LoRA that training kept tied": "ties/ensured",
};

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-ties-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

async function merge(folder: string, ties: Recipe["ties"]) {
  const request = {
    base: BASE,
    adapter: join(FIXTURES, folder, "adapter"),
    choices: { weights: [1], tokenizer: null, ties },
  };
  const planned = await finish(planLocal(request, { threads: 2 }));
  const output = join(temporary, `${folder.replace("/", "-")}-${ties}`);
  const { facts } = await finish(runMerge(await localMergeInput(request, planned, output), { threads: 2 }));
  const tensors = allTensors(facts).map(({ name, dtype, shape, digest }) => [name, { dtype, shape, digest }]);
  return { tensors: Object.fromEntries(tensors), config: facts.config };
}

const expected = async (folder: string, file: string) =>
  JSON.parse(await readFile(join(FIXTURES, folder, file), "utf8"));

describe('ties "peft" gives the bytes that PEFT writes for a tied model, one shared matrix', () => {
  it.each(Object.entries(CASES))("%s", async (_, folder) => {
    const { tensors, config } = await merge(folder, "peft");
    expect(tensors).toEqual(await expected(folder, "expected-peft.json"));
    expect(config.tie_word_embeddings).toBe(true);
  });
});

describe('ties "preserve" keeps what the adapted model computes', () => {
  it("adds a change that training kept tied once: the embedding is that of the embedding's factors alone", async () => {
    const { tensors, config } = await merge("ties/ensured", "preserve");
    const twice = await expected("ties/ensured", "expected-peft.json");
    expect(Object.keys(tensors)).toEqual(expect.arrayContaining(Object.keys(twice)));
    expect(tensors["model.embed_tokens.weight"]).not.toEqual(twice["model.embed_tokens.weight"]);
    expect(tensors["lm_head.weight"]).toBeUndefined();
    expect(config.tie_word_embeddings).toBe(true);
  });

  it("says in config.json that the pair is untied, and leaves every other byte of it", async () => {
    await merge("merge/llama-tied-embed", "preserve");
    const before = await readFile(join(BASE, "config.json"), "utf8");
    const after = await readFile(join(temporary, "merge-llama-tied-embed-preserve/config.json"), "utf8");
    expect(after).toBe(before.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'));
  });
});
