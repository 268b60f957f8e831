import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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

describe("a tied pair that the base stores twice", () => {
  /** The base with its embedding stored a second time, as the head, and `change` made to those bytes. */
  async function withHead(change: (bytes: Buffer) => void): Promise<string> {
    const folder = await mkdtemp(join(temporary, "base-"));
    await cp(BASE, folder, { recursive: true });
    const file = await readFile(join(BASE, "model.safetensors"));
    const start = 8 + Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString("utf8", 8, start));
    const { data_offsets, ...embedding } = header["model.embed_tokens.weight"];
    const head = Buffer.from(file.subarray(start + data_offsets[0], start + data_offsets[1]));
    change(head);
    const end = file.length - start;
    header["lm_head.weight"] = { ...embedding, data_offsets: [end, end + head.length] };
    const json = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(json.length));
    const parts = [size, json, file.subarray(start), head];
    await writeFile(join(folder, "model.safetensors"), Buffer.concat(parts));
    return folder;
  }

  const plan = async (base: string) => {
    const adapter = join(FIXTURES, "merge/llama-tied-embed/adapter");
    const request = { base, adapter, choices: { weights: [1], tokenizer: null } };
    return (await finish(planLocal(request, { threads: 2 }))).plan;
  };

  it("is compared before the merge is planned, and merged where both are the same", async () => {
    expect((await plan(await withHead(() => {}))).refusals).toEqual([]);
  });

  it("is refused where one bit differs", async () => {
    const base = await withHead((bytes) => bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0));
    expect((await plan(base)).refusals.map(({ code }) => code)).toEqual(["TIED_PAIR_STORED_TWICE"]);
  });
});
