import { describe, expect, it } from "vitest";
import { type Example, type Given, merge } from "../../support/adapters.ts";

/*
 * LoHa, LoKr, AdaLoRA, VeRA and MiSS by examples small enough to be worked out on paper. That they are PEFT's, bit for
 * bit, is shown by the cases under test/fixtures/merge.
 */

const Q = "model.layers.0.self_attn.q_proj";
const W = `${Q}.weight`;

/** One module: its weight, its tensors by the ends of their keys, and the fields of its config. */
const example = (
  weight: Given,
  parts: Record<string, Given>,
  config: Example["config"],
  more: Partial<Example> = {},
): Example => ({
  base: { [W]: weight, ...more.base },
  adapter: {
    ...Object.fromEntries(Object.entries(parts).map(([part, values]) => [`${Q}.${part}`, values])),
    ...more.adapter,
  },
  config: { target_modules: ["q_proj"], peft_version: "0.21.0", ...config },
  ...(more.model && { model: more.model }),
});

const zeros = [
  [0, 0],
  [0, 0],
];

describe("LoHa", () => {
  const parts = {
    hada_w1_a: [[1], [2]],
    hada_w1_b: [[1, 1]],
    hada_w2_a: [[1], [1]],
    hada_w2_b: [[2, 3]],
  };

  it("multiplies two low-rank products element by element, and by alpha/r", () => {
    const weight = [
      [1, 2],
      [3, 4],
    ];
    const merged = merge(example(weight, parts, { peft_type: "LOHA", r: 1, alpha: 2 }));
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([5, 8, 11, 16]);
    expect(merged.targets).toMatchObject([{ change: "LoHa", rank: 1, alpha: 2, scale: 2 }]);
  });

  it("takes rank and alpha by patterns", () => {
    const config = {
      peft_type: "LOHA",
      r: 9,
      rank_pattern: { q_proj: 1 },
      alpha_pattern: { "self_attn.q": 3, q_proj: 4 },
    };
    const [target] = merge(example(zeros, parts, config)).targets;
    expect(target).toMatchObject({ rank: 1, alpha: 4, scale: 4 });
  });

  it("puts a core between the factors of a convolution", () => {
    const convolution = {
      hada_t1: [[[[1, 2]]]],
      hada_w1_a: [[3]],
      hada_w1_b: [[1]],
      hada_t2: [[[[1, 1]]]],
      hada_w2_a: [[2]],
      hada_w2_b: [[1]],
    };
    const merged = merge(example([[[[1, 1]]]], convolution, { peft_type: "LOHA", r: 1, alpha: 1 }));
    expect(merged.value(W)).toEqual([7, 13]);
  });

  it("takes a convolution without cores flat, and Conv1d with a core of one more dimension", () => {
    const flat = merge(example([[[0, 0]], [[0, 0]]], parts, { peft_type: "LOHA", r: 1, alpha: 1 }));
    expect(flat.value(W)).toEqual([2, 3, 4, 6]);
    const core = {
      hada_t1: [[[[1], [2]]]],
      hada_w1_a: [[3, 1]],
      hada_w1_b: [[1]],
      hada_t2: [[[[1], [1]]]],
      hada_w2_a: [[2, 1]],
      hada_w2_b: [[1]],
    };
    const cored = merge(example([[[0, 0]], [[0, 0]]], core, { peft_type: "LOHA", r: 1, alpha: 1 }));
    expect(cored.value(W)).toEqual([6, 12, 1, 2]);
  });
});

describe("LoKr", () => {
  const config = { peft_type: "LOKR", r: 1, alpha: 1 };

  it("is a Kronecker product times alpha/r, also where neither side is factored", () => {
    const merged = merge(
      example(zeros, { lokr_w1: [[1, 2]], lokr_w2: [[1], [3]] }, { ...config, r: 2, alpha: 20 }),
    );
    expect(merged.value(W)).toEqual([10, 20, 30, 60]);
    expect(merged.targets).toMatchObject([{ change: "LoKr", rank: 2, alpha: 20, scale: 10 }]);
  });

  it("multiplies the factors of a side that has them", () => {
    const parts = {
      lokr_w1_a: [[1]],
      lokr_w1_b: [[1, 2]],
      lokr_w2_a: [[1], [3]],
      lokr_w2_b: [[1]],
    };
    expect(merge(example(zeros, parts, config)).value(W)).toEqual([1, 2, 3, 6]);
  });

  it("puts a core between the factors of a convolution's second side", () => {
    const parts = { lokr_w1: [[1, 10]], lokr_t2: [[[[1, 2]]]], lokr_w2_a: [[1, 3]], lokr_w2_b: [[1]] };
    const weight = [0, 0].map(() => [0, 0].map(() => [[0, 0]]));
    expect(merge(example(weight, parts, config)).value(W)).toEqual([1, 2, 10, 20, 3, 6, 30, 60]);
  });

  it("orders the rows of a Conv1d as torch.kron does, which puts the missing dimension in front", () => {
    const parts = { lokr_w1: [[1], [10]], lokr_w2: [[[1, 2]], [[3, 4]]] };
    const merged = merge(
      example(
        [0, 0, 0, 0].map(() => [[0, 0]]),
        parts,
        config,
      ),
    );
    expect(merged.value(W)).toEqual([1, 2, 10, 20, 3, 4, 30, 40]);
  });
});

describe("AdaLoRA", () => {
  const parts = { lora_A: [[1, 2]], lora_E: [[3]], lora_B: [[1], [2]] };
  const config = { peft_type: "ADALORA", init_r: 1, r: 8, lora_alpha: 2 };

  it("divides by init_r and a little more, after it has multiplied by alpha", () => {
    const merged = merge(example(zeros, parts, config));
    expect(merged.problems).toEqual([]);
    const divisor = 1 + 1e-5;
    expect(merged.value(W)).toEqual([6, 12, 12, 24].map((value) => value / divisor));
    expect(merged.stored(W, "F32")).toEqual(
      [6, 12, 12, 24].map((value) => Math.fround(value / Math.fround(divisor))),
    );
    expect(merged.targets).toMatchObject([{ change: "AdaLoRA", rank: 1, alpha: 2, scale: 2 / divisor }]);
  });

  it("keeps the divisor after pruning, and rounds the factors of modules in rank_pattern to the base's type", () => {
    // 1 + 2⁻⁸ is a tie between two BF16 values; three times as much is not.
    const fine = { ...parts, lora_A: [[1 + 2 ** -8, 2]] };
    const pruned = { ...config, init_r: 2, rank_pattern: { [`${Q}.lora_E`]: [true, false] } };
    expect(merge(example(zeros, fine, pruned)).stored(W, "BF16")).toEqual([3, 6, 6, 12]);
    expect(merge(example(zeros, fine, { ...config, init_r: 1, lora_alpha: 1 })).stored(W, "BF16")).toEqual([
      3 + 2 ** -6,
      6,
      6 + 2 ** -5,
      12,
    ]);
    expect(merge(example(zeros, parts, pruned)).value(W)[0]).toBe(6 / (2 + 1e-5));
  });

  it("is transposed for a Conv1D and flat for a convolution", () => {
    const gpt2 = merge({
      base: { "h.0.attn.c_attn.weight": [[0, 0, 0]] },
      adapter: {
        "h.0.attn.c_attn.lora_A": [[2]],
        "h.0.attn.c_attn.lora_E": [[1]],
        "h.0.attn.c_attn.lora_B": [[1], [2], [3]],
      },
      config: { ...config, target_modules: ["c_attn"] },
      model: { model_type: "gpt2", tie_word_embeddings: false },
    });
    expect(gpt2.value("h.0.attn.c_attn.weight").map(Math.fround)).toEqual(
      [4, 8, 12].map((value) => Math.fround(value / (1 + 1e-5))),
    );
    const convolution = merge(example([[[[0, 0]]], [[[0, 0]]]], parts, config));
    expect(convolution.value(W)).toEqual(merge(example(zeros, parts, config)).value(W));
  });
});

describe("VeRA", () => {
  const shared = { "base_model.vera_A": [[1, 2, 9]], "base_model.vera_B": [[1], [3], [7]] };
  const parts = { vera_lambda_b: [1, 10], vera_lambda_d: [2] };

  it("cuts its shared projections to the layer, and scales their rows", () => {
    const merged = merge(example(zeros, parts, { peft_type: "VERA", r: 1 }, { adapter: shared }));
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([2, 4, 60, 120]);
    expect(merged.targets).toMatchObject([{ change: "VeRA", rank: 1 }]);
  });

  it("is transposed for a Conv1D", () => {
    const merged = merge({
      base: {
        "h.0.attn.c_attn.weight": [
          [0, 0, 0],
          [0, 0, 0],
        ],
      },
      adapter: {
        ...shared,
        "h.0.attn.c_attn.vera_lambda_b": [1, 1, 1],
        "h.0.attn.c_attn.vera_lambda_d": [1],
      },
      config: { peft_type: "VERA", r: 1, target_modules: ["c_attn"] },
      model: { model_type: "gpt2", tie_word_embeddings: false },
    });
    expect(merged.value("h.0.attn.c_attn.weight")).toEqual([1, 3, 7, 2, 6, 14]);
  });

  it("merges the mean of PVeRA, which the first half of its rows is", () => {
    const projections = {
      "base_model.pvera_A": [
        [1, 2],
        [5, 5],
      ],
      "base_model.pvera_B": [[1], [3]],
    };
    const merged = merge(
      example(
        zeros,
        { pvera_lambda_b: [1, 10], pvera_lambda_d: [2, 100] },
        { peft_type: "PVERA", r: 1 },
        { adapter: projections },
      ),
    );
    expect(merged.value(W)).toEqual([2, 4, 60, 120]);
    expect(merged.targets).toMatchObject([{ change: "PVeRA", rank: 1 }]);
  });
});

describe("MiSS", () => {
  it("adds its block to every r columns, and the last ones as far as they go", () => {
    const merged = merge(
      example([[0, 0, 0, 0, 10]], { miss_block: [[1], [2]] }, { peft_type: "MISS", r: 2 }),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([1, 2, 1, 2, 11]);
    expect(merged.targets).toMatchObject([{ change: "MiSS", rank: 2, alpha: null }]);
  });

  it("repeats a narrow block along the outputs with init_weights mini", () => {
    const config = { peft_type: "MISS", r: 2, mini_r: 2, init_weights: "mini" };
    const weight = [0, 0, 0, 0].map(() => [0, 0]);
    const merged = merge(
      example(
        weight,
        {
          miss_block: [
            [1, 3],
            [2, 4],
          ],
        },
        config,
      ),
    );
    expect(merged.value(W)).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
  });

  it("multiplies r×r blocks of the weight with init_weights bat", () => {
    const one = { peft_type: "MISS", r: 1, init_weights: "bat" };
    const weight = [
      [1, 2],
      [3, 4],
    ];
    const merged = merge(example(weight, { miss_block: [[[10]], [[20]]] }, one));
    expect(merged.value(W)).toEqual([21, 32, 83, 104]);
    const two = merge(
      example(
        weight,
        {
          miss_block: [
            [
              [1, 0],
              [0, 2],
            ],
          ],
        },
        { ...one, r: 2 },
      ),
    );
    expect(two.value(W)).toEqual([3, 6, 6, 14]);
  });
});
