import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../../src/core/json.ts";
import { type Example, type Given, merge, type Nested, refusals } from "../../support/adapters.ts";

const LORA: JsonObject = { peft_type: "LORA", r: 2, lora_alpha: 4, target_modules: ["q"] };

/** Different small numbers in any shape. */
function some(...shape: number[]): Nested {
  let at = 0;
  const fill = ([size, ...rest]: number[]): Nested =>
    Array.from({ length: size! }, () => (rest.length === 0 ? ((at++ * 7) % 11) - 5 : fill(rest)));
  return fill(shape);
}

const pair = (module: string, [out, width]: readonly [number, number], r = 2) => ({
  [`${module}.lora_A.weight`]: some(r, width),
  [`${module}.lora_B.weight`]: some(out, r),
});

const SQUARE: Example = { base: { "m.q.weight": some(4, 6) }, adapter: pair("m.q", [4, 6]), config: LORA };

const changed = (example: Example, more: Partial<Example>, config: JsonObject = {}): Example => ({
  ...example,
  ...more,
  config: { ...example.config, ...config },
});
const withConfig = (example: Example, config: JsonObject) => changed(example, {}, config);

describe("a LoRA change", () => {
  const [a, b, w] = [
    [
      [1, 2, 3],
      [0, 1, -1],
    ],
    [
      [1, 0],
      [2, 1],
    ],
    [
      [10, 20, 30],
      [40, 50, 60],
    ],
  ];
  const small: Example = {
    base: { "m.q.weight": w! },
    adapter: { "m.q.lora_A.weight": a!, "m.q.lora_B.weight": b! },
    config: LORA,
  };
  // B·A
  const product = [1, 2, 3, 2, 5, 5];

  it("is alpha/r times B·A", () => {
    expect(merge(small).value("m.q.weight")).toEqual(product.map((p, i) => w!.flat()[i]! + 2 * p));
    expect(merge(small).targets[0]).toMatchObject({ change: "LoRA", rank: 2, alpha: 4, scale: 2 });
  });

  it("is alpha over the root of the rank with rsLoRA", () => {
    expect(merge(withConfig(small, { use_rslora: true })).targets[0]?.scale).toBe(4 / Math.sqrt(2));
  });

  it("takes rank and alpha from the first pattern of each that matches", () => {
    const config = { r: 8, rank_pattern: { q: 2 }, alpha_pattern: { "^m.q": 16, q: 1 } };
    expect(merge(withConfig(small, config)).targets[0]).toMatchObject({ rank: 2, alpha: 16, scale: 8 });
  });

  it("is the transpose for a Conv1D, whatever fan_in_fan_out says", () => {
    const gpt2 = (fan: boolean): Example => ({
      base: { "h.0.attn.c_attn.weight": w! },
      adapter: {
        "h.0.attn.c_attn.lora_A.weight": [
          [1, 2],
          [0, 1],
        ],
        "h.0.attn.c_attn.lora_B.weight": [
          [1, 0],
          [2, 1],
          [0, 3],
        ],
      },
      config: { ...LORA, target_modules: ["c_attn"], fan_in_fan_out: fan },
      model: { model_type: "gpt2" },
    });
    // (B·A)ᵀ with B·A = [1 2; 2 5; 0 3]
    const expected = [1, 2, 0, 2, 5, 3].map((p, i) => w!.flat()[i]! + 2 * p);
    for (const fan of [true, false]) {
      expect(merge(gpt2(fan)).value("h.0.attn.c_attn.weight")).toEqual(expected);
    }
  });

  it("is not transposed for the linear head of a model with Conv1D layers", () => {
    const head: Example = {
      base: { "score.weight": w! },
      adapter: { "score.lora_A.weight": a!, "score.lora_B.weight": b! },
      config: { ...LORA, target_modules: ["score"] },
      model: { model_type: "gpt2", architectures: ["GPT2ForSequenceClassification"] },
    };
    expect(merge(head).value("score.weight")).toEqual(product.map((p, i) => w!.flat()[i]! + 2 * p));
  });

  it("gives each row the length that DoRA trained", () => {
    const dora = changed(
      small,
      { adapter: { ...small.adapter, "m.q.lora_magnitude_vector": [5, 7] } },
      { use_dora: true },
    );
    const values = merge(dora).value("m.q.weight");
    expect(Math.hypot(...values.slice(0, 3))).toBeCloseTo(5, 12);
    expect(Math.hypot(...values.slice(3))).toBeCloseTo(7, 12);
    expect(values[1]! / values[0]!).toBeCloseTo(24 / 12, 12);
    expect(merge(dora).targets[0]?.change).toBe("DoRA");
  });

  it("reads the lengths of PEFT 0.9, whose key ends in .weight", () => {
    const adapter = { ...small.adapter, "m.q.lora_magnitude_vector.weight": [5, 7] };
    expect(merge(changed(small, { adapter }, { use_dora: true })).problems).toEqual([]);
  });

  it("gives each column of an embedding the length that DoRA trained", () => {
    const dora: Example = {
      base: { "m.q.weight": w! },
      adapter: {
        "m.q.lora_embedding_A": some(2, 2),
        "m.q.lora_embedding_B": some(3, 2),
        "m.q.lora_magnitude_vector": [1, 2, 3],
      },
      config: { ...LORA, use_dora: true },
    };
    const values = merge(dora).value("m.q.weight");
    for (const column of [0, 1, 2]) {
      expect(Math.hypot(values[column]!, values[column + 3]!)).toBeCloseTo(column + 1, 12);
    }
  });

  it("drops the smallest singular values of the base before it with KaSA", () => {
    // Singular values 3 and 1 along the axes; the smaller one goes.
    const kasa: Example = {
      base: {
        "m.q.weight": [
          [3, 0, 0],
          [0, 1, 0],
        ],
      },
      adapter: {
        "m.q.lora_A.weight": [[0, 0, 1]],
        "m.q.lora_B.weight": [[1], [1]],
        "m.q.lora_diag": [0.5],
      },
      config: { ...LORA, r: 1, lora_alpha: 4, kasa_config: { beta: 1e-4, gamma: 1e-3 } },
    };
    const values = merge(kasa).value("m.q.weight");
    [3, 0, 2, 0, 0, 2].forEach((expected, i) => {
      expect(values[i]).toBeCloseTo(expected, 6);
    });
    const wide = merge(
      changed(kasa, {
        base: { "m.q.weight": some(3, 2) },
        adapter: { ...kasa.adapter, ...pair("m.q", [3, 2], 1) },
      }),
    );
    expect(wide.problems).toEqual([]);
    expect(wide.value("m.q.weight")).toHaveLength(6);
  });

  it("adds a scaled bias with lora_bias", () => {
    const example = changed(
      small,
      {
        base: { ...small.base, "m.q.bias": [1, 2] },
        adapter: { ...small.adapter, "m.q.lora_B.bias": [10, 20] },
      },
      { lora_bias: true },
    );
    expect(merge(example).value("m.q.bias")).toEqual([21, 42]);
  });
});

describe("experts that a checkpoint stores one by one", () => {
  const expert = (e: number, name: string) => `m.mlp.experts.${e}.${name}.weight`;
  const base: Record<string, Given> = Object.fromEntries(
    [0, 1].flatMap((e) => [
      [expert(e, "gate_proj"), some(2, 3)],
      [expert(e, "up_proj"), some(2, 3)],
      [expert(e, "down_proj"), some(3, 2)],
    ]),
  );
  const fused: Example = {
    base,
    adapter: {
      "m.mlp.experts.lora_A.weight": [
        [1, 0, 0],
        [0, 1, 0],
      ],
      "m.mlp.experts.lora_B.weight": [
        [1, 10],
        [2, 20],
        [3, 30],
        [4, 40],
      ],
    },
    config: {
      ...LORA,
      r: 1,
      lora_alpha: 1,
      target_modules: [],
      target_parameters: ["experts.gate_up_proj"],
      peft_version: "0.20.0",
    },
    model: { model_type: "qwen3_moe" },
  };

  it("take rows of the fused change: the gate the first half, up the second; rows of A and columns of B by expert", () => {
    const { value, targets } = merge(fused);
    const minus = (name: string) => {
      const before = (base[name] as number[][]).flat();
      return value(name).map((v, i) => v - before[i]!);
    };
    expect(minus(expert(0, "gate_proj"))).toEqual([1, 0, 0, 2, 0, 0]);
    expect(minus(expert(0, "up_proj"))).toEqual([3, 0, 0, 4, 0, 0]);
    expect(minus(expert(1, "up_proj"))).toEqual([0, 30, 0, 0, 40, 0]);
    expect(targets).toHaveLength(4);
    expect(targets[0]).toMatchObject({ module: "m.mlp.experts.gate_up_proj", rank: 1 });
  });

  it("match patterns of ranks by the parameter's name", () => {
    const config = { r: 8, rank_pattern: { "experts.gate_up_proj": 1 } };
    expect(refusals(withConfig(fused, config))).toEqual([]);
    expect(refusals(withConfig(fused, { r: 8 }))).toEqual(["RANK_MISMATCH"]);
  });

  it("need factors for every parameter that is named, and no more", () => {
    expect(refusals(withConfig(fused, { target_parameters: ["gate_up_proj", "down_proj"] }))).toContain(
      "MISSING_TENSOR",
    );
    const nested = { ...fused.adapter, "m.mlp.experts.base_layer.lora_A.weight": some(2, 3) };
    expect(refusals(changed(fused, { adapter: nested }))).toEqual(["ORPHAN_TENSOR"]);
    const other = { ...fused, adapter: pair("m.q", [4, 6]), base: { ...base, "m.q.weight": some(4, 6) } };
    expect(refusals(withConfig(other, { target_modules: ["q"], r: 2 }))).toEqual(["MISSING_TENSOR"]);
  });

  it("are no module of their own to an adapter of parameters", () => {
    expect(refusals(withConfig(fused, { target_modules: ["gate_proj", "up_proj"] }))).toEqual([]);
  });

  it("round the change first where an old adapter has factors for each of them", () => {
    const old: Example = {
      base: { [expert(0, "up_proj")]: { dtype: "BF16", values: [[256]] } },
      adapter: {
        "m.mlp.experts.0.up_proj.lora_A.weight": [[1.00390625]],
        "m.mlp.experts.0.up_proj.lora_B.weight": [[1]],
      },
      config: { ...LORA, r: 1, lora_alpha: 1, target_modules: ["up_proj"] },
    };
    // 256 + 1.0039 is above the midpoint of 256 and 258; rounded first, the change is 1: a tie, to even.
    expect(merge(old).stored(expert(0, "up_proj"), "BF16")).toEqual([256]);
    const dense: Example = {
      ...old,
      base: { "m.up_proj.weight": { dtype: "BF16", values: [[256]] } },
      adapter: { "m.up_proj.lora_A.weight": [[1.00390625]], "m.up_proj.lora_B.weight": [[1]] },
    };
    expect(merge(dense).stored("m.up_proj.weight", "BF16")).toEqual([258]);
  });
});

describe("square experts lie as", () => {
  const square: Example = {
    base: { "m.experts.down_proj": some(2, 3, 3) },
    adapter: { "m.experts.lora_A.weight": some(2, 3), "m.experts.lora_B.weight": some(3, 2) },
    config: {
      ...LORA,
      r: 1,
      target_modules: [],
      target_parameters: ["experts.down_proj"],
      peft_version: "0.20.0",
    },
    model: { model_type: "qwen3_moe" },
  };
  const value = (example: Example) => merge(example).value("m.experts.down_proj");
  const mirrored = (values: number[]) => {
    const before = (square.base["m.experts.down_proj"] as number[][][]).flat(2);
    const change = values.map((v, i) => v - before[i]!);
    return [0, 9].flatMap((e) => [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) => change[e + 3 * j + i]!)));
  };
  const straight = value(square);
  const transposed = value(withConfig(square, { peft_version: "0.18.1" }));

  it("PEFT's version says", () => {
    expect(transposed).not.toEqual(straight);
    const before = (square.base["m.experts.down_proj"] as number[][][]).flat(2);
    expect(transposed.map((v, i) => v - before[i]!)).toEqual(mirrored(straight));
  });

  it("the model says, since 0.19", () => {
    expect(value({ ...square, model: { model_type: "gpt_oss" } })).toEqual(transposed);
  });

  it("the module's other parameters do, whose shapes tell", () => {
    const both: Example = {
      ...square,
      base: { ...square.base, "m.experts.gate_up_proj": some(2, 3, 6) },
      adapter: {
        ...square.adapter,
        "m.experts.base_layer.lora_A.weight": some(2, 6),
        "m.experts.base_layer.lora_B.weight": some(3, 2),
      },
      config: { ...square.config, target_parameters: ["gate_up_proj", "down_proj"] },
      model: { model_type: "gpt_oss" },
    };
    expect(value(both)).toEqual(straight);
  });

  it("nobody can say without a version or for an unknown model, which is refused", () => {
    expect(refusals(withConfig(square, { peft_version: null }))).toEqual(["AMBIGUOUS_LAYOUT"]);
    expect(refusals({ ...square, model: { model_type: "new" } })).toEqual(["AMBIGUOUS_LAYOUT"]);
  });
});

describe("LoRA is refused", () => {
  const refused = (what: string, example: Example, ...codes: string[]) => [what, example, codes] as const;
  const conv: Example = {
    base: { "m.q.weight": some(8, 2, 3) },
    adapter: { "m.q.lora_A.weight": some(2, 4, 3), "m.q.lora_B.weight": some(8, 1, 1) },
    config: LORA,
  };
  const attention: Example = {
    base: { "m.q.in_proj_weight": some(6, 2), "m.q.out_proj.weight": some(2, 2) },
    adapter: { ...pair("m.q", [6, 2]), ...pair("m.q.base_layer.out_proj", [2, 2]) },
    config: LORA,
  };
  const embedding: Example = {
    base: { "m.q.weight": some(5, 3) },
    adapter: { "m.q.lora_embedding_A": some(2, 5), "m.q.lora_embedding_B": some(3, 2) },
    config: LORA,
  };
  const half = { "m.q.lora_A.weight": some(2, 6) };
  const adapterOf = (more: Record<string, Given>, config: JsonObject = {}) =>
    changed(SQUARE, { adapter: { ...SQUARE.adapter, ...more } }, config);

  it.each([
    refused("with one factor of two", changed(SQUARE, { adapter: half }), "MISSING_TENSOR"),
    refused("of another shape", changed(SQUARE, { adapter: pair("m.q", [4, 5]) }), "SHAPE_MISMATCH"),
    refused("of another rank than stated", withConfig(SQUARE, { r: 4 }), "RANK_MISMATCH"),
    refused(
      "with doubles for factors",
      adapterOf({ "m.q.lora_B.weight": { dtype: "F64", values: some(4, 2) } }),
      "UNSUPPORTED_DTYPE",
    ),
    refused("on a vector", changed(SQUARE, { base: { "m.q.weight": some(4) } }), "SHAPE_MISMATCH"),
    refused(
      "on integers",
      changed(SQUARE, { base: { "m.q.weight": { dtype: "I32", values: some(4, 6) } } }),
      "UNSUPPORTED_BASE_DTYPE",
    ),
    refused("on a convolution in groups", conv, "UNSUPPORTED_VARIANT"),
    refused(
      "with MiCA on a convolution",
      withConfig(conv, { init_lora_weights: "mica" }),
      "UNSUPPORTED_VARIANT",
    ),
    refused(
      "on half of an attention",
      changed(attention, { adapter: pair("m.q", [6, 2]) }),
      "MISSING_TENSOR",
    ),
    refused("with DoRA on an attention", withConfig(attention, { use_dora: true }), "UNSUPPORTED_VARIANT"),
    refused(
      "with KaSA on an embedding",
      withConfig(embedding, { kasa_config: { beta: 1 } }),
      "UNSUPPORTED_VARIANT",
    ),
    refused("with DoRA that has no lengths", withConfig(SQUARE, { use_dora: true }), "MISSING_TENSOR"),
    refused(
      "with lengths that the config does not know",
      adapterOf({ "m.q.lora_magnitude_vector": some(4) }),
      "ORPHAN_TENSOR",
    ),
    refused(
      "with a bias that the config does not know",
      adapterOf({ "m.q.lora_B.bias": some(4) }),
      "ORPHAN_TENSOR",
    ),
    refused(
      "with a bias where the base has none",
      adapterOf({ "m.q.lora_B.bias": some(4) }, { lora_bias: true }),
      "NO_BASE_BIAS",
    ),
    refused(
      "with VeLoRA's tensors and without its config",
      adapterOf({ "m.q.lora_velora_embed": some(4) }),
      "ORPHAN_TENSOR",
    ),
    refused(
      "with KaSA of full rank",
      changed(
        SQUARE,
        { adapter: { ...pair("m.q", [4, 6], 4), "m.q.lora_diag": some(4) } },
        { r: 4, kasa_config: { beta: 1 } },
      ),
      "SHAPE_MISMATCH",
    ),
    refused(
      "with BD-LoRA whose rank its blocks do not divide",
      withConfig(SQUARE, { use_bdlora: { target_modules_bd_a: ["q"], nblocks: 4 } }),
      "SHAPE_MISMATCH",
    ),
    refused(
      "with BD-LoRA in both factors",
      withConfig(SQUARE, {
        use_bdlora: { target_modules_bd_a: ["q"], target_modules_bd_b: ["m"], nblocks: 2 },
      }),
      "BAD_ADAPTER_CONFIG",
    ),
    refused(
      "with a BD-LoRA that is no object",
      withConfig(SQUARE, { use_bdlora: true }),
      "BAD_ADAPTER_CONFIG",
    ),
    refused(
      "with two variants",
      withConfig(SQUARE, { use_dora: true, init_lora_weights: "mica" }),
      "BAD_ADAPTER_CONFIG",
    ),
    refused("with a bias rule nobody knows", withConfig(SQUARE, { bias: "some" }), "BAD_ADAPTER_CONFIG"),
    refused(
      "after an initialisation nobody knows",
      withConfig(SQUARE, { init_lora_weights: "new" }),
      "UNSUPPORTED_VARIANT",
    ),
    refused("of a residual base", withConfig(SQUARE, { init_lora_weights: "loftq" }), "NEEDS_RESIDUAL_BASE"),
    refused("with QALoRA", withConfig(SQUARE, { use_qalora: true }), "UNSUPPORTED_VARIANT"),
    refused(
      "with an Arrow router",
      withConfig(SQUARE, { arrow_config: { top_k: 3 } }),
      "NOT_A_WEIGHT_UPDATE",
    ),
    refused(
      "with DoRA on parameters",
      withConfig(SQUARE, { use_dora: true, target_parameters: ["q.weight"] }),
      "UNSUPPORTED_VARIANT",
    ),
  ])("%s", (_, example, codes) => {
    expect(refusals(example)).toEqual(expect.arrayContaining([...codes]));
    expect(refusals(example)).toHaveLength(codes.length);
  });

  it("for a KaSA base above the size whose singular values take minutes, with the way out", () => {
    const big = { dtype: "BF16" as const, values: Array.from({ length: 2049 }, () => Array(2049).fill(0)) };
    const factors = {
      "m.q.lora_A.weight": some(1, 2049),
      "m.q.lora_B.weight": some(2049, 1),
      "m.q.lora_diag": [1],
    };
    const { problems } = merge(
      changed(SQUARE, { base: { "m.q.weight": big }, adapter: factors }, { r: 1, kasa_config: { beta: 1 } }),
    );
    expect(problems.map(({ code }) => code)).toEqual(["UNSUPPORTED_VARIANT"]);
    expect(problems[0]?.message).toContain("above a side of 2048");
  });
});

describe("modules_to_save keeps its modules out of target_modules", () => {
  it("so that no factor is missing for them", () => {
    const example: Example = {
      base: { "m.q.weight": some(4, 6), "m.head.q.weight": some(4, 6) },
      adapter: { ...pair("m.q", [4, 6]), "m.head.q.weight": some(4, 6) },
      config: { ...LORA, modules_to_save: ["head"] },
    };
    expect(refusals(example)).toEqual([]);
    expect(refusals(withConfig(example, { modules_to_save: null }))).toContain("MISSING_TENSOR");
  });
});
