import { describe, expect, it } from "vitest";
import { needsBaseDigests, settleTies, tiedPair, vocabularyChange } from "../../../src/core/adapters/ties.ts";
import { evaluate } from "../../../src/core/evaluate.ts";
import { exact } from "../../../src/core/numerics.ts";
import { type Example, merge } from "../../support/adapters.ts";

const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";
const LLAMA = { model_type: "llama", architectures: ["LlamaForCausalLM"], tie_word_embeddings: true };
const MATRIX = [
  [1, 2],
  [3, 4],
];
const onEmbedding = {
  "model.embed_tokens.lora_embedding_A": [[1, 0]],
  "model.embed_tokens.lora_embedding_B": [[10], [20]],
};
const onHead = { "lm_head.lora_A.weight": [[1, 2]], "lm_head.lora_B.weight": [[0], [100]] };
const lora = (...targets: string[]) => ({ peft_type: "LORA", r: 1, lora_alpha: 1, target_modules: targets });

const given = (more: Partial<Example>): Example => ({
  base: { [EMBEDDING]: MATRIX },
  adapter: {},
  config: lora("embed_tokens", "lm_head"),
  model: LLAMA,
  ...more,
});

/** What a plan makes of an example: output values, and what it says. */
function settle(example: Example) {
  const { targets, problems, warnings, input, lookup, start } = merge(example);
  const settled = settleTies({
    targets,
    base: input.base,
    model: input.model,
    ties: input.ties,
    start: start ?? null,
  });
  return {
    values: Object.fromEntries(
      settled.targets.map(({ tensor, expr }) => [tensor, [...evaluate(expr, lookup, exact).values]]),
    ),
    added: settled.targets.filter(({ shape }) => shape).map(({ tensor }) => tensor),
    config: settled.config,
    problems: [...problems, ...settled.problems].map(({ code }) => code),
    warnings: [...warnings, ...settled.warnings].map(({ code }) => code),
  };
}
const UNTIED = { config: { tie_word_embeddings: false }, problems: [], warnings: ["EMBEDDINGS_UNTIED"] };
const SHARED = { config: {}, problems: [] };

describe("factors on a tied pair", () => {
  it("on the embedding leave the head as it was, which then needs a tensor of its own", () => {
    const example = given({ adapter: onEmbedding, config: lora("embed_tokens") });
    expect(settle(example)).toMatchObject({
      ...UNTIED,
      values: { [EMBEDDING]: [11, 22, 3, 4], [HEAD]: [1, 2, 3, 4] },
      added: [HEAD],
    });
  });

  it("on the head leave the embedding as it was", () => {
    const example = given({ adapter: onHead, config: lora("lm_head") });
    expect(settle(example)).toMatchObject({ ...UNTIED, values: { [HEAD]: [1, 2, 103, 204] }, added: [HEAD] });
  });

  it("on both change each side by its own", () => {
    expect(settle(given({ adapter: { ...onEmbedding, ...onHead } }))).toMatchObject({
      ...UNTIED,
      values: { [EMBEDDING]: [11, 22, 3, 4], [HEAD]: [1, 2, 103, 204] },
    });
  });

  it("all land in the shared matrix where PEFT is to be followed", () => {
    const adapter = { ...onEmbedding, ...onHead };
    expect(settle(given({ adapter, ties: "peft" }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [11, 22, 103, 204] },
      added: [],
    });
    const one = given({ adapter: onHead, config: lora("lm_head"), ties: "peft" });
    expect(settle(one)).toMatchObject({ ...SHARED, values: { [EMBEDDING]: [1, 2, 103, 204] } });
  });

  it("start from the adapter's copy on both sides, which PEFT loads into the shared matrix", () => {
    const copy = [
      [5, 5],
      [5, 5],
    ];
    const adapter = { ...onHead, "lm_head.base_layer.weight": copy };
    const config = lora("lm_head");
    expect(settle(given({ adapter, config }))).toMatchObject({
      ...UNTIED,
      values: { [EMBEDDING]: [5, 5, 5, 5], [HEAD]: [5, 5, 105, 205] },
    });
    expect(settle(given({ adapter, config, ties: "peft" }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [5, 5, 105, 205] },
    });
  });

  it("are refused with two copies of the one matrix that are not the same", () => {
    const copies = (a: number, b: number) => ({
      ...onEmbedding,
      ...onHead,
      "lm_head.base_layer.weight": [
        [a, a],
        [5, 5],
      ],
      "model.embed_tokens.base_layer.weight": [
        [b, b],
        [5, 5],
      ],
    });
    expect(settle(given({ adapter: copies(1, 2) })).problems).toContain("TIED_COPIES_DIFFER");
    expect(settle(given({ adapter: copies(1, 1) })).problems).toEqual([]);
  });

  it("that training kept tied are added once, and twice where PEFT is to be followed", () => {
    const adapter = {
      ...onEmbedding,
      "lm_head.lora_A.weight": [[10, 20]],
      "lm_head.lora_B.weight": [[1], [0]],
    };
    const config = { ...lora("embed_tokens"), ensure_weight_tying: true };
    expect(settle(given({ adapter, config }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [11, 22, 3, 4] },
      warnings: ["TIED_CHANGE_ONCE"],
    });
    expect(settle(given({ adapter, config, ties: "peft" }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [21, 42, 3, 4] },
    });
  });

  it("are found under their names in memory, which a checkpoint with images has not", () => {
    const embedding = "language_model.model.embed_tokens";
    const adapter = {
      "model.language_model.embed_tokens.lora_embedding_A": [[1, 0]],
      "model.language_model.embed_tokens.lora_embedding_B": [[10], [20]],
      "lm_head.lora_A.weight": [[10, 20]],
      "lm_head.lora_B.weight": [[1], [0]],
    };
    const model = {
      model_type: "gemma3",
      architectures: ["Gemma3ForConditionalGeneration"],
      tie_word_embeddings: true,
    };
    const config = { ...lora("embed_tokens"), ensure_weight_tying: true };
    const example = given({ base: { [`${embedding}.weight`]: MATRIX }, adapter, config, model });
    expect(settle(example)).toMatchObject({
      problems: [],
      values: { [`${embedding}.weight`]: [11, 22, 3, 4] },
      warnings: ["TIED_CHANGE_ONCE"],
    });
    expect(settle({ ...example, ties: "peft" })).toMatchObject({
      problems: [],
      values: { [`${embedding}.weight`]: [21, 42, 3, 4] },
    });
  });
});

describe("whole matrices and rows of a tied pair", () => {
  const saved = [
    [7, 7],
    [8, 8],
  ];

  it.each(["preserve", "peft"] as const)(
    "untie where one side was saved as a whole, with ties %s",
    (ties) => {
      const config = { ...lora("q_proj"), modules_to_save: ["embed_tokens"] };
      const example = given({ adapter: { "model.embed_tokens.weight": saved }, config, ties });
      expect(settle(example)).toMatchObject({
        ...UNTIED,
        values: { [EMBEDDING]: [7, 7, 8, 8], [HEAD]: [1, 2, 3, 4] },
      });
    },
  );

  it("stay one matrix where training kept them tied", () => {
    const config = { ...lora("q_proj"), modules_to_save: ["embed_tokens"], ensure_weight_tying: true };
    const adapter = { "model.embed_tokens.weight": saved, "lm_head.weight": saved };
    const one = { ...SHARED, values: { [EMBEDDING]: [7, 7, 8, 8] } };
    expect(settle(given({ adapter, config }))).toMatchObject(one);
    expect(settle(given({ adapter: { "model.embed_tokens.weight": saved }, config }))).toMatchObject(one);
    const other = { ...adapter, "lm_head.weight": MATRIX };
    expect(settle(given({ adapter: other, config })).problems).toContain("TIED_COPIES_DIFFER");
  });

  it("share rows, unless the head has its own", () => {
    const rows = { "model.embed_tokens.token_adapter.trainable_tokens_delta": [[9, 9]] };
    const config = { ...lora("q_proj"), trainable_token_indices: [1] };
    expect(settle(given({ adapter: rows, config }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [1, 2, 9, 9] },
    });
    const apart = { ...lora("q_proj"), trainable_token_indices: { embed_tokens: [1], lm_head: [0] } };
    const adapter = { ...rows, "lm_head.token_adapter.trainable_tokens_delta": [[6, 6]] };
    expect(settle(given({ adapter, config: apart }))).toMatchObject({
      ...UNTIED,
      values: { [EMBEDDING]: [1, 2, 9, 9], [HEAD]: [6, 6, 3, 4] },
    });
    expect(settle(given({ adapter, config: apart, ties: "peft" }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [6, 6, 9, 9] },
    });
    const same = { ...lora("q_proj"), trainable_token_indices: { embed_tokens: [1], lm_head: [1] } };
    expect(settle(given({ adapter: rows, config: same }))).toMatchObject(SHARED);
  });

  it("grow together and stay tied", () => {
    const three = [...saved, [9, 9]];
    const adapter = { "model.embed_tokens.weight": three, "lm_head.weight": three };
    const { targets, input } = merge(given({ adapter }));
    expect(settle(given({ adapter }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [7, 7, 8, 8, 9, 9] },
    });
    expect(vocabularyChange(targets, input.base)).toEqual({ vocab_size: 3 });
  });

  it("do not grow one without the other where training parted them: the new rows of the head are unknown", () => {
    const adapter = { "model.embed_tokens.weight": [...saved, [9, 9]] };
    const apart = { ...lora("q_proj"), modules_to_save: ["embed_tokens"] };
    expect(settle(given({ adapter, config: apart })).problems).toContain("VOCABULARY_MISMATCH");
    const tied = { ...apart, ensure_weight_tying: true };
    expect(settle(given({ adapter, config: tied })).problems).not.toContain("VOCABULARY_MISMATCH");
  });
});

describe("a tied pair that the base stores twice", () => {
  const config = lora("embed_tokens");

  it("is one where both are the same, and both change", () => {
    const base = { [EMBEDDING]: MATRIX, [HEAD]: MATRIX };
    expect(settle(given({ base, adapter: onEmbedding, config, ties: "peft" }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [11, 22, 3, 4], [HEAD]: [11, 22, 3, 4] },
    });
    expect(settle(given({ base, adapter: onEmbedding, config }))).toMatchObject({
      ...UNTIED,
      values: { [EMBEDDING]: [11, 22, 3, 4] },
    });
  });

  it("is refused where they differ and one of them changes, since loaders disagree about the head", () => {
    const base = {
      [EMBEDDING]: MATRIX,
      [HEAD]: [
        [0, 0],
        [0, 0],
      ],
      "model.q_proj.weight": MATRIX,
    };
    expect(settle(given({ base, adapter: onEmbedding, config })).problems).toEqual([
      "TIED_PAIR_STORED_TWICE",
    ]);
    const elsewhere = { "model.q_proj.lora_A.weight": [[1, 1]], "model.q_proj.lora_B.weight": [[1], [1]] };
    const untouched = settle(given({ base, adapter: elsewhere, config: lora("q_proj") }));
    expect(untouched).toMatchObject({ problems: [], warnings: ["TIED_PAIR_STORED_TWICE"] });
  });

  it("asks for the base's digests where they are not known", () => {
    const { input } = merge(given({ base: { [EMBEDDING]: MATRIX, [HEAD]: MATRIX } }));
    expect(needsBaseDigests(input.base, input.model)).toBe(false);
    const undigested = new Map([...input.base].map(([name, { digest: _, ...tensor }]) => [name, tensor]));
    expect(needsBaseDigests(undigested, input.model)).toBe(true);
  });
});

describe("which tensors are a pair", () => {
  const pair = (embedding: string, model: Example["model"]) => {
    const { input } = merge(
      given({ base: { [embedding]: MATRIX }, model: { tie_word_embeddings: true, ...model } }),
    );
    return tiedPair(input.base, input.model)?.head ?? null;
  };

  it.each([
    ["model.embed_tokens.weight", "llama", "lm_head.weight"],
    ["transformer.wte.weight", "gpt2", "lm_head.weight"],
    ["wte.weight", "gpt2", "lm_head.weight"],
    ["gpt_neox.embed_in.weight", "gpt_neox", "embed_out.weight"],
    ["transformer.word_embeddings.weight", "bloom", "lm_head.weight"],
    ["language_model.model.embed_tokens.weight", "gemma3", "language_model.lm_head.weight"],
    ["model.language_model.embed_tokens.weight", "gemma3", "lm_head.weight"],
    ["model.decoder.embed_tokens.weight", "opt", "lm_head.weight"],
    ["backbone.embeddings.weight", "mamba", "lm_head.weight"],
  ])("%s of a %s is tied to %s", (embedding, model_type, head) => {
    expect(pair(embedding, { model_type })).toBe(head);
  });

  it("a classifier of a family that ties has none", () => {
    const model = {
      model_type: "qwen2",
      architectures: ["Qwen2ForSequenceClassification"],
      tie_word_embeddings: true,
    };
    expect(settle(given({ adapter: onEmbedding, config: lora("embed_tokens"), model }))).toMatchObject({
      ...SHARED,
      values: { [EMBEDDING]: [11, 22, 3, 4] },
      warnings: [],
    });
  });

  it("an encoder of images beside a decoder has no part in its pair", () => {
    const embedding = "language_model.model.embed_tokens.weight";
    const head = "language_model.lm_head.weight";
    const base = { [embedding]: MATRIX, "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight": MATRIX };
    const model = {
      model_type: "gemma3",
      architectures: ["Gemma3ForConditionalGeneration"],
      tie_word_embeddings: true,
    };
    const saved = {
      "model.language_model.embed_tokens.weight": [
        [9, 9],
        [8, 8],
      ],
    };
    const config = { ...lora("q_proj"), modules_to_save: ["embed_tokens"] };
    expect(settle(given({ base, adapter: saved, config, model }))).toMatchObject({
      ...UNTIED,
      values: { [embedding]: [9, 9, 8, 8], [head]: [1, 2, 3, 4] },
      added: [head],
    });
  });

  it("a head of an encoder that was saved as a whole is no longer tied, which config.json has to say", () => {
    const embedding = "bert.embeddings.word_embeddings.weight";
    const query = "bert.encoder.layer.0.attention.self.query";
    const example = (config: Record<string, string[]>, saved: Example["adapter"]): Example => ({
      base: {
        [embedding]: MATRIX,
        [`${query}.weight`]: MATRIX,
        "cls.predictions.bias": [1, 2],
        "cls.predictions.transform.dense.weight": MATRIX,
      },
      adapter: { [`${query}.lora_A.weight`]: [[1, 1]], [`${query}.lora_B.weight`]: [[1], [1]], ...saved },
      config: { ...lora("query"), ...config },
      model: { model_type: "bert", architectures: ["BertForMaskedLM"], tie_word_embeddings: true },
    });
    const head = [
      [7, 7],
      [8, 8],
    ];
    const decoder = { "cls.predictions.decoder.weight": head, "cls.predictions.decoder.bias": [5, 6] };
    const one = settle(example({ modules_to_save: ["decoder"] }, decoder));
    expect(one).toMatchObject({ config: { tie_word_embeddings: false }, problems: [] });
    expect(one.warnings).toContain("EMBEDDINGS_UNTIED");
    expect(one.values["cls.predictions.decoder.weight"]).toEqual([7, 7, 8, 8]);

    // The module around the head has other tensors in the base, and the head none.
    const around = {
      ...decoder,
      "cls.predictions.bias": [5, 6],
      "cls.predictions.transform.dense.weight": head,
    };
    const all = settle(example({ modules_to_save: ["cls"] }, around));
    expect(all).toMatchObject({ config: { tie_word_embeddings: false }, problems: [] });
    expect(all.values["cls.predictions.decoder.bias"]).toEqual([5, 6]);
  });

  it("an encoder with a decoder ties more than a pair, and is refused where one of them changes", () => {
    const base = { "shared.weight": MATRIX, "encoder.block.0.q.weight": MATRIX, "lm_head.weight": MATRIX };
    const model = {
      model_type: "t5",
      architectures: ["T5ForConditionalGeneration"],
      tie_word_embeddings: true,
    };
    const example = given({ base, adapter: onHead, config: lora("lm_head"), model });
    expect(settle(example).problems).toEqual(["UNSUPPORTED_TIES"]);
  });
});
