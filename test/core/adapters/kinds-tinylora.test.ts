import { describe, expect, it } from "vitest";
import { type Example, merge } from "../../support/adapters.ts";

const Q = "model.layers.0.self_attn.q_proj";

describe("TinyLoRA's shared vectors go by the order of the model", () => {
  const tiny = (
    modules: readonly string[],
    more: Partial<Example> = {},
    vectors = modules.length,
  ): Example => ({
    base: Object.fromEntries(modules.map((module) => [`${module}.weight`, [[0]]])),
    adapter: {
      ...Object.fromEntries(
        modules.flatMap((module) => [
          [`${module}.tinylora_A`, [[1]]],
          [`${module}.tinylora_B`, [[1]]],
          [`${module}.tinylora_P`, [[[1]]]],
        ]),
      ),
      ...Object.fromEntries(
        Array.from({ length: vectors }, (_, i) => [`base_model.tinylora_v.${i}`, [i + 1]]),
      ),
    },
    config: { peft_type: "TINYLORA", r: 1, u: 1, target_modules: null, ...more.config },
    ...(more.model && { model: more.model }),
  });
  const layer = (i: number, ...modules: string[]) => modules.map((module) => `model.layers.${i}.${module}`);
  const valueIn = (example: Example, module: string) => merge(example).value(`${module}.weight`)[0];

  it("mixes its matrices by one vector", () => {
    const merged = merge({
      base: {
        [`${Q}.weight`]: [
          [0, 0],
          [0, 0],
        ],
      },
      adapter: {
        [`${Q}.tinylora_A`]: [[1, 2]],
        [`${Q}.tinylora_B`]: [[1], [2]],
        [`${Q}.tinylora_P`]: [[[1]], [[10]]],
        "base_model.tinylora_v.0": [2, 3],
      },
      config: { peft_type: "TINYLORA", target_modules: ["q_proj"], r: 1, u: 2 },
    });
    expect(merged.problems).toEqual([]);
    expect(merged.value(`${Q}.weight`)).toEqual([32, 64, 64, 128]);
  });

  it("counts layers as numbers, and in a layer q before k before v", () => {
    const modules = [
      ...layer(10, "self_attn.k_proj", "self_attn.q_proj"),
      ...layer(2, "self_attn.k_proj", "self_attn.q_proj"),
    ];
    const example = tiny(modules);
    expect(modules.map((module) => valueIn(example, module))).toEqual([4, 3, 2, 1]);
  });

  it.each([
    // What PEFT 0.21 gives modules of a Llama of two layers.
    { tying: 0, names: ["k_proj", "q_proj"], groups: { q_proj: [0, 2], k_proj: [1, 3] } },
    {
      tying: 0.3,
      names: ["q_proj", "v_proj", "o_proj"],
      groups: { q_proj: [0, 3], v_proj: [1, 3], o_proj: [2, 3] },
    },
    {
      tying: 0.75,
      names: ["q_proj", "v_proj", "k_proj"],
      groups: { q_proj: [0, 1], k_proj: [0, 1], v_proj: [0, 1] },
    },
    { tying: 0.9, names: ["q_proj", "v_proj"], groups: { q_proj: [0, 0], v_proj: [0, 0] } },
  ])("shares vectors as PEFT does at weight_tying $tying", ({ tying, names, groups }) => {
    const modules = names.flatMap((name) => [0, 1].flatMap((i) => layer(i, `self_attn.${name}`)));
    const wanted = Object.entries(groups).flatMap(([name, [first, second]]) => [
      [`model.layers.0.self_attn.${name}`, first! + 1],
      [`model.layers.1.self_attn.${name}`, second! + 1],
    ]);
    const count = Math.max(...wanted.map(([, group]) => Number(group)));
    const example = tiny(modules, { config: { weight_tying: tying } }, count);
    expect(merge(example).problems).toEqual([]);
    for (const [module, group] of wanted)
      expect(valueIn(example, String(module)), String(module)).toBe(group);
  });

  it("needs no order where all modules share one vector", () => {
    const modules = layer(0, "fc1", "fc2");
    const all = tiny(modules, { config: { weight_tying: 1 }, model: { model_type: "opt" } }, 1);
    expect(modules.map((module) => valueIn(all, module))).toEqual([1, 1]);
  });

  it("needs no order within a layer where a layer has one adapted module", () => {
    const modules = [...layer(1, "fc1"), ...layer(0, "fc1")];
    const example = tiny(modules, { model: { model_type: "opt" } });
    expect(modules.map((module) => valueIn(example, module))).toEqual([2, 1]);
  });

  it("refuses modules whose order in the model is not known", () => {
    const example = tiny(layer(0, "fc1", "fc2"), { model: { model_type: "opt" } });
    expect(merge(example).problems.map(({ code }) => code)).toEqual([
      "UNSUPPORTED_VARIANT",
      "UNSUPPORTED_VARIANT",
    ]);
  });
});
