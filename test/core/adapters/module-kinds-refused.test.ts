import { describe, expect, it } from "vitest";
import { evaluate } from "../../../src/core/evaluate.ts";
import { canonical } from "../../../src/core/numerics.ts";
import { rowsOf } from "../../../src/core/rows.ts";
import { type Example, type Given, merge, refusals } from "../../support/adapters.ts";

/*
 * What LoHa, LoKr, IA3, AdaLoRA, OFT, BOFT, VeRA, HRA and MiSS refuse; and that a part of what they change is the same as
 * that part of the whole.
 */

const Q = "model.layers.0.self_attn.q_proj";
const W = `${Q}.weight`;

const filled = (shape: readonly number[], seed = 1): Given => {
  let state = seed;
  const next = () => {
    state = (state * 16807) % 2147483647;
    return state / 2147483647 - 0.5;
  };
  const build = ([size, ...rest]: readonly number[]): number | number[] =>
    size === undefined ? next() : (Array.from({ length: size }, () => build(rest)) as never);
  return build(shape) as never;
};

interface Kind {
  readonly config: Example["config"];
  /** Shapes by the ends of the keys. */
  readonly parts: Readonly<Record<string, readonly number[]>>;
  readonly shared?: Readonly<Record<string, readonly number[]>>;
}

/** An adapter of each kind for a weight of 12×8. */
const KINDS: Readonly<Record<string, Kind>> = {
  LOHA: {
    config: { r: 2, alpha: 3 },
    parts: { hada_w1_a: [12, 2], hada_w1_b: [2, 8], hada_w2_a: [12, 2], hada_w2_b: [2, 8] },
  },
  LOKR: { config: { r: 1, alpha: 3 }, parts: { lokr_w1: [3, 4], lokr_w2_a: [4, 1], lokr_w2_b: [1, 2] } },
  IA3: { config: { feedforward_modules: [] }, parts: { ia3_l: [12, 1] } },
  ADALORA: {
    config: { init_r: 2, lora_alpha: 3 },
    parts: { lora_A: [2, 8], lora_B: [12, 2], lora_E: [2, 1] },
  },
  OFT: { config: { oft_block_size: 4 }, parts: { "oft_R.weight": [2, 6] } },
  BOFT: {
    config: { boft_n_butterfly_factor: 2, boft_block_size: 2 },
    parts: { boft_R: [2, 4, 2, 2], boft_s: [12, 1] },
  },
  VERA: {
    config: { r: 3 },
    parts: { vera_lambda_b: [12], vera_lambda_d: [3] },
    shared: { vera_A: [3, 8], vera_B: [12, 3] },
  },
  PVERA: {
    config: { r: 3 },
    parts: { pvera_lambda_b: [12], pvera_lambda_d: [6] },
    shared: { pvera_A: [6, 8], pvera_B: [12, 3] },
  },
  HRA: { config: { r: 3 }, parts: { hra_u: [8, 3] } },
  MISS: { config: { r: 4, init_weights: "bat" }, parts: { miss_block: [3, 4, 4] } },
};

interface Change {
  readonly config?: Example["config"];
  /** `null` takes a part away. */
  readonly parts?: Readonly<Record<string, Given | null>>;
  readonly base?: Example["base"];
  readonly model?: Example["model"];
}

function example(type: string, change: Change = {}): Example {
  const { config, parts, shared = {} } = KINDS[type]!;
  const adapter: Record<string, Given> = {};
  for (const [part, shape] of Object.entries(parts))
    adapter[`${Q}.${part}`] = filled(shape, shape.length + 7);
  for (const [part, shape] of Object.entries(shared)) adapter[`base_model.${part}`] = filled(shape, 3);
  for (const [part, values] of Object.entries(change.parts ?? {})) {
    if (values === null) {
      delete adapter[`${Q}.${part}`];
      delete adapter[part];
    } else adapter[`${Q}.${part}`] = values;
  }
  return {
    base: { [W]: filled([12, 8]), ...change.base },
    adapter,
    config: {
      peft_type: type,
      target_modules: ["q_proj"],
      peft_version: "0.21.0",
      ...config,
      ...change.config,
    },
    ...(change.model && { model: change.model }),
  };
}

const TYPES = Object.keys(KINDS);

describe.each(TYPES)("an adapter of the kind %s", (type) => {
  it("merges as it stands", () => {
    expect(merge(example(type)).problems).toEqual([]);
  });

  it("has the same rows when only some of them are computed", () => {
    const { targets, lookup } = merge(example(type));
    const { expr } = targets[0]!;
    const shapes = (leaf: Parameters<typeof lookup.whole>[0]) => lookup.whole(leaf).shape;
    const arithmetic = canonical("F32");
    const whole = [...evaluate(expr, lookup, arithmetic).values];
    for (const [start, stop] of [
      [0, 1],
      [5, 12],
      [3, 5],
      [11, 12],
      [0, 12],
    ] as const) {
      const part = evaluate(rowsOf(expr, start, stop, shapes), lookup, arithmetic);
      expect([...part.values]).toEqual(whole.slice(start * 8, stop * 8));
    }
  });

  it("refuses a field that nobody here knows, by its name", () => {
    const { problems } = merge(example(type, { config: { a_field_of_tomorrow: 2 } }));
    expect(problems).toMatchObject([{ code: "UNKNOWN_CONFIG_FIELD", subject: "a_field_of_tomorrow" }]);
  });

  it("refuses a tensor that no formula uses", () => {
    expect(refusals(example(type, { parts: { "lora_A.weight": [[1]] } }))).toEqual(["ORPHAN_TENSOR"]);
  });

  it("refuses a file that lacks one of its tensors", () => {
    const [part, ...others] = Object.keys(KINDS[type]!.parts);
    const expected = others.length > 0 ? ["MISSING_TENSOR"] : ["NO_TARGET"];
    const without = refusals(example(type, { parts: { [part!]: null } }));
    expect(without.filter((code) => code !== "ORPHAN_TENSOR")).toEqual(expected);
  });

  it("refuses tensors that do not fit the base's layer", () => {
    const codes = refusals(example(type, { base: { [W]: filled([14, 10]) } }));
    expect(codes).toEqual(["SHAPE_MISMATCH"]);
  });

  it("refuses tensors of whole numbers", () => {
    const [part, shape] = Object.entries(KINDS[type]!.parts)[0]!;
    const whole = { dtype: "I32" as const, values: filled(shape) as never };
    expect(refusals(example(type, { parts: { [part]: whole } }))).toEqual(["UNSUPPORTED_DTYPE"]);
  });

  it("refuses a base that is stored in a type nothing is merged into", () => {
    const whole = { dtype: "I8" as const, values: filled([12, 8]) as never };
    expect(refusals(example(type, { base: { [W]: whole } }))).toEqual(["UNSUPPORTED_BASE_DTYPE"]);
  });

  it("refuses a module that the config targets and the file lacks", () => {
    const other = "model.layers.1.self_attn.q_proj";
    const { problems } = merge(example(type, { base: { [`${other}.weight`]: filled([12, 8]) } }));
    expect(problems).toMatchObject([{ code: "MISSING_TENSOR", subject: other }]);
  });

  it("refuses a module that the config does not target", () => {
    expect(refusals(example(type, { config: { target_modules: ["v_proj"] } }))).toEqual(["ORPHAN_TENSOR"]);
  });

  it("warns where the config names no modules at all", () => {
    const { problems, warnings } = merge(example(type, { config: { target_modules: null } }));
    expect(problems).toEqual([]);
    expect(warnings.map(({ code }) => code)).toEqual(["TARGETS_UNSTATED"]);
  });

  it("refuses a value of bias that PEFT does not have", () => {
    const codes = refusals(example(type, { config: { bias: "some" } }));
    expect(codes.some((code) => code === "BAD_ADAPTER_CONFIG" || code === "UNKNOWN_CONFIG_FIELD")).toBe(true);
  });
});

describe("the fields of each config", () => {
  const EVERYWHERE = "task_type auto_mapping base_model_name_or_path revision inference_mode exclude_modules";
  const LYCORIS =
    "rank_pattern alpha_pattern r alpha rank_dropout module_dropout use_effective_conv2d init_weights layers_to_transform layers_pattern";
  const FIELDS: Readonly<Record<string, string>> = {
    LOHA: LYCORIS,
    LOKR: `${LYCORIS} decompose_both decompose_factor rank_dropout_scale`,
    IA3: "feedforward_modules fan_in_fan_out init_ia3_weights",
    ADALORA:
      "r lora_alpha lora_dropout fan_in_fan_out bias use_rslora init_lora_weights layers_to_transform layers_pattern " +
      "rank_pattern alpha_pattern megatron_core loftq_config eva_config corda_config lora_ga_config qalora_group_size " +
      "runtime_config lora_bias ensure_weight_tying target_r init_r tinit tfinal deltaT beta1 beta2 orth_reg_weight total_step",
    OFT:
      "r oft_block_size module_dropout fan_in_fan_out bias init_weights layers_to_transform layers_pattern coft eps " +
      "block_share use_cayley_neumann num_cayley_neumann_terms",
    BOFT:
      "boft_block_size boft_block_num boft_n_butterfly_factor boft_dropout fan_in_fan_out bias init_weights " +
      "layers_to_transform layers_pattern",
    VERA:
      "r projection_prng_key save_projection vera_dropout d_initial fan_in_fan_out bias init_weights " +
      "layers_to_transform layers_pattern",
    PVERA:
      "r projection_prng_key save_projection pvera_dropout d_initial fan_in_fan_out bias init_weights " +
      "layers_to_transform layers_pattern sample_at_inference generator_seed",
    HRA: "r apply_GS init_weights layers_to_transform layers_pattern bias",
    MISS: "r miss_dropout mini_r init_weights layers_to_transform layers_pattern bias",
  };

  it.each(Object.entries(FIELDS))("of %s that PEFT 0.21 writes are all known", (type, fields) => {
    const set = Object.fromEntries(`${EVERYWHERE} ${fields}`.split(" ").map((field) => [field, "x"]));
    expect(refusals(example(type, { config: set }))).not.toContain("UNKNOWN_CONFIG_FIELD");
  });

  it.each([
    ["LOHA", { r: "2" }, "r"],
    ["LOKR", { alpha: null }, "alpha"],
    ["LOKR", { rank_pattern: { q_proj: "1" } }, 'rank_pattern["q_proj"]'],
    ["IA3", { feedforward_modules: [1] }, "feedforward_modules"],
    ["ADALORA", { init_r: 0 }, "init_r"],
    ["ADALORA", { rank_pattern: { q_proj: 3 } }, 'rank_pattern["q_proj"]'],
    ["ADALORA", { rank_pattern: [3] }, "rank_pattern"],
    ["OFT", { coft: "yes" }, "coft"],
    ["OFT", { num_cayley_neumann_terms: 2.5 }, "num_cayley_neumann_terms"],
    ["BOFT", { boft_n_butterfly_factor: 0 }, "boft_n_butterfly_factor"],
    ["VERA", { r: true }, "r"],
    ["HRA", { apply_GS: 1 }, "apply_GS"],
    ["MISS", { init_weights: "bot" }, "init_weights"],
    ["MISS", { mini_r: 0 }, "mini_r"],
  ])("of %s are refused where they cannot be read: %j", (type, config, subject) => {
    expect(merge(example(type, { config })).problems).toMatchObject([
      { code: "BAD_ADAPTER_CONFIG", subject },
    ]);
  });
});

describe("ranks and shapes that the config contradicts", () => {
  it.each([
    ["LOHA", { r: 3 }, "RANK_MISMATCH"],
    ["LOHA", { rank_pattern: { q_proj: 3 } }, "RANK_MISMATCH"],
    ["LOKR", { r: 2 }, "RANK_MISMATCH"],
    ["ADALORA", { init_r: 3 }, "RANK_MISMATCH"],
    ["ADALORA", { rank_pattern: { [`${Q}.lora_E`]: [true, false] } }, "RANK_MISMATCH"],
    ["OFT", { oft_block_size: 8 }, "SHAPE_MISMATCH"],
    ["OFT", { oft_block_size: 0, r: 4 }, "SHAPE_MISMATCH"],
    ["OFT", { block_share: true }, "SHAPE_MISMATCH"],
    ["BOFT", { boft_block_size: 4 }, "SHAPE_MISMATCH"],
    ["BOFT", { boft_n_butterfly_factor: 3 }, "RANK_MISMATCH"],
    ["VERA", { r: 4 }, "RANK_MISMATCH"],
    ["PVERA", { r: 6 }, "RANK_MISMATCH"],
    ["HRA", { r: 2 }, "RANK_MISMATCH"],
    ["MISS", { r: 8 }, "SHAPE_MISMATCH"],
    ["MISS", { init_weights: true }, "SHAPE_MISMATCH"],
    ["MISS", { init_weights: "mini", mini_r: 5 }, "SHAPE_MISMATCH"],
  ])("of %s are refused: %j", (type, config, code) => {
    expect(refusals(example(type, { config }))).toEqual([code]);
  });

  it("are refused for a butterfly whose blocks cannot be paired", () => {
    const config = { boft_block_size: 8, boft_n_butterfly_factor: 2 };
    const parts = { boft_R: filled([2, 1, 8, 8]) };
    expect(refusals(example("BOFT", { config, parts }))).toEqual(["SHAPE_MISMATCH"]);
  });

  it("are fine where PEFT trained a single butterfly factor for want of its CUDA extension", () => {
    expect(refusals(example("BOFT", { parts: { boft_R: filled([1, 4, 2, 2]) } }))).toEqual([]);
  });
});

describe("layers that PEFT does not adapt", () => {
  it.each(["VERA", "PVERA", "MISS"])("%s refuses a convolution", (type) => {
    expect(refusals(example(type, { base: { [W]: filled([12, 2, 2, 2]) } }))).toEqual([
      "UNSUPPORTED_VARIANT",
    ]);
  });

  it.each(["LOHA", "LOKR", "OFT", "BOFT", "HRA", "MISS"])("%s refuses a Conv1D of GPT-2", (type) => {
    const { adapter, ...rest } = example(type);
    const renamed = Object.fromEntries(
      Object.entries(adapter).map(([key, values]) => [key.replace(Q, "h.0.attn.c_attn"), values]),
    );
    const gpt2 = {
      ...rest,
      adapter: renamed,
      base: { "h.0.attn.c_attn.weight": filled([12, 8]) },
      config: { ...rest.config, target_modules: ["c_attn"] },
      model: { model_type: "gpt2", tie_word_embeddings: false },
    };
    expect(refusals(gpt2)).toEqual(["UNSUPPORTED_VARIANT"]);
  });

  it("LoHa refuses an embedding", () => {
    const { adapter, ...rest } = example("LOHA");
    const name = "model.embed_tokens";
    const renamed = Object.fromEntries(
      Object.entries(adapter).map(([key, values]) => [key.replace(Q, name), values]),
    );
    const base = { [`${name}.weight`]: filled([12, 8]) };
    const config = { ...rest.config, target_modules: ["embed_tokens"] };
    expect(refusals({ ...rest, adapter: renamed, base, config })).toEqual(["UNSUPPORTED_VARIANT"]);
  });
});

describe("what only one kind refuses", () => {
  it("VeRA without its projections, which come from torch's random generator", () => {
    const { problems } = merge(
      example("VERA", { parts: { "base_model.vera_A": null, "base_model.vera_B": null } }),
    );
    expect(problems.map(({ code }) => code)).toEqual(["NEEDS_TORCH_RNG"]);
    expect(problems[0]!.message).toContain("save_projection");
  });

  it("VeRA with projections that are smaller than a layer", () => {
    const smaller = example("VERA");
    const adapter = { ...smaller.adapter, "base_model.vera_A": filled([3, 7]) };
    expect(refusals({ ...smaller, adapter })).toEqual(["SHAPE_MISMATCH"]);
  });

  it("PVeRA that draws at inference", () => {
    expect(refusals(example("PVERA", { config: { sample_at_inference: true } }))).toEqual([
      "NOT_A_WEIGHT_UPDATE",
    ]);
  });

  it("AdaLoRA with a field of LoRA's variants, or without an alpha", () => {
    expect(refusals(example("ADALORA", { config: { use_dora: true } }))).toEqual(["UNSUPPORTED_VARIANT"]);
    expect(refusals(example("ADALORA", { config: { lora_alpha: 0 } }))).toEqual(["UNSUPPORTED_VARIANT"]);
  });

  it("LoKr whose first side does not divide the weight", () => {
    expect(refusals(example("LOKR", { parts: { lokr_w1: filled([5, 4]) } }))).toEqual(["SHAPE_MISMATCH"]);
  });

  it("OFT of before PEFT 0.16, by the name of its tensors", () => {
    const old = { "oft_R.weight": null, oft_r: filled([2, 4, 4]) };
    const { problems } = merge(example("OFT", { parts: old }));
    expect(problems).toMatchObject([{ code: "UNSUPPORTED_VARIANT", subject: `base_model.model.${Q}.oft_r` }]);
  });

  it("Bone, with the way to convert it", () => {
    const { problems } = merge(example("MISS", { config: { peft_type: "BONE" } }));
    expect(problems).toMatchObject([{ code: "UNSUPPORTED_KIND", subject: "peft_type" }]);
    expect(problems[0]!.message).toMatch(/miss_.*bone_/);
  });

  it("IA3 that has no shape for a grouped convolution", () => {
    const config = { feedforward_modules: ["q_proj"] };
    const parts = { ia3_l: filled([1, 3, 1, 1]) };
    const base = { [W]: filled([12, 2, 1, 1]) };
    expect(refusals(example("IA3", { config, parts, base }))).toEqual(["SHAPE_MISMATCH"]);
  });

  it("two modules of the adapter that mean one tensor", () => {
    const one = example("HRA");
    const adapter = { ...one.adapter, [`${Q}.base_layer.hra_u`]: filled([8, 3]) };
    expect(refusals({ ...one, adapter })).toEqual(["AMBIGUOUS_NAME"]);
  });
});
