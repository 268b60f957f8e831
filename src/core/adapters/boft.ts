import type { Finding } from "../errors.ts";
import { base, call, type Expr, mul, permute, reshape, scale, slice, sub } from "../expr.ts";
import { knownFields, readCount } from "./config.ts";
import {
  type Adapted,
  dimOf,
  type Made,
  type ModuleKind,
  parseModules,
  partOf,
  rankProblem,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";

/**
 * BOFT (Liu 2023): `W' = (W·M₁ᵀ·M₂ᵀ·…) ⊙ s` with `boft_s` (out×1). Each butterfly factor Mᵢ has rotations of b columns on its
 * diagonal, between two changes of the columns' order; a single factor leaves the order. `boft_R` (factors × n × b × b):
 * the rotations are Cayley's of `(R-Rᵀ)/2`. PEFT multiplies the factors into one matrix first; here each one turns the
 * rows in its turn, which comes to the same but for roundings, and needs no width² numbers.
 */
export function parseBoft(input: AdapterInput): ParsedAdapter {
  return parseModules(input, BOFT);
}

const BOFT: ModuleKind = {
  name: "BOFT",
  part: /boft_[Rs]/,
  fields: {
    known: knownFields(
      // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
      "boft_block_size boft_block_num boft_n_butterfly_factor boft_dropout fan_in_fan_out bias init_weights",
    ),
  },
  layers: ["linear", "convolution"],
  read(config, { report }) {
    const size = readCount(config, { field: "boft_block_size", fallback: 4 }, report);
    const blocks = readCount(config, { field: "boft_block_num", fallback: 0 }, report);
    const factors = readCount(config, { field: "boft_n_butterfly_factor", fallback: 1, least: 1 }, report);
    return (adapted) => makeTarget(adapted, { size: blocks > 0 ? adapted.in / blocks : size, factors });
  },
};

function makeTarget(adapted: Adapted, { size, factors: stated }: { size: number; factors: number }): Made {
  const { weight, out, parts, layer } = adapted;
  const width = adapted.in;
  const factors = dimOf(adapted, "boft_R", 0);
  const problem =
    shapeProblem(adapted, {
      boft_R: [null, width / size, size, size],
      boft_s: layer === "convolution" ? [1, out] : [out, 1],
    }) ??
    // Without its CUDA extension PEFT trains a single factor whatever the config says.
    (factors === 1 ? null : rankProblem(adapted, factors, stated)) ??
    unevenProblem(adapted, { size, factors });
  if (problem) return problem;
  const stored = partOf(adapted, "boft_R");
  const turned = Array.from({ length: factors }, (_, i) => i).reduce<Expr>(
    (rows, i) =>
      butterfly(rows, rotations(stored, { i, shape: parts.get("boft_R")!.shape }), {
        i,
        width,
        size,
        factors,
      }),
    weight.shape.length === 2 ? base(weight.name) : reshape(base(weight.name), [out, width]),
  );
  const scaled = mul(
    turned,
    layer === "convolution" ? reshape(partOf(adapted, "boft_s"), [out, 1]) : partOf(adapted, "boft_s"),
  );
  return [weightTarget(adapted, { change: "BOFT", expr: reshape(scaled, weight.shape) })];
}

function rotations(stored: Expr, { i, shape }: { i: number; shape: readonly number[] }): Expr {
  const blocks = reshape(slice(stored, 0, i, i + 1), shape.slice(1));
  return call("cayley", [scale(0.5, sub(blocks, permute(blocks, [0, 2, 1])))]);
}

interface Factor {
  readonly i: number;
  readonly width: number;
  readonly size: number;
  readonly factors: number;
}

/** Rows times one factor: the columns in the factor's order, turned, and back. */
function butterfly(rows: Expr, turns: Expr, { i, width, size, factors }: Factor): Expr {
  if (factors === 1) return call("turn", [rows, turns]);
  // Twice as many columns swap places in every further factor.
  const order = { group: width / Math.floor(width / size / 2 ** i), half: size / 2 };
  const sorted = call("butterfly", [rows], { ...order, back: 0 });
  return call("butterfly", [call("turn", [sorted, turns])], { ...order, back: 1 });
}

/** Several factors pair up halves of blocks, so both have to be even. */
function unevenProblem(
  adapted: Adapted,
  { size, factors }: Pick<Factor, "size" | "factors">,
): Finding | null {
  if (factors === 1 || (size % 2 === 0 && (adapted.in / size) % 2 ** (factors - 1) === 0)) return null;
  return {
    code: "SHAPE_MISMATCH",
    subject: adapted.module,
    message: `module ${adapted.module}: ${adapted.in} inputs in blocks of ${size} cannot have ${factors} butterfly factors. The adapter was trained on another base.`,
  };
}
