import type { Report } from "../errors.ts";
import { add, base, concat, type Expr, matmul, reshape, scale, slice, transpose } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount, readNumber } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, parseLinear } from "./linear-kind.ts";
import { missing, rankMismatch, shapeMismatch } from "./part-shapes.ts";

interface Settings {
  readonly rank: number;
  readonly hybrid: number;
  readonly alpha: number;
}

/**
 * GraLoRA (Jung et al. 2025): W is cut into k×k blocks; block (i, j) gets the product of the i-th slice of r/k ranks of
 * A_j (in/k × r) and the j-th slice of B_i (r × out/k), transposed. With `hybrid_r` a plain B·A is added; the whole is
 * multiplied by alpha/(r + hybrid_r).
 */
const GRALORA: LinearKind<Settings> = {
  change: "GraLoRA",
  fields: {
    known: knownFields("r hybrid_r alpha gralora_dropout gralora_k fan_in_fan_out bias init_weights"),
  },
  parts: {
    gralora_A: { shape: ["k", "wide", "r"] },
    gralora_B: { shape: ["k", "r", "high"] },
    "gralora_A_general.weight": { shape: ["hybrid", "in"], optional: true },
    "gralora_B_general.weight": { shape: ["out", "hybrid"], optional: true },
  },
  transposes: true,
  settings: readSettings,
  changes(module) {
    const { name, settings, weight, dims, parts, part } = module;
    const { k, wide, high, r: rank } = dims as { k: number; wide: number; high: number; r: number };
    if (settings.rank !== rank) return rankMismatch(name, settings.rank, rank);
    if (k * wide !== dims.in || k * high !== dims.out || rank % k !== 0) {
      return shapeMismatch(
        name,
        `${k}×${k} blocks of [${high}, ${wide}] of rank ${rank} do not fill [${weight.shape}]`,
      );
    }
    const general = ["gralora_A_general.weight", "gralora_B_general.weight"] as const;
    const lacking = general.find((end) => !parts.has(end));
    if (settings.hybrid > 0 && lacking) return missing(name, lacking);
    const found = general.some((end) => parts.has(end)) ? (dims.hybrid ?? 0) : 0;
    if (settings.hybrid !== found) {
      return shapeMismatch(
        name,
        `its general factors have rank ${found}, but hybrid_r is ${settings.hybrid}`,
      );
    }
    const delta = blocks(module);
    const whole = found > 0 ? add(delta, matmul(part(general[1]), part(general[0]))) : delta;
    const factor = settings.alpha / (rank + found);
    return [
      {
        ...{ rank, alpha: settings.alpha, scale: factor },
        expr: add(base(weight.name), scale(factor, module.transposed ? transpose(whole) : whole)),
      },
    ];
  },
};

function readSettings(config: JsonObject, report: Report): Settings {
  return {
    rank: readCount(config, { field: "r", fallback: 32, least: 1 }, report),
    hybrid: readCount(config, { field: "hybrid_r", fallback: 0 }, report),
    alpha: readNumber(config, { field: "alpha", fallback: 64 }, report),
  };
}

function blocks({ dims, part }: LinearModule<Settings>): Expr {
  const { k, wide, high, r } = dims as { k: number; wide: number; high: number; r: number };
  const piece = r / k;
  const indices = Array.from({ length: k }, (_, i) => i);
  const left = (i: number, j: number) =>
    slice(reshape(slice(part("gralora_B"), 0, i, i + 1), [r, high]), 0, j * piece, (j + 1) * piece);
  const right = (i: number, j: number) =>
    slice(reshape(slice(part("gralora_A"), 0, j, j + 1), [wide, r]), 1, i * piece, (i + 1) * piece);
  const block = (i: number, j: number) => matmul(transpose(left(i, j)), transpose(right(i, j)));
  return concat(
    0,
    indices.map((i) =>
      concat(
        1,
        indices.map((j) => block(i, j)),
      ),
    ),
  );
}

export const parseGralora = (input: AdapterInput): ParsedAdapter => parseLinear(input, GRALORA);
