import { add, base, call, div, type Expr, matmul, mul, norm, over, reshape, round } from "../expr.ts";
import { knownFields, readPatterned } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";

/** What a length is at least, so that nothing divides by zero. */
const LEAST = 1e-4;

/**
 * DeLoRA (Bini et al. 2025): `W + (B · diag(λ/r / (‖A_k‖·‖B_k‖)) · A) ⊙ w_norm`, with A r×in, B out×r, w_norm one
 * number a column, the lengths at least 1e-4; the change is rounded to W's type first.
 */
const DELORA: LinearKind<(module: string) => number> = {
  change: "DeLoRA",
  fields: {
    known: knownFields("r rank_pattern delora_lambda lambda_pattern module_dropout bias init_weights"),
  },
  parts: {
    delora_A: { shape: ["r", "in"] },
    delora_B: { shape: ["out", "r"] },
    delora_lambda: { shape: [1] },
    delora_w_norm: { shape: ["in"] },
  },
  settings: (config, report) =>
    readPatterned(config, { field: "r", fallback: 8, patterns: "rank_pattern" }, report),
  changes({ name, settings: rankOf, weight, dims, part }) {
    const rank = dims.r!;
    if (rankOf(name) !== rank) return rankMismatch(name, rankOf(name), rank);
    const a = part("delora_A");
    const b = part("delora_B");
    const atLeast = (of: Expr) => call("at-least", [of], { least: LEAST });
    const lengths = mul(reshape(atLeast(norm(a, 1, "lanes")), [1, rank]), atLeast(norm(b, 0, "sequence")));
    const size = div(reshape(over(rank, part("delora_lambda")), [1, 1]), lengths);
    const change = mul(matmul(mul(b, size), a), reshape(part("delora_w_norm"), [1, dims.in!]));
    return [{ rank, expr: add(base(weight.name), round(change)) }];
  },
};

export const parseDelora = (input: AdapterInput): ParsedAdapter => parseLinear(input, DELORA);
