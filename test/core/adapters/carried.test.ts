import { describe, expect, it } from "vitest";
import { type Example, merge, refusals } from "../../support/adapters.ts";

const Q = "model.layers.0.self_attn.q_proj";
const EMBEDDING = "model.embed_tokens.weight";
const LORA = { peft_type: "LORA", r: 1, lora_alpha: 1, target_modules: ["q_proj"] };

/** A model of two tokens and a head, with LoRA on its one projection. */
function example(more: Partial<Example> & { config?: Example["config"] } = {}): Example {
  return {
    base: {
      [EMBEDDING]: [
        [1, 2],
        [3, 4],
      ],
      [`${Q}.weight`]: [
        [1, 0],
        [0, 1],
      ],
      "lm_head.weight": [
        [5, 6],
        [7, 8],
      ],
      ...more.base,
    },
    adapter: { [`${Q}.lora_A.weight`]: [[1, 1]], [`${Q}.lora_B.weight`]: [[1], [2]], ...more.adapter },
    config: { ...LORA, ...more.config },
    ...(more.model && { model: more.model }),
  };
}

const changes = (given: Example) => {
  const { targets, problems, warnings } = merge(given);
  return {
    targets: Object.fromEntries(targets.map(({ tensor, change }) => [tensor, change])),
    problems: problems.map(({ code, subject }) => [code, subject]),
    warnings: warnings.map(({ code }) => code),
  };
};
const HEAD = [
  [9, 9],
  [8, 8],
];

describe("modules that were saved as a whole", () => {
  const saved = { modules_to_save: ["lm_head"] };

  it("take the place of the base's, beside the factors", () => {
    const given = example({ adapter: { "lm_head.weight": HEAD }, config: saved });
    expect(changes(given)).toEqual({
      targets: { [`${Q}.weight`]: "LoRA", "lm_head.weight": "whole module" },
      problems: [],
      warnings: [],
    });
    expect(merge(given).value("lm_head.weight")).toEqual([9, 9, 8, 8]);
  });

  it("are found in files of the first PEFT versions, which say where they were in memory", () => {
    const adapter = { "lm_head.modules_to_save.weight": HEAD };
    expect(changes(example({ adapter })).targets["lm_head.weight"]).toBe("whole module");
    const named = { "lm_head.modules_to_save.default.weight": HEAD };
    expect(changes(example({ adapter: named })).targets["lm_head.weight"]).toBe("whole module");
  });

  it("leave out what the module was before, which PEFT saves besides and drops after loading", () => {
    // With a resized vocabulary the matrix, with `bias: "all"` the bias.
    const adapter = { "lm_head.weight": HEAD, "lm_head.original_module.weight": [[0, 0]] };
    const given = example({ adapter, config: saved });
    expect(changes(given).problems).toEqual([]);
    expect(merge(given).value("lm_head.weight")).toEqual([9, 9, 8, 8]);
    const alone = { "lm_head.original_module.weight": HEAD };
    expect(refusals(example({ adapter: alone }))).toEqual(["ORPHAN_TENSOR"]);
  });

  it("are matched by the end of their names as text, as PEFT does", () => {
    const given = example({ adapter: { "lm_head.weight": HEAD }, config: { modules_to_save: ["head"] } });
    expect(changes(given).targets["lm_head.weight"]).toBe("whole module");
  });

  it("are not adapted besides: factors there belong to nothing", () => {
    const adapter = {
      "lm_head.weight": HEAD,
      "lm_head.lora_A.weight": [[1, 1]],
      "lm_head.lora_B.weight": [[1], [1]],
    };
    const config = { ...saved, target_modules: ["q_proj", "lm_head"] };
    expect(refusals(example({ adapter, config }))).toEqual(["ORPHAN_TENSOR"]);
  });

  it("are missed where the config names them and the file lacks them, or has only a part", () => {
    expect(changes(example({ config: saved })).problems).toEqual([["MISSING_TENSOR", "lm_head.weight"]]);
    const given = example({
      base: { "score.dense.weight": [[1]], "score.dense.bias": [1] },
      adapter: { "score.dense.weight": [[2]] },
      config: { task_type: "SEQ_CLS" },
    });
    expect(changes(given).problems).toEqual([["MISSING_TENSOR", "score.dense.bias"]]);
  });

  it("must have the base's shape", () => {
    const adapter = { "score.weight": [[1, 2, 3]] };
    const given = example({ base: { "score.weight": [[1, 2]] }, adapter, config: { task_type: "SEQ_CLS" } });
    expect(changes(given).problems).toEqual([["SHAPE_MISMATCH", "base_model.model.score.weight"]]);
  });

  it("are added where the base has none, in the type that most of the base has", () => {
    const given = example({
      base: { "model.norm.weight": { dtype: "BF16", values: Array(100).fill(1) } },
      adapter: { "score.weight": [[1, 2]], "score.bias": [3] },
      config: { task_type: "SEQ_CLS", modules_to_save: ["classifier", "score"] },
    });
    const { targets, warnings, problems } = merge(given);
    expect(problems).toEqual([]);
    expect(targets.filter(({ tensor }) => tensor.startsWith("score"))).toMatchObject([
      { tensor: "score.weight", shape: [1, 2], dtype: "BF16" },
      { tensor: "score.bias", shape: [1], dtype: "BF16" },
    ]);
    expect(warnings.map(({ code }) => code)).toEqual(["ADDS_TENSORS"]);
  });

  it("come with every kind", () => {
    const adapter = { "lm_head.weight": HEAD, [`${Q}.ia3_l`]: [[2], [3]] };
    const { [`${Q}.lora_A.weight`]: _, [`${Q}.lora_B.weight`]: __, ...rest } = example({ adapter }).adapter;
    const config = { peft_type: "IA3", target_modules: ["q_proj"], feedforward_modules: [], ...saved };
    const given = { ...example(), adapter: rest, config };
    expect(changes(given)).toMatchObject({ targets: { "lm_head.weight": "whole module" }, problems: [] });
  });

  it("are not guessed where modules_to_save is no list", () => {
    const given = example({ adapter: { "lm_head.weight": HEAD }, config: { modules_to_save: "lm_head" } });
    expect(changes(given).problems).toEqual([["BAD_ADAPTER_CONFIG", "modules_to_save"]]);
  });

  it("leave out the counters of batch normalisation, which no forward pass reads", () => {
    const given = example({
      base: { "bn.weight": [1], "bn.num_batches_tracked": { dtype: "I64", values: [3] } },
      adapter: { "bn.weight": [2], "bn.num_batches_tracked": { dtype: "I64", values: [4] } },
      config: { modules_to_save: ["bn"] },
    });
    expect(changes(given)).toMatchObject({ problems: [], targets: { "bn.weight": "whole module" } });
  });
});

describe("copies of base tensors in the adapter", () => {
  it("take the base's place before the change is added, in the base's type", () => {
    const given = example({
      base: {
        [`${Q}.weight`]: {
          dtype: "BF16",
          values: [
            [1, 0],
            [0, 1],
          ],
        },
      },
      adapter: {
        [`${Q}.base_layer.weight`]: [
          [10, 1.001],
          [0, 10],
        ],
      },
    });
    // 1.001 is 1 in BF16.
    expect(merge(given).stored(`${Q}.weight`, "BF16")).toEqual([11, 2, 2, 12]);
  });

  it("are what remains where nothing is added: biases that training changed", () => {
    const given = example({
      base: { [`${Q}.bias`]: [1, 1], "model.norm.bias": [2] },
      adapter: { [`${Q}.base_layer.bias`]: [3, 4], "model.norm.bias": [5] },
      config: { bias: "all" },
    });
    expect(changes(given)).toEqual({
      targets: { [`${Q}.weight`]: "LoRA", [`${Q}.bias`]: "bias", "model.norm.bias": "bias" },
      problems: [],
      warnings: [],
    });
    expect(merge(given).value(`${Q}.bias`)).toEqual([3, 4]);
  });

  it.each(["all", "lora_only"])("are missed where bias is %s and the file lacks one", (bias) => {
    const given = example({ base: { [`${Q}.bias`]: [1, 1] }, config: { bias } });
    expect(changes(given).problems).toEqual([["MISSING_TENSOR", `${Q}.bias`]]);
  });

  it("are taken with a word where the config does not name them, as PEFT loads them", () => {
    const given = example({ base: { "model.norm.weight": [1] }, adapter: { "model.norm.weight": [2] } });
    expect(changes(given)).toMatchObject({ problems: [], warnings: ["REPLACES_UNSTATED"] });
    expect(merge(given).value("model.norm.weight")).toEqual([2]);
  });

  it("are refused where two tensors take the same place with other bytes", () => {
    const adapter = {
      [`${Q}.base_layer.weight`]: [
        [1, 0],
        [0, 1],
      ],
      [`${Q}.weight`]: [
        [1, 0],
        [0, 2],
      ],
    };
    expect(refusals(example({ adapter }))).toEqual(["ORPHAN_TENSOR"]);
    const same = { ...adapter, [`${Q}.weight`]: adapter[`${Q}.base_layer.weight`]! };
    expect(refusals(example({ adapter: same }))).toEqual([]);
  });
});

describe("a resized vocabulary", () => {
  const three = [
    [1, 1],
    [2, 2],
    [3, 3],
  ];

  it("gives embedding and head the adapter's rows", () => {
    const given = example({
      adapter: { [EMBEDDING.replace("model.", "model.")]: three, "lm_head.weight": three },
    });
    const { targets, problems } = merge(given);
    expect(problems).toEqual([]);
    expect(targets.slice(1)).toMatchObject([
      { tensor: EMBEDDING, shape: [3, 2], dtype: "F32" },
      { tensor: "lm_head.weight", shape: [3, 2], dtype: "F32" },
    ]);
  });

  it("shows factors of the head the new rows", () => {
    const adapter = {
      [EMBEDDING]: three,
      "lm_head.base_layer.weight": three,
      "lm_head.lora_A.weight": [[1, 0]],
      "lm_head.lora_B.weight": [[1], [1], [1]],
    };
    const given = example({ adapter, config: { target_modules: ["q_proj", "lm_head"] } });
    expect(changes(given).problems).toEqual([]);
    expect(merge(given).value("lm_head.weight")).toEqual([2, 1, 3, 2, 4, 3]);
    expect(merge(given).targets.find(({ tensor }) => tensor === "lm_head.weight")?.shape).toEqual([3, 2]);
  });

  it("is refused with one side only, and with other columns", () => {
    expect(refusals(example({ adapter: { [EMBEDDING]: three } }))).toEqual(["VOCABULARY_MISMATCH"]);
    const wide = three.map((row) => [...row, 0]);
    expect(refusals(example({ adapter: { [EMBEDDING]: wide, "lm_head.weight": wide } }))).toContain(
      "SHAPE_MISMATCH",
    );
  });
});

describe("single rows of an embedding", () => {
  const rows = { "model.embed_tokens.token_adapter.trainable_tokens_delta": [[9, 9]] };

  it("are replaced, whole", () => {
    const given = example({ adapter: rows, config: { trainable_token_indices: [1] } });
    expect(changes(given).targets[EMBEDDING]).toBe("token rows");
    expect(merge(given).value(EMBEDDING)).toEqual([1, 2, 9, 9]);
  });

  it("have indices for each module, by the end of its name", () => {
    const config = { trainable_token_indices: { embed_tokens: [0] } };
    expect(merge(example({ adapter: rows, config })).value(EMBEDDING)).toEqual([9, 9, 3, 4]);
  });

  it("may lie beyond the base's, in the adapter's own larger matrix", () => {
    const three = [
      [1, 1],
      [2, 2],
      [3, 3],
    ];
    const adapter = {
      ...rows,
      "model.embed_tokens.token_adapter.base_layer.weight": three,
      "lm_head.weight": three,
    };
    const given = example({ adapter, config: { trainable_token_indices: [2] } });
    expect(changes(given).problems).toEqual([]);
    expect(merge(given).value(EMBEDDING)).toEqual([1, 1, 2, 2, 9, 9]);
    expect(merge(given).targets.find(({ tensor }) => tensor === EMBEDDING)?.shape).toEqual([3, 2]);
  });

  it("are a method of their own as well", () => {
    const given: Example = {
      ...example(),
      adapter: { "model.embed_tokens.trainable_tokens_delta": [[9, 9]] },
      config: { peft_type: "TRAINABLE_TOKENS", token_indices: [0], target_modules: ["embed_tokens"] },
    };
    expect(changes(given)).toEqual({ targets: { [EMBEDDING]: "token rows" }, problems: [], warnings: [] });
  });

  it.each([
    ["beyond the embedding", [2]],
    ["twice the same", [1, 1]],
    ["no numbers", ["1"]],
  ])("are refused with indices that are %s", (_, trainable_token_indices) => {
    const to = trainable_token_indices.map(() => [9, 9]);
    const adapter = { "model.embed_tokens.token_adapter.trainable_tokens_delta": to };
    expect(refusals(example({ adapter, config: { trainable_token_indices } }))).toEqual([
      "BAD_ADAPTER_CONFIG",
    ]);
  });

  it("are refused where numbers of rows and of tokens differ, and where one of them is missing", () => {
    const config = { trainable_token_indices: [0, 1] };
    expect(refusals(example({ adapter: rows, config }))).toEqual(["SHAPE_MISMATCH"]);
    expect(refusals(example({ config }))).toEqual(["MISSING_TENSOR"]);
    expect(refusals(example({ adapter: rows }))).toEqual(["MISSING_FIELD"]);
  });

  it("are refused beside a whole module or factors for the same matrix, which PEFT cannot apply", () => {
    const whole = { ...rows, [EMBEDDING]: HEAD };
    const config = { trainable_token_indices: [0], modules_to_save: ["embed_tokens"] };
    expect(refusals(example({ adapter: whole, config }))).toEqual(["UNSUPPORTED_VARIANT"]);
    const both = {
      ...rows,
      "model.embed_tokens.lora_embedding_A": [[1, 1]],
      "model.embed_tokens.lora_embedding_B": [[1], [1]],
    };
    const targets = { trainable_token_indices: [0], target_modules: ["q_proj", "embed_tokens"] };
    expect(refusals(example({ adapter: both, config: targets }))).toEqual(["UNSUPPORTED_VARIANT"]);
  });
});

describe("layer norms that were trained as they are", () => {
  const NORM = "model.layers.0.input_layernorm";
  const config = { peft_type: "LN_TUNING", target_modules: ["input_layernorm"] };
  const given = (adapter: Example["adapter"], base: Example["base"] = { [`${NORM}.weight`]: [1, 1] }) => ({
    ...example({ base }),
    adapter,
    config,
  });

  it("replace the base's, weight and bias", () => {
    const base = { [`${NORM}.weight`]: [1, 1], [`${NORM}.bias`]: [0, 0] };
    const adapter = {
      [`${NORM}.ln_tuning_layers.weight`]: [2, 3],
      [`${NORM}.ln_tuning_layers.bias`]: [4, 5],
    };
    const merged = merge(given(adapter, base));
    expect(merged.problems).toEqual([]);
    expect([merged.value(`${NORM}.weight`), merged.value(`${NORM}.bias`)]).toEqual([
      [2, 3],
      [4, 5],
    ]);
    const { [`${NORM}.ln_tuning_layers.bias`]: _, ...half } = adapter;
    expect(refusals(given(half, base))).toEqual(["MISSING_TENSOR"]);
  });

  it("are refused with another shape, and missed where the config names more of them", () => {
    expect(refusals(given({ [`${NORM}.ln_tuning_layers.weight`]: [1] }))).toEqual(["SHAPE_MISMATCH"]);
    const two = { [`${NORM}.weight`]: [1, 1], [`${NORM.replace("0", "1")}.weight`]: [1, 1] };
    expect(refusals(given({ [`${NORM}.ln_tuning_layers.weight`]: [2, 2] }, two))).toEqual(["MISSING_TENSOR"]);
  });
});
