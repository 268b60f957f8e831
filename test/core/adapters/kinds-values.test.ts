import { describe, expect, it } from "vitest";
import { type Example, merge } from "../../support/adapters.ts";

/*
 * The arithmetic of the kinds, by examples small enough to be worked out on paper. That it is PEFT's, bit for bit, is
 * shown by the cases under test/fixtures/merge.
 */

const Q = "model.layers.0.self_attn.q_proj";
const W = `${Q}.weight`;

const example = (peft_type: string, base: Example["base"][string], more: Partial<Example> = {}): Example => ({
  base: { [W]: base, ...more.base },
  adapter: Object.fromEntries(
    Object.entries(more.adapter ?? {}).map(([part, values]) => [
      part.startsWith("base_model.") ? part : `${Q}.${part}`,
      values,
    ]),
  ),
  config: { peft_type, target_modules: ["q_proj"], ...more.config },
});

const zeros = (rows: number, columns: number) => Array.from({ length: rows }, () => Array(columns).fill(0));

describe("each kind's formula gives what it says on paper", () => {
  it("SHiRA adds its values at the places it names, and sums those at one place", () => {
    const merged = merge(
      example(
        "SHIRA",
        [
          [1, 2],
          [3, 4],
        ],
        {
          adapter: {
            shira_weight: [10, 20, 0.5],
            shira_indices: {
              dtype: "I32",
              values: [
                [0, 1, 1],
                [1, 0, 0],
              ],
            },
          },
        },
      ),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([1, 12, 23.5, 4]);
  });

  it("SHiRA reads places that were saved as floats, as PEFT does on Windows", () => {
    const merged = merge(
      example(
        "SHIRA",
        [
          [1, 2],
          [3, 4],
        ],
        {
          adapter: { shira_weight: [10], shira_indices: { dtype: "F32", values: [[1], [1]] } },
        },
      ),
    );
    expect(merged.value(W)).toEqual([1, 2, 3, 14]);
  });

  it("Super-Tuning counts its places through the whole weight, and rounds its values first", () => {
    const merged = merge(
      example(
        "SUPERTUNING",
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        {
          adapter: {
            supertuning_values: [1 + 2 ** -8, -2],
            supertuning_indices: { dtype: "I64", values: [4, 2] },
          },
          config: { sparsity: 0.5 },
        },
      ),
    );
    expect(merged.value(W)).toEqual([1, 2, 1, 4, 6 + 2 ** -8, 6]);
    // 1 + 2⁻⁸ is a tie between two BF16 values and goes to the even one, 1.
    expect(merged.stored(W, "BF16")).toEqual([1, 2, 1, 4, 6, 6]);
  });

  it("RoAd turns pairs of rows, and the bias with them", () => {
    const merged = merge(
      example(
        "ROAD",
        [
          [1, 2],
          [3, 4],
        ],
        {
          base: { [`${Q}.bias`]: [5, 6] },
          adapter: { road_theta: [Math.PI / 2], road_alpha: [2] },
          config: { variant: "road_1", group_size: 2 },
        },
      ),
    );
    expect(merged.value(W).map((value) => Math.round(value * 1e9) / 1e9)).toEqual([-6, -8, 2, 4]);
    expect(merged.value(`${Q}.bias`).map((value) => Math.round(value * 1e9) / 1e9)).toEqual([-12, 10]);
  });

  it("RoAd pairs the halves of each group", () => {
    const merged = merge(
      example("ROAD", [[1], [2], [3], [4], [5], [6], [7], [8]], {
        adapter: { road_theta: Array(8).fill(Math.PI / 2), road_alpha: [1, 2, 3, 4, 5, 6, 7, 8] },
        config: { variant: "road_2", group_size: 4 },
      }),
    );
    expect(merged.value(W).map((value) => Math.round(value * 1e9) / 1e9)).toEqual([
      -3, -8, 3, 8, -35, -48, 35, 48,
    ]);
  });

  it("RoAd's fourth variant has an angle and a length of its own for either product", () => {
    const merged = merge(
      example("ROAD", [[1], [10]], {
        adapter: { road_theta: [0, 0, Math.PI / 2, Math.PI / 2], road_alpha: [2, 3, 4, 5] },
        config: { variant: "road_4", group_size: 2 },
      }),
    );
    expect(merged.value(W)).toEqual([2 * 1 - 4 * 10, 3 * 10 + 5 * 1]);
  });

  it("DeLoRA divides by the lengths of its factors and multiplies by those of the base", () => {
    const merged = merge(
      example("DELORA", zeros(2, 2), {
        adapter: { delora_A: [[3, 4]], delora_B: [[1], [0]], delora_lambda: [10], delora_w_norm: [1, 0.5] },
        config: { r: 1 },
      }),
    );
    expect(merged.value(W)).toEqual([6, 4, 0, 0]);
  });

  it("DeLoRA takes no length below 1e-4", () => {
    const merged = merge(
      example("DELORA", zeros(1, 1), {
        adapter: { delora_A: [[0.5]], delora_B: [[1e-6]], delora_lambda: [4], delora_w_norm: [1] },
        config: { r: 1 },
      }),
    );
    expect(merged.value(W)[0]).toBeCloseTo((4 * 1e-6) / 1e-4, 12);
  });

  it("HiRA multiplies the weight by its product", () => {
    const merged = merge(
      example(
        "HIRA",
        [
          [1, 2],
          [3, 4],
        ],
        {
          adapter: { hira_A: [[1, 10]], hira_B: [[2], [3]] },
          config: { r: 1 },
        },
      ),
    );
    expect(merged.value(W)).toEqual([1 + 1 * 2, 2 + 2 * 20, 3 + 3 * 3, 4 + 4 * 30]);
  });

  it("GLoRA multiplies by one product, adds another, and leaves zeros of the bias paths alone", () => {
    const merged = merge(
      example("GLORA", [[1, 2]], {
        adapter: {
          "glora_A.Xd": [[2]],
          "glora_A.Xu": [[3, 4]],
          "glora_B.Xd": [[10]],
          "glora_B.Xu": [[1, 2]],
          "glora_C.zeros": [[0], [0]],
          "glora_D.zeros": [0],
          "glora_E.zeros": [0],
        },
        config: { r: 1 },
      }),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([1 + 1 * 6 + 10, 2 + 2 * 8 + 20]);
  });

  it("VB-LoRA mixes the vectors with the largest logits, weighted by the softmax over those alone", () => {
    const third = Math.log(2);
    const merged = merge(
      example("VBLORA", zeros(2, 2), {
        adapter: {
          // Weights 2/3 of vector 1 and 1/3 of vector 0; vector 2 is not among the two.
          vblora_logits_A: [[[0, third, -9]]],
          vblora_logits_B: [[[-9, 0, 50]]],
          "base_model.vblora_vector_bank": [
            [3, 0],
            [6, 9],
            [1, 2],
          ],
        },
        config: { r: 1, topk: 2 },
      }),
    );
    expect(merged.problems).toEqual([]);
    // A is [5, 6]; B is vector 2 alone, e⁻⁵⁰ aside.
    expect(merged.value(W).map((value) => Math.round(value * 1e9) / 1e9)).toEqual([5, 6, 10, 12]);
  });

  it("VB-LoRA finds the last of the stored weights by what the others lack of one", () => {
    const merged = merge(
      example("VBLORA", zeros(2, 2), {
        adapter: {
          vblora_logits_A_topk_weights: [[[0.25]]],
          vblora_logits_A_topk_indices: { dtype: "U8", values: [[[0, 1]]] },
          vblora_logits_B_topk_weights: [[[1]]],
          vblora_logits_B_topk_indices: { dtype: "U8", values: [[[2, 0]]] },
          "base_model.vblora_vector_bank": [
            [4, 0],
            [8, 4],
            [1, 2],
          ],
        },
        config: { r: 1, topk: 2, save_only_topk_weights: true },
      }),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([7, 3, 14, 6]);
  });

  it("RandLoRA scales shared random bases by λ and γ, and the whole by alpha/r", () => {
    const adapter = {
      randlora_lambda: [[1, 2]],
      randlora_gamma: [
        [1, 10],
        [100, 1000],
      ],
      "base_model.randlora_A": [[[1, 2, 77]]],
      "base_model.randlora_B": [
        [[1], [1]],
        [[0], [1]],
        [[1], [0]],
        [[99], [99]],
      ],
    };
    const config = { r: 1, randlora_alpha: 3 };
    // λ₁·A·γ₁ = [1, 20], λ₂·A·γ₂ = [200, 4000]; rows and columns of the bases beyond the weight are not used.
    const rows = [
      [201, 4020],
      [200, 4000],
      [1, 20],
    ];
    const tall = merge(example("RANDLORA", zeros(3, 2), { adapter, config }));
    expect(tall.value(W)).toEqual(rows.flat().map((value) => 3 * value));
    const wide = merge(example("RANDLORA", zeros(2, 3), { adapter, config }));
    expect(wide.value(W)).toEqual([0, 1].flatMap((j) => rows.map((row) => 3 * row[j]!)));
  });

  it("C3A turns each kernel round row by row and divides by the width of the input", () => {
    const merged = merge(example("C3A", zeros(3, 3), { adapter: { c3a_kernel: [[[3, 6, 9]]] } }));
    expect(merged.value(W)).toEqual([1, 2, 3, 3, 1, 2, 2, 3, 1]);
    const blocks = merge(
      example("C3A", zeros(2, 4), {
        adapter: {
          c3a_kernel: [
            [
              [4, 8],
              [12, 16],
            ],
          ],
        },
      }),
    );
    expect(blocks.value(W)).toEqual([1, 2, 3, 4, 2, 1, 4, 3]);
  });

  it("GraLoRA gives each block a slice of the ranks, and adds a plain product where there is one", () => {
    const adapter = {
      gralora_A: [[[1, 2]], [[3, 4]]],
      gralora_B: [
        [[10], [20]],
        [[30], [40]],
      ],
    };
    const merged = merge(
      example("GRALORA", zeros(2, 2), { adapter, config: { r: 2, alpha: 4, gralora_k: 2 } }),
    );
    // Block (i, j): A_j's slice i times B_i's slice j, twice.
    expect(merged.value(W)).toEqual([2 * 1 * 10, 2 * 3 * 20, 2 * 2 * 30, 2 * 4 * 40]);
    const hybrid = merge(
      example("GRALORA", zeros(2, 2), {
        adapter: {
          ...adapter,
          "gralora_A_general.weight": [
            [1, 1],
            [1, 0],
          ],
          "gralora_B_general.weight": [
            [1, 0],
            [0, 1],
          ],
        },
        config: { r: 2, alpha: 4, hybrid_r: 2 },
      }),
    );
    expect(hybrid.value(W)).toEqual([10 + 1, 60 + 1, 60 + 1, 160]);
  });

  it("BEFT changes the bias alone", () => {
    const merged = merge(
      example("BEFT", zeros(2, 2), { base: { [`${Q}.bias`]: [1, 2] }, adapter: { beft_bias: [[10, 20]] } }),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.targets.map(({ tensor }) => tensor)).toEqual([`${Q}.bias`]);
    expect(merged.value(`${Q}.bias`)).toEqual([11, 22]);
  });

  it("PEANuT lets only what is positive through between its factors", () => {
    const merged = merge(
      example("PEANUT", [[1, -1]], {
        adapter: { "peanut_A.weight": [[2]], "peanut_B.weight": [[3]] },
        config: { r: 1, scaling: 0.5 },
      }),
    );
    expect(merged.value(W)).toEqual([1 + 0.5 * 3 * 2, -1]);
  });

  it("DEFT takes a subspace of the weight out and puts another one in", () => {
    const merged = merge(
      example(
        "DEFT",
        [
          [1, 2],
          [3, 4],
        ],
        {
          adapter: { deft_P: [[1], [-1]], deft_R: [[10, 10]] },
          config: { r: 1 },
        },
      ),
    );
    expect(merged.value(W)).toEqual([1 + 9, 2 + 8, 3 - 9, 4 - 8]);
  });
});
