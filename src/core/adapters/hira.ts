import { add, base, matmul, mul, round } from "../expr.ts";
import { knownFields, readPatterned } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, laidOut, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";

/**
 * HiRA (Huang et al. 2025): `W + W ⊙ (B·A)` with A r×in, B out×r; the product of the factors, the product with W and
 * the sum are each rounded to W's type.
 */
const HIRA: LinearKind<(module: string) => number> = {
  change: "HiRA",
  fields: { known: knownFields("r rank_pattern hira_dropout fan_in_fan_out init_weights") },
  parts: { hira_A: { shape: ["r", "in"] }, hira_B: { shape: ["out", "r"] } },
  transposes: true,
  settings: (config, report) =>
    readPatterned(config, { field: "r", fallback: 32, patterns: "rank_pattern" }, report),
  changes(module) {
    const { name, settings: rankOf, weight, dims, part } = module;
    const rank = dims.r!;
    if (rankOf(name) !== rank) return rankMismatch(name, rankOf(name), rank);
    const { left, right } = laidOut(module, { left: part("hira_B"), right: part("hira_A") });
    const factor = round(matmul(left, right));
    return [{ rank, expr: add(base(weight.name), round(mul(base(weight.name), factor))) }];
  },
};

export const parseHira = (input: AdapterInput): ParsedAdapter => parseLinear(input, HIRA);
