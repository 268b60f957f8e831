import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { CheckpointFacts } from "../../../src/core/checkpoint.ts";
import {
  quoted,
  servedNames,
  servedRank,
  vllmMerged,
  vllmObstacles,
  vllmSeparate,
} from "../../../src/core/evaluation/vllm.ts";
import type { JsonObject } from "../../../src/core/json.ts";
import { readModelFolder } from "../../../src/storage/model-folder.ts";

const FIXTURES = join(import.meta.dirname, "../../fixtures");
const adapter = async (path: string): Promise<CheckpointFacts> =>
  (await readModelFolder(join(FIXTURES, path), { roots: null })).facts;
const changed = (facts: CheckpointFacts, config: JsonObject) => ({
  ...facts,
  config: { ...facts.config, ...config },
});

describe("vLLM's command line", () => {
  it("names base, adapter and the smallest rank that vLLM allows for it", () => {
    const adapters = [{ name: "sentiment", path: "/models/sentiment" }];
    expect(vllmMerged("/models/merged")).toBe("vllm serve /models/merged");
    expect(vllmSeparate({ base: "/models/base", adapters, rank: 12, planned: 1 })).toBe(
      "vllm serve /models/base --enable-lora --lora-modules sentiment=/models/sentiment --max-lora-rank 16",
    );
    const ranks = [1, 2, 8, 9, 64, 129, 257, 321].map(
      (rank) => /rank (\d+)/.exec(vllmSeparate({ base: "b", adapters, rank, planned: 1 }))![1],
    );
    expect(ranks).toEqual(["1", "8", "8", "16", "64", "256", "320", "512"]);
  });

  it("makes room for several adapters in a batch, within reason", () => {
    const adapters = [{ name: "a", path: "a" }];
    expect(vllmSeparate({ base: "b", adapters, rank: 8, planned: 3 })).toMatch(/--max-loras 3$/);
    expect(vllmSeparate({ base: "b", adapters, rank: 8, planned: 500 })).toMatch(/--max-loras 8$/);
  });

  it("quotes what a shell would read otherwise", () => {
    expect(quoted("/models/base-1.0_x")).toBe("/models/base-1.0_x");
    expect(quoted("my model")).toBe("'my model'");
    expect(quoted("it's; rm -rf $HOME")).toBe("'it'\\''s; rm -rf $HOME'");
    expect(quoted("")).toBe("''");
  });

  it("gives adapters names of their own", () => {
    expect(servedNames(["/a/sentiment/", "/b/sentiment", "c:\\d e"])).toEqual([
      "sentiment",
      "sentiment-2",
      "d-e",
    ]);
  });
});

describe("what vLLM would not serve beside a base", () => {
  it("is nothing of plain and rank-stabilised LoRA", async () => {
    expect(vllmObstacles(await adapter("demo/adapters/customer-support"))).toEqual([]);
    expect(vllmObstacles(await adapter("demo/adapters/sentiment"))).toEqual([]);
  });

  it.each([
    ["merge/llama-dora/adapter", /DoRA/],
    ["merge/llama-save-lm-head/adapter", /modules_to_save: lm_head/],
    ["merge/ia3/adapter", /kind IA3/],
    ["merge/qwen2-bias-all/adapter", /bias: all/],
    ["merge/llama-lora-bias/adapter", /lora_bias/],
  ])("is %s, and why", async (path, why) => {
    expect(vllmObstacles(await adapter(path)).join("; ")).toMatch(why);
  });

  it("is no classifier's head, but a rank beyond the largest and a changed base", async () => {
    const facts = await adapter("demo/adapters/customer-support");
    expect(vllmObstacles(changed(facts, { modules_to_save: ["score"] }))).toEqual([]);
    expect(vllmObstacles(changed(facts, { rank_pattern: { q_proj: 600 } })).join()).toMatch(/rank 600/);
    expect(vllmObstacles(changed(facts, { init_lora_weights: "pissa" })).join()).toMatch(/pissa/);
    expect(servedRank(changed(facts, { rank_pattern: { q_proj: 40 } }))).toBe(40);
    expect(servedRank(facts)).toBe(8);
  });
});
