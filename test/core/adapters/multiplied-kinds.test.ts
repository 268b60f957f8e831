import { describe, expect, it } from "vitest";
import { type Example, type Given, merge } from "../../support/adapters.ts";

/*
 * IA3, OFT, BOFT and HRA, which multiply the weight, by examples small enough to be worked out on paper.
 */

const Q = "model.layers.0.self_attn.q_proj";
const W = `${Q}.weight`;

const example = (weight: Given, parts: Record<string, Given>, config: Example["config"]): Example => ({
  base: { [W]: weight },
  adapter: Object.fromEntries(Object.entries(parts).map(([part, values]) => [`${Q}.${part}`, values])),
  config: { target_modules: ["q_proj"], peft_version: "0.21.0", ...config },
});

const near = (values: readonly number[]) => values.map((value) => Math.round(value * 1e12) / 1e12 + 0);

const weight = [
  [1, 2],
  [3, 4],
];

describe("IA3", () => {
  const config = { peft_type: "IA3", feedforward_modules: [] };

  it("multiplies the outputs, and the bias with them", () => {
    const one = example(weight, { ia3_l: [[2], [3]] }, config);
    const merged = merge({ ...one, base: { ...one.base, [`${Q}.bias`]: [5, 6] } });
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([2, 4, 9, 12]);
    expect(merged.value(`${Q}.bias`)).toEqual([10, 18]);
    expect(merged.targets.map(({ change, tensor }) => [change, tensor])).toEqual([
      ["IA3", W],
      ["IA3", `${Q}.bias`],
    ]);
  });

  it("multiplies the inputs of feedforward modules, and leaves their bias", () => {
    // The ending need not begin at a dot.
    const one = example(weight, { ia3_l: [[2, 3]] }, { ...config, feedforward_modules: ["_proj"] });
    const merged = merge({ ...one, base: { ...one.base, [`${Q}.bias`]: [5, 6] } });
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([2, 6, 6, 12]);
    expect(merged.targets.map(({ tensor }) => tensor)).toEqual([W]);
  });

  it("reads feedforward_modules as a pattern for whole names where it is a text", () => {
    const parts = { ia3_l: [[2, 3]] };
    const whole = merge(example(weight, parts, { ...config, feedforward_modules: ".*\\.q_proj" }));
    expect(whole.value(W)).toEqual([2, 6, 6, 12]);
    const part = merge(example(weight, parts, { ...config, feedforward_modules: "q_proj" }));
    expect(part.problems.map(({ code }) => code)).toEqual(["SHAPE_MISMATCH"]);
  });

  it("goes by the vector's shape where the config names no feedforward_modules, unless both would fit", () => {
    const config = { peft_type: "IA3" };
    expect(merge(example(weight, { ia3_l: [[2, 3]] }, config)).value(W)).toEqual([2, 6, 6, 12]);
    expect(merge(example(weight, { ia3_l: [[2], [3]] }, config)).value(W)).toEqual([2, 4, 9, 12]);
    const single = merge(example([[1]], { ia3_l: [[2]] }, config));
    expect(single.problems.map(({ code }) => code)).toEqual(["BAD_ADAPTER_CONFIG"]);
  });

  it("is transposed for a Conv1D", () => {
    const name = "h.0.attn.c_attn";
    const gpt2 = (values: Given, feedforward: string[]) =>
      merge({
        base: { [`${name}.weight`]: [[1, 2, 3]] },
        adapter: { [`${name}.ia3_l`]: values },
        config: { ...config, target_modules: ["c_attn"], feedforward_modules: feedforward },
        model: { model_type: "gpt2", tie_word_embeddings: false },
      }).value(`${name}.weight`);
    expect(gpt2([[1], [10], [100]], [])).toEqual([1, 20, 300]);
    expect(gpt2([[5]], ["c_attn"])).toEqual([5, 10, 15]);
  });

  it("multiplies the channels of a convolution, of a grouped one by its groups", () => {
    const convolution = [
      [[[1]], [[2]]],
      [[[3]], [[4]]],
    ];
    const gate = [[[[2]], [[3]]]];
    const inputs = { ...config, feedforward_modules: ["q_proj"] };
    expect(merge(example(convolution, { ia3_l: gate }, config)).value(W)).toEqual([2, 4, 9, 12]);
    expect(merge(example(convolution, { ia3_l: gate }, inputs)).value(W)).toEqual([2, 6, 6, 12]);
    const grouped = [[[[1]]], [[[2]]], [[[3]]], [[[4]]]];
    expect(merge(example(grouped, { ia3_l: gate }, inputs)).value(W)).toEqual([2, 4, 9, 12]);
  });
});

/** Turns by a right angle: Q = [[0, 1], [-1, 0]] has the Cayley transform [[0, -1], [1, 0]]. */
const RIGHT_ANGLE = 1;

describe("OFT", () => {
  const exact = { peft_type: "OFT", oft_block_size: 2, use_cayley_neumann: false };
  const series = { peft_type: "OFT", oft_block_size: 2, use_cayley_neumann: true };

  it("turns each block of columns by its own rotation", () => {
    const merged = merge(example([[1, 2, 3, 4]], { "oft_R.weight": [[RIGHT_ANGLE], [0]] }, exact));
    expect(merged.problems).toEqual([]);
    expect(near(merged.value(W))).toEqual([-2, 1, 3, 4]);
    expect(merged.targets).toMatchObject([{ change: "OFT", rank: null }]);
  });

  it("turns all blocks by one rotation with block_share", () => {
    const config = { ...exact, block_share: true };
    const merged = merge(example([[1, 2, 3, 4]], { "oft_R.weight": [[RIGHT_ANGLE]] }, config));
    expect(near(merged.value(W))).toEqual([-2, 1, -4, 3]);
  });

  it("turns an embedding along its width, the other way round", () => {
    const merged = merge({
      base: {
        "model.embed_tokens.weight": [
          [1, 2],
          [3, 4],
        ],
      },
      adapter: { "model.embed_tokens.oft_embedding_R.weight": [[RIGHT_ANGLE]] },
      config: { ...exact, target_modules: ["embed_tokens"] },
    });
    expect(merged.problems).toEqual([]);
    expect(near(merged.value("model.embed_tokens.weight"))).toEqual([2, -1, 4, -3]);
  });

  it.each([
    [1, [1, 0]],
    [2, [1, -1]],
    [3, [0.5, -0.875]],
    [4, [0.5, -0.875]],
    [5, [0.5625, -0.75]],
    [6, [0.625, -0.78125]],
  ])("sums a series of %i terms as PEFT does", (terms, expected) => {
    const config = { ...series, num_cayley_neumann_terms: terms };
    const merged = merge(example([[1, 0]], { "oft_R.weight": [[0.5]] }, config));
    expect(near(merged.value(W))).toEqual(expected);
  });

  it("shortens the generators with coft before it makes rotations of them", () => {
    const bounded = { ...series, coft: true, eps: 0.5 * Math.SQRT2 };
    const merged = merge(example([[1, 0]], { "oft_R.weight": [[3]] }, bounded));
    expect(near(merged.value(W))).toEqual([0.5625, -0.75]);
    const short = merge(example([[1, 0]], { "oft_R.weight": [[0.5]] }, { ...bounded, eps: 1 }));
    expect(near(short.value(W))).toEqual([0.5625, -0.75]);
  });

  it("takes the nearest divisor of the width where the block size does not divide it", () => {
    const config = { ...exact, oft_block_size: 4 };
    const merged = merge(
      example(
        [[1, 2, 3, 4, 5, 6]],
        {
          "oft_R.weight": [
            [0, 0, 0],
            [0, 0, 0],
          ],
        },
        config,
      ),
    );
    expect(merged.problems).toEqual([]);
    expect(merged.value(W)).toEqual([1, 2, 3, 4, 5, 6]);
    const byCount = { ...exact, oft_block_size: 0, r: 4 };
    expect(
      merge(example([[1, 2, 3, 4, 5, 6]], { "oft_R.weight": [[0], [0], [0]] }, byCount)).problems,
    ).toEqual([]);
  });

  it("turns a convolution over its channels and kernel", () => {
    const merged = merge(
      example([[[[1, 2]], [[3, 4]]]], { "oft_R.weight": [[RIGHT_ANGLE], [RIGHT_ANGLE]] }, exact),
    );
    expect(near(merged.value(W))).toEqual([-2, 1, -4, 3]);
  });

  it("warns of adapters from before the series was changed", () => {
    const codes = (version: string | undefined) =>
      merge(
        example(
          [[1, 0]],
          { "oft_R.weight": [[0.5]] },
          { ...series, ...(version ? { peft_version: version } : { peft_version: null }) },
        ),
      ).warnings.map(({ code }) => code);
    expect(codes("0.17.1")).toEqual(["OLD_SERIES"]);
    expect(codes(undefined)).toEqual(["OLD_SERIES"]);
    expect(codes("0.18.0@abc")).toEqual([]);
    expect(codes("1.0.0")).toEqual([]);
  });
});

describe("BOFT", () => {
  const config = { peft_type: "BOFT", boft_block_size: 2 };
  const [turn, still] = [
    [
      [0, 2],
      [0, 0],
    ],
    [
      [5, 0],
      [0, 5],
    ],
  ];

  it("turns by what is skew of its blocks, and scales the outputs", () => {
    const merged = merge(example([[1, 2, 3, 4]], { boft_R: [[turn!, still!]], boft_s: [[2]] }, config));
    expect(merged.problems).toEqual([]);
    expect(near(merged.value(W))).toEqual([-4, 2, 6, 8]);
    expect(merged.targets).toMatchObject([{ change: "BOFT" }]);
  });

  it("lets further butterfly factors turn columns that lie further apart", () => {
    const two = { ...config, boft_n_butterfly_factor: 2 };
    const factors = (first: Given, second: Given) =>
      near(merge(example([[1, 2, 3, 4]], { boft_R: [first, second] as never, boft_s: [[1]] }, two)).value(W));
    expect(factors([turn!, turn!], [still!, still!])).toEqual([-2, 1, -4, 3]);
    expect(factors([still!, still!], [turn!, turn!])).toEqual([-3, -4, 1, 2]);
    expect(factors([turn!, turn!], [turn!, turn!])).toEqual([4, -3, -2, 1]);
  });

  it("reads the scales of a convolution from a row", () => {
    const parts = { boft_R: [[turn!]], boft_s: [[2, 3]] };
    const merged = merge(example([[[[1, 2]]], [[[3, 4]]]], parts, config));
    expect(near(merged.value(W))).toEqual([-4, 2, -12, 9]);
  });
});

describe("HRA", () => {
  const config = { peft_type: "HRA", r: 1 };

  it("reflects each row, whatever the length of the direction", () => {
    const merged = merge(
      example(
        [
          [1, 0],
          [0, 1],
        ],
        { hra_u: [[3], [4]] },
        config,
      ),
    );
    expect(merged.problems).toEqual([]);
    expect(near(merged.value(W))).toEqual([0.28, -0.96, -0.96, -0.28]);
    expect(merged.targets).toMatchObject([{ change: "HRA", rank: 1 }]);
  });

  it("reflects one after the other, or by orthogonal directions with apply_GS", () => {
    const parts = {
      hra_u: [
        [1, 1],
        [0, 1],
      ],
    };
    expect(near(merge(example([[1, 2]], parts, { ...config, r: 2 })).value(W))).toEqual([-2, 1]);
    const orthogonal = { ...config, r: 2, apply_GS: true };
    expect(near(merge(example([[1, 2]], parts, orthogonal)).value(W))).toEqual([-1, -2]);
  });

  it("takes a convolution flat", () => {
    const merged = merge(example([[[[1]], [[0]]]], { hra_u: [[3], [4]] }, config));
    expect(near(merged.value(W))).toEqual([0.28, -0.96]);
  });
});
