import { describe, expect, it } from "vitest";
import { Fields } from "../../../src/core/decoder/fields.ts";
import { attentionFactor, inverseFrequencies, ropeTable } from "../../../src/core/decoder/rope.ts";
import { readRope } from "../../../src/core/decoder/rope-config.ts";
import type { RopeSpec } from "../../../src/core/decoder/spec.ts";
import type { JsonObject } from "../../../src/core/json.ts";

function rope(parameters: JsonObject, maxPositions = 256): RopeSpec {
  const fields = new Fields({ rope_parameters: parameters }, "llama");
  return readRope(fields, { headDim: 16, maxPositions, theta: 10_000, partial: null });
}

const LONG = {
  rope_type: "longrope",
  long_factor: [1.5, 2.25, 3, 3.75, 4.5, 5.25, 6, 6.75],
  short_factor: [1, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35],
  original_max_position_embeddings: 32,
  factor: 8,
};
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };

interface Case {
  readonly name: string;
  readonly spec: RopeSpec;
  readonly length: number;
  readonly inverse: readonly number[];
  readonly scale: number;
  /** Of the last position. */
  readonly cos: readonly number[];
  readonly sin: readonly number[];
}

/*
 * `LlamaRotaryEmbedding(config)` of transformers 5.18.0 with torch 2.13.0 on a CPU, called with positions 0 … length − 1:
 * its inv_freq and attention_scaling after the call, and cos and sin of the last position.
 */
const CASES: readonly Case[] = [
  {
    name: "default",
    spec: rope({ rope_type: "default" }),
    length: 48,
    inverse: [1.0, 0.31622776, 0.1, 0.03162278, 0.01, 0.0031622779, 0.001, 0.0003162278],
    scale: 1.0,
    cos: [-0.99233544, -0.6635383, -0.012388377, 0.084425166, 0.8915683, 0.9889753, 0.9988957, 0.99988955],
    sin: [0.123573124, 0.74814236, -0.9999233, 0.9964298, 0.45288628, 0.14808047, 0.046982702, 0.014862158],
  },
  {
    name: "default with a base of 500,000",
    spec: rope({ rope_type: "default", rope_theta: 500_000 }),
    length: 48,
    inverse: [
      1.0, 0.19392276, 0.03760603, 0.007292665, 0.0014142134, 0.0002742482, 5.3182957e-5, 1.0313385e-5,
    ],
    scale: 1.0,
    cos: [-0.99233544, -0.9522089, -0.19542143, 0.94183224, 0.9977918, 0.9999169, 0.9999969, 0.9999999],
    sin: [
      0.123573124, 0.3054477, 0.9807194, 0.33608335, 0.066419095, 0.012889308, 0.0024995964, 0.00048472907,
    ],
  },
  {
    name: "linear",
    spec: rope({ rope_type: "linear", factor: 3 }),
    length: 48,
    inverse: [
      0.33333334, 0.10540926, 0.033333335, 0.010540926, 0.0033333332, 0.0010540927, 0.00033333336,
      0.000105409265,
    ],
    scale: 1.0,
    cos: [-0.9991474, 0.23949541, 0.004129593, 0.8797674, 0.98775285, 0.99877304, 0.9998773, 0.9999877],
    sin: [0.041284546, -0.9708975, 0.9999915, 0.4754043, 0.15602657, 0.04952209, 0.015666027, 0.004954215],
  },
  {
    name: "dynamic, as long as trained",
    spec: rope({ rope_type: "dynamic", factor: 2 }, 32),
    length: 32,
    inverse: [1.0, 0.31622776, 0.1, 0.03162278, 0.01, 0.0031622779, 0.001, 0.0003162278],
    scale: 1.0,
    cos: [0.91474235, -0.9293003, -0.99913514, 0.55676824, 0.95233357, 0.99519885, 0.9995195, 0.99995196],
    sin: [-0.40403765, -0.369325, 0.04158052, 0.83066785, 0.30505863, 0.09787367, 0.030995036, 0.009802904],
  },
  {
    name: "dynamic, longer",
    spec: rope({ rope_type: "dynamic", factor: 2 }, 32),
    length: 48,
    inverse: [
      1.0, 0.28641495, 0.08203354, 0.023495633, 0.0067295013, 0.0019274298, 0.0005520448, 0.0001581139,
    ],
    scale: 1.0,
    cos: [-0.99233544, 0.6254155, -0.7557592, 0.44976443, 0.950397, 0.9958996, 0.9996634, 0.9999724],
    sin: [0.123573124, 0.7802919, -0.6548496, 0.89314723, 0.31103948, 0.09046535, 0.025943194, 0.0074312845],
  },
  {
    name: "dynamic, three times as long",
    spec: rope({ rope_type: "dynamic", factor: 2.5 }, 32),
    length: 100,
    inverse: [
      1.0, 0.24304433, 0.05907055, 0.014356764, 0.0034893302, 0.0008480619, 0.00020611666, 5.009549e-5,
    ],
    scale: 1.0,
    cos: [0.03982088, 0.47893676, 0.9067853, 0.14892071, 0.9409253, 0.9964776, 0.9997918, 0.9999877],
    sin: [-0.99920684, -0.8778494, -0.42159268, 0.98884916, 0.3386142, 0.08385953, 0.020404134, 0.004959433],
  },
  {
    name: "yarn",
    spec: rope(YARN, 128),
    length: 48,
    inverse: [1.0, 0.19764236, 0.025, 0.007905695, 0.0025, 0.00079056947, 0.00025, 7.905695e-5],
    scale: 1.138629436111989,
    cos: [-1.1299024, -1.1281792, 0.43899062, 1.0609286, 1.1307784, 1.1378435, 1.1385509, 1.1386216],
    sin: [0.14070399, 0.1539115, 1.0506018, 0.41340962, 0.13348131, 0.042298052, 0.013378589, 0.004230769],
  },
  {
    name: "yarn with mscale and betas",
    spec: rope(
      {
        ...YARN,
        factor: 40,
        rope_theta: 50_000,
        original_max_position_embeddings: 4096,
        mscale: 0.75,
        mscale_all_dim: 0.5,
        beta_fast: 16,
        beta_slow: 2,
      },
      163_840,
    ),
    length: 48,
    inverse: [
      1.0, 0.25860015, 0.066874035, 0.011673203, 0.0015652475, 2.8912375e-5, 7.476744e-6, 1.933487e-6,
    ],
    scale: 1.0778609950981304,
    cos: [-1.0695996, 0.98759687, -1.0778598, 0.9196679, 1.0749456, 1.07786, 1.0778608, 1.077861],
    sin: [
      0.13319464, -0.431783, -0.0016026339, 0.56213444, 0.079223104, 0.001464685, 0.00037876787, 9.794942e-5,
    ],
  },
  {
    name: "yarn without truncation",
    spec: rope(
      { ...YARN, factor: 32, rope_theta: 150_000, original_max_position_embeddings: 4096, truncate: false },
      131_072,
    ),
    length: 48,
    inverse: [
      1.0, 0.225418, 0.050813273, 0.0067949593, 0.00045648392, 1.8188337e-5, 4.0999785e-6, 9.2420896e-7,
    ],
    scale: 1.3465735902799727,
    cos: [-1.3362527, -0.525531, -0.9821752, 1.278485, 1.3462636, 1.3465731, 1.3465736, 1.3465736],
    sin: [
      0.1664003, -1.2397894, 0.92119074, 0.42277282, 0.028888175, 0.0011511208, 0.00025948338, 5.849222e-5,
    ],
  },
  {
    name: "yarn with its attention factor",
    spec: rope({ ...YARN, attention_factor: 1.25 }, 128),
    length: 48,
    inverse: [1.0, 0.19764236, 0.025, 0.007905695, 0.0025, 0.00079056947, 0.00025, 7.905695e-5],
    scale: 1.25,
    cos: [-1.2404193, -1.2385275, 0.48192877, 1.1646991, 1.241381, 1.2491372, 1.2499137, 1.2499914],
    sin: [0.1544664, 0.16896576, 1.1533623, 0.45384568, 0.14653726, 0.046435267, 0.014687163, 0.004644585],
  },
  {
    name: "yarn with the ratio of the lengths",
    spec: rope({ ...YARN, factor: null }, 192),
    length: 48,
    inverse: [
      1.0, 0.1844662, 0.016666668, 0.0052704625, 0.0016666667, 0.00052704633, 0.00016666666, 5.270463e-5,
    ],
    scale: 1.1791759469228056,
    cos: [-1.1701381, -0.8588681, 0.8355232, 1.1431829, 1.17556, 1.1788142, 1.1791397, 1.1791724],
    sin: [0.14571446, 0.80796134, 0.83207995, 0.28911766, 0.092274345, 0.02920659, 0.009236785, 0.0029209545],
  },
  {
    name: "llama3",
    spec: rope({
      rope_type: "llama3",
      rope_theta: 500_000,
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    }),
    length: 48,
    inverse: [
      1.0, 0.07940301, 0.004700754, 0.00091158313, 0.00017677668, 3.4281024e-5, 6.6478697e-6, 1.2891732e-6,
    ],
    scale: 1.0,
    cos: [-0.99233544, -0.8307464, 0.97569287, 0.9990823, 0.9999655, 0.9999987, 0.99999994, 1.0],
    sin: [
      0.123573124, -0.55665106, 0.21914242, 0.0428313, 0.008308408, 0.0016112074, 0.00031244988, 6.0591137e-5,
    ],
  },
  {
    name: "longrope, short",
    spec: rope(LONG),
    length: 32,
    inverse: [
      1.0, 0.3011693, 0.09090909, 0.027498068, 0.008333333, 0.0025298223, 0.00076923077, 0.00023424279,
    ],
    scale: 1.2649110640673518,
    cos: [1.1570677, -1.2599574, -1.1993343, 0.83249867, 1.2229377, 1.2610232, 1.2645514, 1.2648777],
    sin: [-0.5110717, 0.11183581, 0.40199158, 0.95233715, 0.32314622, 0.099098355, 0.030160405, 0.009185105],
  },
  {
    name: "longrope, long",
    spec: rope(LONG),
    length: 33,
    inverse: [
      0.6666667, 0.14054568, 0.033333335, 0.00843274, 0.0022222223, 0.00060233864, 0.00016666666, 4.684856e-5,
    ],
    scale: 1.2649110640673518,
    cos: [-1.0009624, -0.26977554, 0.6110096, 1.2191359, 1.2617142, 1.2646761, 1.264893, 1.2649096],
    sin: [0.7733526, -1.2358079, 1.1075501, 0.33720586, 0.08987344, 0.024379443, 0.0067461603, 0.0018962956],
  },
];

/** Units in the last place of a float32. */
function ulps(a: number, b: number): number {
  return Math.abs(a - b) / 2 ** (Math.floor(Math.log2(Math.abs(b))) - 23);
}

describe("inverse frequencies", () => {
  it.each(CASES)("are those of transformers but for the rounding of a power: $name", (test) => {
    const found = inverseFrequencies(test.spec, test.length);
    expect(found.length).toBe(test.inverse.length);
    test.inverse.forEach((value, i) => {
      expect(ulps(found[i]!, value), `pair ${i}: ${found[i]} and ${value}`).toBeLessThanOrEqual(2);
    });
    expect(attentionFactor(test.spec)).toBeCloseTo(test.scale, 14);
  });

  it("of the dynamic kind depend on a length above the trained one only", () => {
    const spec = rope({ rope_type: "dynamic", factor: 2 }, 32);
    const plain = rope({ rope_type: "default" }, 32);
    expect(inverseFrequencies(spec, 5)).toEqual(inverseFrequencies(plain, 5));
    expect(inverseFrequencies(spec, 32)).toEqual(inverseFrequencies(plain, 32));
    expect(inverseFrequencies(spec, 33)).not.toEqual(inverseFrequencies(plain, 33));
    expect(inverseFrequencies(spec, 48)).not.toEqual(inverseFrequencies(spec, 33));
  });

  it("of LongRoPE change once, above the original length", () => {
    const spec = rope(LONG);
    expect(inverseFrequencies(spec, 32)).toEqual(inverseFrequencies(spec, 1));
    expect(inverseFrequencies(spec, 33)).not.toEqual(inverseFrequencies(spec, 32));
    expect(inverseFrequencies(spec, 200)).toEqual(inverseFrequencies(spec, 33));
  });
});

describe("a table of cosines and sines", () => {
  it.each(CASES)("holds those of transformers: $name", ({ spec, length, cos, sin }) => {
    const positions = Int32Array.from({ length }, (_, i) => i);
    const table = ropeTable(spec, { positions, length });
    expect(table.cos.length).toBe(length * 8);
    const at = (values: Float32Array) => Array.from(values.subarray((length - 1) * 8));
    // An angle of 48 is known to half of 2⁻¹⁸, once a frequency may be 2 ulp off.
    at(table.cos).forEach((value, i) => {
      expect(Math.abs(value - cos[i]!)).toBeLessThan(1e-5);
    });
    at(table.sin).forEach((value, i) => {
      expect(Math.abs(value - sin[i]!)).toBeLessThan(1e-5);
    });
  });

  it("starts unturned, at the attention factor", () => {
    const table = ropeTable(rope(YARN, 128), { positions: [0], length: 1 });
    expect([...table.cos]).toEqual(Array.from({ length: 8 }, () => Math.fround(0.1 * Math.log(4) + 1)));
    expect([...table.sin]).toEqual(Array.from({ length: 8 }, () => 0));
  });

  it("takes any positions, as a cache of earlier tokens needs", () => {
    const spec = rope({ rope_type: "default" });
    const all = ropeTable(spec, { positions: [0, 1, 2, 3], length: 4 });
    const last = ropeTable(spec, { positions: [3], length: 4 });
    expect([...last.cos]).toEqual([...all.cos.subarray(24)]);
    expect([...last.sin]).toEqual([...all.sin.subarray(24)]);
  });
});
