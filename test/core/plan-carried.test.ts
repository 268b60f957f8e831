import { describe, expect, it } from "vitest";
import type { CheckpointFacts, WeightFile } from "../../src/core/checkpoint.ts";
import { digestJson } from "../../src/core/identity.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { editJson } from "../../src/core/json-edit.ts";
import { type MergePlan, type PlanRequest, planMerge } from "../../src/core/plan.ts";
import { readSafetensorsHeader } from "../../src/core/safetensors.ts";
import { MemorySource } from "../../src/core/source.ts";
import { safetensorsFile, type TestTensor } from "../support/safetensors.ts";

const Q = (i: number) => `model.layers.${i}.self_attn.q_proj`;
const EMBEDDING = "model.embed_tokens.weight";
const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 10,
  num_hidden_layers: 2,
  tie_word_embeddings: false,
};
const FIRST: TestTensor[] = [
  { name: EMBEDDING, dtype: "BF16", shape: [10, 4] },
  { name: `${Q(0)}.weight`, dtype: "BF16", shape: [4, 4] },
];
const SECOND: TestTensor[] = [{ name: `${Q(1)}.weight`, dtype: "BF16", shape: [4, 4] }];
const HEAD: TestTensor = { name: "lm_head.weight", dtype: "BF16", shape: [10, 4] };

async function weights(path: string, tensors: readonly TestTensor[]): Promise<WeightFile> {
  const bytes = safetensorsFile([...tensors], { format: "pt" });
  const header = await readSafetensorsHeader(new MemorySource("w", bytes));
  return {
    path,
    size: bytes.byteLength,
    ...header,
    // Tensors of zeros, whose digests go by what they are.
    tensors: header.tensors.map((tensor) => ({
      ...tensor,
      digest: digestJson([tensor.dtype, tensor.shape]),
    })),
  };
}

const facts = (more: Partial<CheckpointFacts>): CheckpointFacts => ({
  kind: "checkpoint",
  files: [{ path: "config.json", size: 100, role: "CONFIG", digest: null }],
  weights: [],
  config: CONFIG,
  index: null,
  tokenizer: null,
  hasCode: false,
  ...more,
});

interface Case {
  /** By weight file. */
  base?: readonly (readonly TestTensor[])[];
  config?: JsonObject;
  adapter: readonly TestTensor[];
  adapterConfig?: JsonObject;
  choices?: Partial<PlanRequest["choices"]>;
  tokens?: number;
}

async function plan({ base = [[...FIRST, ...SECOND, HEAD]], adapter, ...more }: Case): Promise<MergePlan> {
  const paths =
    base.length === 1
      ? ["model.safetensors"]
      : base.map((_, i) => `model-0000${i + 1}-of-0000${base.length}.safetensors`);
  const index = { path: "model.safetensors.index.json", metadata: { total_size: 1, total_parameters: 1 } };
  const baseFacts = facts({
    weights: await Promise.all(base.map((tensors, i) => weights(paths[i]!, tensors))),
    config: { ...CONFIG, ...more.config },
    index: base.length === 1 ? null : index,
  });
  const tokenizer =
    more.tokens === undefined ? {} : { tokenizer: { maxId: more.tokens, hasChatTemplate: false } };
  const adapterFacts = facts({
    kind: "adapter",
    files:
      more.tokens === undefined ? [] : [{ path: "tokenizer.json", size: 1, role: "TOKENIZER", digest: null }],
    weights: [await weights("adapter_model.safetensors", adapter)],
    config: { peft_type: "LORA", r: 2, lora_alpha: 2, target_modules: ["q_proj"], ...more.adapterConfig },
    ...tokenizer,
  });
  return planMerge({
    base: { facts: baseFacts, label: "base" },
    sources: [{ facts: adapterFacts, label: "adapter" }],
    choices: { weights: [1], tokenizer: null, ...more.choices },
  });
}

const key = (name: string) => `base_model.model.${name}`;
const factors = (module: string, size = 4): TestTensor[] => [
  { name: key(`${module}.lora_A.weight`), dtype: "F32", shape: [2, 4] },
  { name: key(`${module}.lora_B.weight`), dtype: "F32", shape: [size, 2] },
];
const Q_FACTORS = [...factors(Q(0)), ...factors(Q(1))];
const codes = (findings: readonly { code: string }[]) =>
  findings.map(({ code }) => code).filter((code) => !code.startsWith("BASE_"));

/** config.json after the plan's edits. */
const configOf = ({ files }: MergePlan, config: JsonObject = CONFIG) => {
  const edits = files.find(({ path }) => path === "config.json")?.edits ?? [];
  return JSON.parse(editJson(JSON.stringify(config), edits));
};
const indexOf = ({ files }: MergePlan) =>
  JSON.parse(files.find(({ path }) => path.endsWith(".index.json"))?.content ?? "null");
const placed = ({ steps }: MergePlan) => steps.map(({ tensor, file }) => [tensor, file]);

describe("a resized vocabulary in a plan", () => {
  const grown = [EMBEDDING, "lm_head.weight"].map(
    (name): TestTensor => ({ name: key(name), dtype: "F32", shape: [12, 4] }),
  );

  it("changes shapes, offsets and vocab_size, wherever config.json says it", async () => {
    const result = await plan({ adapter: [...Q_FACTORS, ...grown] });
    expect(codes(result.refusals)).toEqual([]);
    expect(result.steps.map(({ tensor, shape }) => [tensor, shape])).toContainEqual([EMBEDDING, [12, 4]]);
    expect(configOf(result).vocab_size).toBe(12);
    const { vocab_size: _, ...rest } = CONFIG;
    const nested = { ...rest, text_config: { vocab_size: 10 } };
    const multimodal = await plan({
      adapter: [...Q_FACTORS, ...grown],
      config: { vocab_size: undefined as never, text_config: { vocab_size: 10 } },
    });
    expect(configOf(multimodal, nested)).toMatchObject({ text_config: { vocab_size: 12 } });
  });

  it("lets a tokenizer through whose ids need the new rows", async () => {
    expect(codes((await plan({ adapter: Q_FACTORS, tokens: 11 })).refusals)).toEqual([
      "TOKENIZER_BEYOND_EMBEDDING",
    ]);
    expect(codes((await plan({ adapter: [...Q_FACTORS, ...grown], tokens: 11 })).refusals)).toEqual([]);
    expect(codes((await plan({ adapter: [...Q_FACTORS, ...grown], tokens: 12 })).refusals)).toEqual([
      "TOKENIZER_BEYOND_EMBEDDING",
    ]);
  });
});

describe("an untied head in a plan", () => {
  const tied = {
    base: [FIRST, SECOND],
    config: { tie_word_embeddings: true },
    adapterConfig: { target_modules: ["embed_tokens", "lm_head"] },
  };
  const onHead = factors("lm_head", 10);
  const onEmbedding: TestTensor[] = [
    { name: key("model.embed_tokens.lora_embedding_A"), dtype: "F32", shape: [2, 10] },
    { name: key("model.embed_tokens.lora_embedding_B"), dtype: "F32", shape: [4, 2] },
  ];
  const one = (target: string) => ({ target_modules: [target] });

  it("stands in the shard of the embedding, and in the index with all sizes", async () => {
    const result = await plan({ ...tied, adapter: onHead, adapterConfig: one("lm_head") });
    expect(codes(result.refusals)).toEqual([]);
    expect(codes(result.warnings)).toEqual(["EMBEDDINGS_UNTIED"]);
    const [first, second] = result.shards.map(({ path }) => path);
    expect(placed(result)).toEqual([
      [EMBEDDING, first],
      [`${Q(0)}.weight`, first],
      ["lm_head.weight", first],
      [`${Q(1)}.weight`, second],
    ]);
    expect(indexOf(result)).toEqual({
      metadata: { total_size: 2 * (40 + 16 + 40 + 16), total_parameters: 112 },
      weight_map: {
        "lm_head.weight": first,
        [EMBEDDING]: first,
        [`${Q(0)}.weight`]: first,
        [`${Q(1)}.weight`]: second,
      },
    });
    expect(configOf(result).tie_word_embeddings).toBe(false);
  });

  it("is a copy of the embedding where only that changes, not a computation", async () => {
    const result = await plan({ ...tied, adapter: onEmbedding, adapterConfig: one("embed_tokens") });
    const head = result.steps.find(({ tensor }) => tensor === "lm_head.weight");
    expect(head).toMatchObject({ expr: null, input: { tensor: EMBEDDING } });
    expect(result.touched.map(({ tensor, change }) => [tensor, change])).toContainEqual([
      "lm_head.weight",
      "untied copy",
    ]);
  });

  it("is no tensor of its own where the one side that changes is left out", async () => {
    const exclude = { modules: ["lm_head"], layers: null };
    const both = await plan({ ...tied, adapter: [...onHead, ...onEmbedding], choices: { exclude } });
    const head = both.steps.find(({ tensor }) => tensor === "lm_head.weight");
    expect([codes(both.refusals), head?.expr]).toEqual([[], null]);
    const q = await plan({
      ...tied,
      adapter: [...onHead, ...Q_FACTORS],
      adapterConfig: { target_modules: ["lm_head", "q_proj"] },
      choices: { exclude },
    });
    expect(placed(q).map(([tensor]) => tensor)).not.toContain("lm_head.weight");
    expect(q.files.some(({ edits }) => edits)).toBe(false);
  });

  it("is stated at the top of config.json, also where only text_config says it", async () => {
    const { tie_word_embeddings: _, ...rest } = CONFIG;
    const config = { ...rest, text_config: { tie_word_embeddings: true } };
    const result = await plan({
      ...tied,
      config: { tie_word_embeddings: undefined as never, text_config: config.text_config },
      adapter: onHead,
      adapterConfig: one("lm_head"),
    });
    expect(configOf(result, config)).toMatchObject({
      tie_word_embeddings: false,
      text_config: { tie_word_embeddings: false },
    });
  });
});

describe("replicated layers in a plan", () => {
  it("lie in the shard of the layer that they start from, and layers that are left out are read for digests only", async () => {
    const result = await plan({
      base: [FIRST, SECOND],
      adapter: Q_FACTORS,
      adapterConfig: {
        layer_replication: [
          [1, 2],
          [1, 2],
        ],
      },
    });
    expect(codes(result.refusals)).toEqual([]);
    const [first, second] = result.shards.map(({ path }) => path);
    expect(placed(result)).toEqual([
      [EMBEDDING, first],
      [`${Q(0)}.weight`, second],
      [`${Q(1)}.weight`, second],
    ]);
    expect(result.steps.map(({ input }) => input?.tensor)).toEqual([
      EMBEDDING,
      `${Q(1)}.weight`,
      `${Q(1)}.weight`,
    ]);
    expect(result.unused.map(({ name }) => name)).toEqual([`${Q(0)}.weight`]);
    expect(Object.keys(indexOf(result).weight_map)).toEqual([EMBEDDING, `${Q(0)}.weight`, `${Q(1)}.weight`]);
    expect(configOf(result).num_hidden_layers).toBe(2);
  });

  it("leave out a shard that nothing is taken from", async () => {
    const result = await plan({
      base: [FIRST, SECOND],
      adapter: factors(Q(0)),
      adapterConfig: { layer_replication: [[0, 1]] },
    });
    expect(result.shards).toHaveLength(1);
    expect(new Set(Object.values(indexOf(result).weight_map))).toEqual(new Set([result.shards[0]!.path]));
  });
});

describe("the head of a classifier, in a plan for a language model", () => {
  const scores = (rows: number): TestTensor => ({
    name: key("score.weight"),
    dtype: "F32",
    shape: [rows, 4],
  });
  const adapterConfig = { task_type: "SEQ_CLS", modules_to_save: ["classifier", "score"] };

  it("comes last, in one file without an index, in the place of the head over the vocabulary", async () => {
    const result = await plan({ adapter: [...Q_FACTORS, scores(3)], adapterConfig });
    expect(codes(result.refusals)).toEqual([]);
    expect(result.steps.at(-1)).toMatchObject({
      tensor: "score.weight",
      dtype: "BF16",
      input: null,
      bytes: 24,
    });
    expect(placed(result).map(([tensor]) => tensor)).not.toContain("lm_head.weight");
    expect(result.unused.map(({ name }) => name)).toEqual(["lm_head.weight"]);
    const [shard] = result.shards;
    expect(shard!.size).toBe(shard!.dataStart + result.steps.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(result.files.map(({ path }) => path)).toEqual(["config.json"]);
  });

  it("makes a classifier of it, with a label for each row", async () => {
    const three = configOf(await plan({ adapter: [...Q_FACTORS, scores(3)], adapterConfig }));
    expect(three.architectures).toEqual(["LlamaForSequenceClassification"]);
    expect(three.id2label).toEqual({ "0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2" });
    const two = configOf(await plan({ adapter: [...Q_FACTORS, scores(2)], adapterConfig }));
    expect([two.architectures, two.id2label]).toEqual([["LlamaForSequenceClassification"], undefined]);
  });

  it("does neither where it is left out", async () => {
    const exclude = { modules: ["score"], layers: null };
    const result = await plan({ adapter: [...Q_FACTORS, scores(3)], adapterConfig, choices: { exclude } });
    expect(placed(result).map(([tensor]) => tensor)).toContain("lm_head.weight");
    expect(configOf(result)).toEqual(CONFIG);
  });
});
