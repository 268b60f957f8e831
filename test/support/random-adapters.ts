import type { Dtype } from "../../src/core/dtype.ts";
import type { JsonObject } from "../../src/core/json.ts";

/** A tensor of an adapter before it has a type: random numbers, or the ones that are given. */
export interface Part {
  readonly shape: readonly number[];
  /** Default: random numbers around ±`size`. */
  readonly values?: readonly number[];
  readonly size?: number;
  /** Default: the type that the test draws. */
  readonly dtype?: Dtype;
}

/** An adapter for one linear layer. */
export interface RandomAdapter {
  readonly rows: number;
  readonly columns: number;
  readonly config: JsonObject;
  /** By the end of the key. */
  readonly parts: Readonly<Record<string, Part>>;
  /** By the whole key. */
  readonly shared?: Readonly<Record<string, Part>>;
  /** The base has a bias. */
  readonly bias?: boolean;
}

export interface Wanted {
  /** Sizes that a kind with blocks rounds up. */
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
  /** A small number for what the kind has to choose beside. */
  readonly choice: number;
}

type Generator = (wanted: Wanted) => RandomAdapter;

const up = (size: number, block: number) => Math.ceil(size / block) * block;
const part = (...shape: number[]): Part => ({ shape });

/** Whole numbers from 0 on, a few of them more than once where there are more places than numbers. */
const counted = (count: number, below: number, step: number) =>
  Array.from({ length: count }, (_, i) => (i * step) % below);

/** Places in a weight, all of them different. */
function places({ rows, columns, rank }: Wanted): number[] {
  const size = rows * columns;
  const count = Math.min(size, rank * 3);
  return counted(count, size, size % 7 === 0 ? 1 : 7);
}

/** By `peft_type`, and by variants of one where the arithmetic has several. */
export const RANDOM_ADAPTERS: Readonly<Record<string, Generator>> = {
  LORA: ({ rows, columns, rank, choice }) => ({
    rows,
    columns,
    config: { r: rank, lora_alpha: 2 * choice + 1, use_rslora: choice % 2 === 0 },
    parts: { "lora_A.weight": part(rank, columns), "lora_B.weight": part(rows, rank) },
  }),
  "LORA with use_dora": ({ rows, columns, rank, choice }) => ({
    rows,
    columns,
    config: { r: rank, lora_alpha: choice + 1, use_dora: true },
    parts: {
      "lora_A.weight": part(rank, columns),
      "lora_B.weight": part(rows, rank),
      lora_magnitude_vector: part(rows),
    },
  }),
  ADALORA: ({ rows, columns, rank, choice }) => ({
    rows,
    columns,
    config: { init_r: rank, lora_alpha: choice + 2 },
    parts: { lora_A: part(rank, columns), lora_B: part(rows, rank), lora_E: part(rank, 1) },
  }),
  LOHA: ({ rows, columns, rank, choice }) => ({
    rows,
    columns,
    config: { r: rank, alpha: choice + 1 },
    parts: {
      hada_w1_a: part(rows, rank),
      hada_w1_b: part(rank, columns),
      hada_w2_a: part(rows, rank),
      hada_w2_b: part(rank, columns),
    },
  }),
  LOKR: ({ rows, columns, rank, choice }) => {
    const [out, width] = [up(rows, choice + 1), up(columns, choice + 1)];
    const [high, wide] = [out / (choice + 1), width / (choice + 1)];
    const whole = { lokr_w2: part(high, wide) };
    const factors = { lokr_w2_a: part(high, rank), lokr_w2_b: part(rank, wide) };
    return {
      rows: out,
      columns: width,
      config: { r: rank, alpha: 3 },
      parts: { lokr_w1: part(choice + 1, choice + 1), ...(choice % 2 === 0 ? whole : factors) },
    };
  },
  IA3: ({ rows, columns, choice }) => {
    const inputs = choice % 2 === 0;
    return {
      rows,
      columns,
      config: { feedforward_modules: inputs ? ["q_proj"] : [] },
      parts: { ia3_l: inputs ? part(1, columns) : part(rows, 1) },
      bias: true,
    };
  },
  OFT: ({ rows, columns, choice }) => {
    const size = choice + 2;
    const width = up(columns, size);
    return {
      rows,
      columns: width,
      config: { r: 0, oft_block_size: size, use_cayley_neumann: choice % 2 === 0, peft_version: "0.21.0" },
      parts: { "oft_R.weight": { shape: [width / size, (size * (size - 1)) / 2], size: 0.02 } },
    };
  },
  BOFT: ({ rows, columns, choice }) => {
    const size = choice + 2;
    const width = up(columns, size);
    return {
      rows,
      columns: width,
      config: { boft_block_size: size },
      parts: { boft_R: { shape: [1, width / size, size, size], size: 0.05 }, boft_s: part(rows, 1) },
    };
  },
  HRA: ({ rows, columns, rank }) => {
    // More directions than columns would have to repeat themselves.
    const r = Math.min(rank, columns, 8);
    return { rows, columns, config: { r }, parts: { hra_u: part(columns, r) } };
  },
  MISS: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: { miss_block: part(rank, rows) },
  }),
  VERA: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: { vera_lambda_b: part(rows), vera_lambda_d: part(rank) },
    shared: { "base_model.vera_A": part(rank, columns + 2), "base_model.vera_B": part(rows + 1, rank) },
  }),
  PVERA: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: { pvera_lambda_b: part(rows), pvera_lambda_d: part(2 * rank) },
    shared: { "base_model.pvera_A": part(2 * rank, columns), "base_model.pvera_B": part(rows, rank) },
  }),
  SHIRA: (wanted) => {
    const { rows, columns } = wanted;
    const flat = places(wanted);
    const pairs = [...flat.map((at) => Math.floor(at / columns)), ...flat.map((at) => at % columns)];
    return {
      rows,
      columns,
      config: { r: 1 },
      parts: {
        shira_weight: part(flat.length),
        shira_indices: { shape: [2, flat.length], values: pairs, dtype: "I32" },
      },
    };
  },
  SUPERTUNING: (wanted) => {
    const flat = places(wanted);
    return {
      rows: wanted.rows,
      columns: wanted.columns,
      config: {},
      parts: {
        supertuning_values: part(flat.length),
        supertuning_indices: { shape: [flat.length], values: flat, dtype: "I64" },
      },
    };
  },
  ROAD: ({ rows, columns, choice }) => {
    const group = 2 * (1 + (choice % 3));
    const out = up(rows, group);
    const variant = (["road_1", "road_2", "road_4"] as const)[choice % 3]!;
    const count = { road_1: out / 2, road_2: out, road_4: 2 * out }[variant];
    return {
      rows: out,
      columns,
      config: { variant, group_size: group },
      parts: { road_theta: { shape: [count], size: 2 }, road_alpha: { shape: [count], size: 1 } },
      bias: choice % 2 === 0,
    };
  },
  DELORA: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: {
      delora_A: part(rank, columns),
      delora_B: part(rows, rank),
      delora_lambda: part(1),
      delora_w_norm: part(columns),
    },
  }),
  HIRA: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: { hira_A: part(rank, columns), hira_B: part(rows, rank) },
  }),
  GLORA: ({ rows, columns, rank }) => ({
    rows,
    columns,
    config: { r: rank },
    parts: {
      "glora_A.Xd": part(rows, rank),
      "glora_A.Xu": part(rank, columns),
      "glora_B.Xd": part(rows, rank),
      "glora_B.Xu": part(rank, columns),
      "glora_C.zeros": { shape: [columns, 1], size: 0 },
      "glora_D.zeros": { shape: [rows], size: 0 },
      "glora_E.zeros": { shape: [rows], size: 0 },
    },
  }),
  VBLORA: ({ rows, columns, rank, choice }) => {
    const length = choice + 1;
    const [out, width] = [up(rows, length), up(columns, length)];
    const vectors = choice + 3;
    const topk = 1 + (choice % 3);
    return {
      rows: out,
      columns: width,
      config: { r: rank, topk },
      parts: {
        vblora_logits_A: { shape: [rank, width / length, vectors], size: 2 },
        vblora_logits_B: { shape: [out / length, rank, vectors], size: 2 },
      },
      shared: { "base_model.vblora_vector_bank": part(vectors, length) },
    };
  },
  "VBLORA with save_only_topk_weights": ({ rows, columns, rank, choice }) => {
    const vectors = choice + 3;
    const stored = (name: string, a: number, b: number) => ({
      [`vblora_logits_${name}_topk_weights`]: { shape: [a, b, 1], size: 1 },
      [`vblora_logits_${name}_topk_indices`]: {
        shape: [a, b, 2],
        values: counted(a * b * 2, vectors, 2),
        dtype: "U8" as const,
      },
    });
    return {
      rows,
      columns,
      config: { r: rank, topk: 2, save_only_topk_weights: true },
      parts: { ...stored("A", rank, columns), ...stored("B", rows, rank) },
      shared: { "base_model.vblora_vector_bank": part(vectors, 1) },
    };
  },
  RANDLORA: ({ rows, columns, rank, choice }) => {
    const [small, large] = [Math.min(rows, columns), Math.max(rows, columns)];
    const bases = Math.ceil(small / rank);
    return {
      rows,
      columns,
      config: { r: rank, randlora_alpha: choice + 1 },
      parts: { randlora_lambda: part(rank, bases), randlora_gamma: part(bases, small) },
      shared: {
        "base_model.randlora_A": part(rank, 1, small + 1),
        "base_model.randlora_B": part(large + 2, bases + 1, rank),
      },
    };
  },
  C3A: ({ rows, columns, choice }) => {
    const size = choice + 1;
    const [out, width] = [up(rows, size), up(columns, size)];
    return {
      rows: out,
      columns: width,
      config: { block_size: size },
      parts: { c3a_kernel: { shape: [out / size, width / size, size], size: 3 } },
    };
  },
  GRALORA: ({ rows, columns, rank, choice }) => {
    const k = choice + 1;
    const [out, width, r] = [up(rows, k), up(columns, k), up(rank, k)];
    const hybrid = choice % 2 === 0 ? 0 : 3;
    const general = {
      "gralora_A_general.weight": part(hybrid, width),
      "gralora_B_general.weight": part(out, hybrid),
    };
    return {
      rows: out,
      columns: width,
      config: { r, hybrid_r: hybrid, alpha: 5, gralora_k: k },
      parts: {
        gralora_A: part(k, width / k, r),
        gralora_B: part(k, r, out / k),
        ...(hybrid > 0 && general),
      },
    };
  },
  BEFT: ({ rows, columns }) => ({
    rows,
    columns,
    config: {},
    parts: { beft_bias: part(1, rows) },
    bias: true,
  }),
  TINYLORA: ({ rows, columns, rank, choice }) => {
    const r = Math.min(rank, rows, columns, 5);
    const u = choice + 1;
    return {
      rows,
      columns,
      config: { r, u },
      parts: { tinylora_A: part(r, columns), tinylora_B: part(rows, r), tinylora_P: part(u, r, r) },
      shared: { "base_model.tinylora_v.0": part(u) },
    };
  },
  PEANUT: ({ rows, columns, rank, choice }) => ({
    rows,
    columns,
    config: { r: rank, scaling: choice + 0.1 },
    parts: { "peanut_A.weight": part(rank, rows), "peanut_B.weight": part(rows, rank) },
  }),
  DEFT: ({ rows, columns, rank }) => {
    const r = Math.min(rank, rows);
    return { rows, columns, config: { r }, parts: { deft_P: part(rows, r), deft_R: part(r, columns) } };
  },
};

/** `peft_type` of a generator's name. */
export const peftTypeOf = (name: string): string => name.split(" ")[0]!;
