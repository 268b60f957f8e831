import { add, base, matmul, mul, round } from "../expr.ts";
import { knownFields, readPatterned } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, laidOut, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";

/**
 * HiRA (Huang et al. 2025): `W + W ⊙ (B·A)` with A r×in, B out×r; the product of the factors, the product with W and
 * the sum are each rounded to W's type.
 */
const HIRA: LinearKind<(module: string) => readonly number[]> = {
  change: "HiRA",
  fields: { known: knownFields("r rank_pattern hira_dropout fan_in_fan_out init_weights") },
  parts: { hira_A: { shape: ["r", "in"] }, hira_B: { shape: ["out", "r"] } },
  transposes: true,
  settings(config, report) {
    const field = { field: "r", fallback: 32, patterns: "rank_pattern" } as const;
    const patterned = readPatterned(config, field, report);
    const plain = readPatterned({ ...config, rank_pattern: null }, field, report);
    // PEFT 0.21 reads rank_pattern and makes the layers with `r`. Nothing is scaled by it, so either is right.
    return (module) => [patterned(module), plain(module)];
  },
  changes(module) {
    const { name, settings: ranksOf, weight, dims, part } = module;
    const rank = dims.r!;
    if (!ranksOf(name).includes(rank)) return rankMismatch(name, ranksOf(name)[0]!, rank);
    const { left, right } = laidOut(module, { left: part("hira_B"), right: part("hira_A") });
    const factor = round(matmul(left, right));
    return [{ rank, expr: add(base(weight.name), round(mul(base(weight.name), factor))) }];
  },
};

export const parseHira = (input: AdapterInput): ParsedAdapter => parseLinear(input, HIRA);
