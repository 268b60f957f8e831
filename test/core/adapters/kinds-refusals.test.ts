import { describe, expect, it } from "vitest";
import { refuseKind } from "../../../src/core/adapters/kinds.ts";
import type { Dtype } from "../../../src/core/dtype.ts";
import type { AppError } from "../../../src/core/errors.ts";
import type { JsonObject } from "../../../src/core/json.ts";
import { type Example, type Given, merge, type Nested, refusals } from "../../support/adapters.ts";
import { type Part, peftTypeOf, RANDOM_ADAPTERS } from "../../support/random-adapters.ts";

const MODULE = "model.layers.0.self_attn.q_proj";
const KINDS = [
  ...["SHIRA", "SUPERTUNING", "ROAD", "DELORA", "HIRA", "GLORA", "VBLORA", "RANDLORA", "C3A", "GRALORA"],
  ...["BEFT", "TINYLORA", "PEANUT", "DEFT", "VBLORA with save_only_topk_weights"],
];

/** Kinds that PEFT has for transformers' Conv1D as well. */
const ALSO_CONV1D = ["HIRA", "VBLORA", "RANDLORA", "GRALORA", "TINYLORA", "DEFT"];

interface Changes {
  readonly module?: string;
  readonly model?: JsonObject;
  readonly config?: JsonObject;
  /** Instead of the kind's own tensor; `null`: without it. */
  readonly parts?: Readonly<Record<string, Part | null>>;
  readonly shared?: Readonly<Record<string, Part | null>>;
  readonly bias?: boolean;
  readonly more?: Readonly<Record<string, Given>>;
}

const madeBy = (kind: string) => RANDOM_ADAPTERS[kind]!({ rows: 6, columns: 4, rank: 2, choice: 1 });

/** An adapter that can be merged, with some changes. */
function example(kind: string, changes: Changes = {}): Example {
  const made = madeBy(kind);
  const { module = MODULE, bias = made.bias ?? false } = changes;
  const own = tensors({ ...made.parts, ...changes.parts }, (end) => `${module}.${end}`);
  const shared = tensors({ ...made.shared, ...changes.shared }, (key) => key);
  return {
    base: {
      [`${module}.weight`]: filled([made.rows, made.columns]),
      ...(bias && { [`${module}.bias`]: filled([made.rows]) }),
    },
    adapter: { ...own, ...shared, ...changes.more },
    config: {
      peft_type: peftTypeOf(kind),
      target_modules: ["q_proj", "c_attn", "w1"],
      ...made.config,
      ...changes.config,
    },
    ...(changes.model && { model: changes.model }),
  };
}

function tensors(parts: Readonly<Record<string, Part | null>>, keyOf: (name: string) => string) {
  const found: Record<string, Given> = {};
  for (const [name, part] of Object.entries(parts)) {
    if (!part) continue;
    const { shape, values, dtype = "F32" } = part;
    found[keyOf(name)] = { dtype, values: filled(shape, values ? [...values] : []) };
  }
  return found;
}

/** Some numbers of a shape: the given ones first, then 0.5. */
function filled(shape: readonly number[], values: number[] = []): Nested {
  const [length = 0, ...rest] = shape;
  return Array.from({ length }, () => (rest.length === 0 ? (values.shift() ?? 0.5) : filled(rest, values)));
}

const longer = ({ shape, ...part }: Part): Part => ({
  ...part,
  shape: [...shape.slice(0, -1), shape.at(-1)! + 1],
});

const partsOf = (kinds: readonly string[]) =>
  kinds.flatMap((kind) => Object.keys(madeBy(kind).parts).map((part) => ({ kind, part })));
/** Tensors that a module may lack, or that have no part in its merge. */
const isZeros = ({ part }: { part: string }) => part.endsWith(".zeros");

describe("adapters of the rarer kinds are refused with their reason", () => {
  it.each(KINDS)("but not a whole one: %s", (kind) => {
    expect(merge(example(kind)).problems).toEqual([]);
  });

  it.each(KINDS)("%s: a set field that nobody here knows", (kind) => {
    const merged = merge(example(kind, { config: { turbo: 2 } }));
    expect(merged.problems.map(({ code, subject }) => [code, subject])).toEqual([
      ["UNKNOWN_CONFIG_FIELD", "turbo"],
    ]);
  });

  it.each(partsOf(KINDS).filter((one) => !isZeros(one) && one.part !== "tinylora_P"))(
    "$kind: a module without its $part",
    ({ kind, part }) => {
      const other = { "model.layers.1.mlp.up_proj.weight": [[1]] };
      const whole = example(kind, { parts: { [part]: null } });
      const alone = Object.keys(madeBy(kind).parts).length === 1;
      // Without its only tensor a targeted module is missing as a whole.
      expect(refusals({ ...whole, base: { ...whole.base, ...other } })).toContain(
        alone ? "NO_TARGET" : "MISSING_TENSOR",
      );
    },
  );

  it.each(partsOf(KINDS))("$kind: a $part of another shape", ({ kind, part }) => {
    const changed = longer(madeBy(kind).parts[part]!);
    expect(refusals(example(kind, { parts: { [part]: changed } }))).toEqual(["SHAPE_MISMATCH"]);
  });

  it.each(partsOf(KINDS))("$kind: a $part of a type it cannot have", ({ kind, part }) => {
    const own = madeBy(kind).parts[part]!;
    const dtype: Dtype = own.dtype ? "BF16" : "F64";
    expect(refusals(example(kind, { parts: { [part]: { ...own, dtype } } }))).toEqual(["UNSUPPORTED_DTYPE"]);
  });

  it.each(["DELORA", "HIRA", "GLORA", "VBLORA", "RANDLORA", "GRALORA", "TINYLORA", "PEANUT", "DEFT"])(
    "%s: a rank in the config that the tensors do not have",
    (kind) => {
      const r = Number(madeBy(kind).config.r) - 1;
      expect(refusals(example(kind, { config: { r } }))).toEqual(["RANK_MISMATCH"]);
    },
  );

  it.each(["DELORA", "HIRA"])("%s: takes the rank of a module from rank_pattern", (kind) => {
    expect(refusals(example(kind, { config: { r: 7, rank_pattern: { q_proj: 2 } } }))).toEqual([]);
  });

  it("HIRA: takes `r` where rank_pattern has another rank, which PEFT 0.21 reads and does not use", () => {
    expect(refusals(example("HIRA", { config: { r: 2, rank_pattern: { q_proj: 7 } } }))).toEqual([]);
    expect(refusals(example("HIRA", { config: { r: 5, rank_pattern: { q_proj: 7 } } }))).toEqual([
      "RANK_MISMATCH",
    ]);
  });

  it.each(KINDS)("%s: an embedding, one expert of a mixture, and a Conv1D where PEFT has none", (kind) => {
    const conv = { module: "transformer.h.0.attn.c_attn", model: { model_type: "gpt2" } };
    const embedding = { module: "model.embed_tokens", config: { target_modules: ["embed_tokens"] } };
    const expert = { module: "model.layers.0.mlp.experts.0.w1" };
    const places = ALSO_CONV1D.includes(peftTypeOf(kind)) ? [embedding, expert] : [conv, embedding, expert];
    for (const place of places) {
      expect(refusals(example(kind, place)), JSON.stringify(place)).toContain("UNSUPPORTED_VARIANT");
    }
  });

  it.each(KINDS)("%s: a targeted module without tensors, and a tensor without a target", (kind) => {
    const whole = example(kind);
    const second = { "model.layers.1.self_attn.q_proj.weight": filled([2, 2]) };
    expect(refusals({ ...whole, base: { ...whole.base, ...second } })).toContain("MISSING_TENSOR");
    expect(refusals(example(kind, { config: { target_modules: ["v_proj"] } }))).toContain("ORPHAN_TENSOR");
    expect(refusals(example(kind, { more: { [`${MODULE}.something`]: [1] } }))).toEqual(["ORPHAN_TENSOR"]);
  });
});

describe("variants without a verified formula are refused by name", () => {
  it.each<[string, string, Changes, string]>([
    ["a Supra hybrid", "SUPERTUNING", { config: { r: 4, lora_alpha: 8 } }, "UNSUPPORTED_VARIANT"],
    [
      "indices that are chosen again",
      "SUPERTUNING",
      { parts: { supertuning_indices: null }, config: { save_precomputed_indices: false } },
      "UNSUPPORTED_VARIANT",
    ],
    ["an unknown rotation", "ROAD", { config: { variant: "road_3" } }, "BAD_ADAPTER_CONFIG"],
    ["a group of odd size", "ROAD", { config: { group_size: 3 } }, "BAD_ADAPTER_CONFIG"],
    ["groups that do not fill the rows", "ROAD", { config: { group_size: 64 } }, "SHAPE_MISMATCH"],
    ["GLoRA by vectors", "GLORA", { config: { config_A_B: "vector" } }, "UNSUPPORTED_VARIANT"],
    ["GLoRA of a bias", "GLORA", { bias: true }, "UNSUPPORTED_VARIANT"],
    [
      "VB-LoRA without its bank",
      "VBLORA",
      { shared: { "base_model.vblora_vector_bank": null } },
      "MISSING_TENSOR",
    ],
    ["VB-LoRA of more vectors than there are", "VBLORA", { config: { topk: 9 } }, "SHAPE_MISMATCH"],
    [
      "RandLoRA without its bases",
      "RANDLORA",
      { shared: { "base_model.randlora_B": null } },
      "NEEDS_TORCH_RNG",
    ],
    [
      "GraLoRA without its general part",
      "GRALORA",
      { parts: { "gralora_A_general.weight": null } },
      "MISSING_TENSOR",
    ],
    ["GraLoRA of another hybrid rank", "GRALORA", { config: { hybrid_r: 0 } }, "SHAPE_MISMATCH"],
    ["TinyLoRA without its projections", "TINYLORA", { parts: { tinylora_P: null } }, "NEEDS_TORCH_RNG"],
    [
      "TinyLoRA without its vector",
      "TINYLORA",
      { shared: { "base_model.tinylora_v.0": null } },
      "MISSING_TENSOR",
    ],
    ["TinyLoRA tied beyond one", "TINYLORA", { config: { weight_tying: 2 } }, "BAD_ADAPTER_CONFIG"],
    ["PEANuT with hidden layers", "PEANUT", { config: { depth: 1 } }, "UNSUPPORTED_VARIANT"],
    ["PEANuT with another activation", "PEANUT", { config: { act_fn: "gelu" } }, "UNSUPPORTED_VARIANT"],
    [
      "DEFT by an orthogonal basis",
      "DEFT",
      { config: { decomposition_method: "qr" } },
      "UNSUPPORTED_VARIANT",
    ],
    ["DEFT that only removes", "DEFT", { config: { para: true } }, "UNSUPPORTED_VARIANT"],
    ["DEFT with a scale", "DEFT", { config: { alpha: 16 } }, "UNSUPPORTED_VARIANT"],
    ["BEFT without a bias in the base", "BEFT", { bias: false }, "NO_BASE_BIAS"],
  ])("%s", (_, kind, changes, code) => {
    expect(refusals(example(kind, changes))).toContain(code);
  });

  it("GLoRA leaves a bias alone where its paths are off", () => {
    const off = { config_C: "none", config_D_E: "none" };
    const merged = merge(example("GLORA", { bias: true, config: off }));
    expect(merged.problems).toEqual([]);
    expect(merged.targets.map(({ tensor }) => tensor)).toEqual([`${MODULE}.weight`]);
  });
});

describe("values that only a merge sees stop it, too", () => {
  const codeOf = (example: Example): string => {
    try {
      merge(example).value(`${MODULE}.weight`);
    } catch (error) {
      return (error as AppError).code;
    }
    return "merged";
  };

  it.each([
    [6, 0],
    [0, 4],
    [-1, 0],
    [0.5, 0],
  ])("SHiRA at row %d, column %d of a weight of 6×4", (row, column) => {
    const parts = {
      shira_weight: { shape: [1] },
      shira_indices: { shape: [2, 1], values: [row, column], dtype: "F32" as const },
    };
    expect(codeOf(example("SHIRA", { parts }))).toBe("INDEX_OUT_OF_RANGE");
  });

  it("Super-Tuning behind the end of the weight", () => {
    const parts = {
      supertuning_values: { shape: [1] },
      supertuning_indices: { shape: [1], values: [24], dtype: "I32" as const },
    };
    expect(codeOf(example("SUPERTUNING", { parts }))).toBe("INDEX_OUT_OF_RANGE");
  });

  it("VB-LoRA beyond the end of its bank", () => {
    const name = "vblora_logits_A_topk_indices";
    const kind = "VBLORA with save_only_topk_weights";
    const indices = { ...madeBy(kind).parts[name]!, values: [0, 99] };
    expect(codeOf(example(kind, { parts: { [name]: indices } }))).toBe("INDEX_OUT_OF_RANGE");
  });

  it("RandLoRA's copies of the shared bases, unless they agree", () => {
    const shared = madeBy("RANDLORA").shared!;
    const copies = (values: number[]) => ({
      randlora_A: shared["base_model.randlora_A"]!,
      randlora_B: { ...shared["base_model.randlora_B"]!, values },
    });
    expect(codeOf(example("RANDLORA", { parts: copies([]) }))).toBe("merged");
    expect(codeOf(example("RANDLORA", { parts: copies([7]) }))).toBe("COPIES_DIFFER");
  });
});

describe("methods that have no merge say so and say what to do", () => {
  it.each([
    ["ADAMSS FROD OSF PSOFT", "NEEDS_DECOMPOSITION", /decomposes the base's weights again.*merge_and_unload/],
    ["FOURIERFT WAVEFT UNILORA", "NEEDS_TORCH_RNG", /random generator.*merge_and_unload/],
    ["LILY SHADOW", "UNSUPPORTED_KIND", /depend on the input.*serve it beside the base/],
    ["XLORA POLY", "NOT_A_WEIGHT_UPDATE", /input at run time.*serve it beside the base/],
    [
      "PROMPT_TUNING MULTITASK_PROMPT_TUNING PREFIX_TUNING P_TUNING CPT CARTRIDGE ADAPTION_PROMPT",
      "NOT_A_WEIGHT_UPDATE",
      /inputs or the cache.*nothing to merge/,
    ],
    ["LORRA", "UNKNOWN_PEFT_TYPE", /Check the spelling/],
  ])("%s: %s", (kinds, code, message) => {
    for (const kind of kinds.split(" ")) {
      const finding = refuseKind(kind);
      expect(finding.code).toBe(code);
      expect(finding.message).toMatch(message);
      expect(finding.message).toContain(kind);
    }
  });
});
