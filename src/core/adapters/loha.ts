import { add, base, type Expr, matmul, mul, permute, reshape, scale, transpose } from "../expr.ts";
import { knownFields, readPatterned } from "./config.ts";
import {
  type Adapted,
  dimOf,
  type ModuleKind,
  parseModules,
  partOf,
  rankProblem,
  shapeProblem,
  weightTarget,
} from "./frame.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";

/**
 * LoHa (Hyeon-Woo 2021, LyCORIS): `W' = W + s·((w1a·w1b) ⊙ (w2a·w2b))` with `hada_w*_a` (out×r), `hada_w*_b` (r×in) and
 * `s = alpha/r`. Convolutions are flattened behind the outputs, or have a core (`use_effective_conv2d`): see `tucker`.
 */
export function parseLoha(input: AdapterInput): ParsedAdapter {
  return parseModules(input, LOHA);
}

const LOHA: ModuleKind = {
  name: "LoHa",
  part: /hada_(w[12]_[ab]|t[12])/,
  fields: {
    known: knownFields(
      "r alpha rank_pattern alpha_pattern rank_dropout module_dropout use_effective_conv2d init_weights",
    ),
  },
  layers: ["linear", "convolution"],
  read(config, { report }) {
    const rankOf = readPatterned(config, { field: "r", fallback: 8, patterns: "rank_pattern" }, report);
    const alphaOf = readPatterned(config, { field: "alpha", fallback: 8, patterns: "alpha_pattern" }, report);
    return (adapted) => {
      const rank = dimOf(adapted, "hada_w1_b", 0);
      const problem = misfit(adapted, rank) ?? rankProblem(adapted, rank, rankOf(adapted.module));
      if (problem) return problem;
      const alpha = alphaOf(adapted.module);
      const by = alpha / rank;
      const change = reshape(
        scale(by, mul(factor(adapted, "1"), factor(adapted, "2"))),
        adapted.weight.shape,
      );
      const expr = add(base(adapted.weight.name), change);
      return [weightTarget(adapted, { change: "LoHa", expr, rank, alpha, scale: by })];
    };
  },
};

const hasCore = ({ parts }: Adapted) => parts.has("hada_t1") || parts.has("hada_t2");

function misfit(adapted: Adapted, r: number) {
  const { out } = adapted;
  if (!hasCore(adapted)) {
    const [a, b] = [
      [out, r],
      [r, adapted.in],
    ];
    return shapeProblem(adapted, { hada_w1_b: b, hada_w1_a: a, hada_w2_b: b, hada_w2_a: a });
  }
  const channels = adapted.weight.shape[1]!;
  const core = coreShape(adapted, r);
  return shapeProblem(adapted, {
    hada_w1_b: [r, channels],
    hada_w1_a: [r, out],
    hada_t1: core,
    hada_w2_b: [r, channels],
    hada_w2_a: [r, out],
    hada_t2: core,
  });
}

/** Shape of a Tucker core of rank r: a kernel of one dimension gets a second one of size 1. */
export function coreShape({ weight }: Adapted, r: number): number[] {
  const [, , height = 1, width = 1] = weight.shape;
  return [r, r, height, width];
}

function factor(adapted: Adapted, which: "1" | "2"): Expr {
  const [a, b] = [partOf(adapted, `hada_w${which}_a`), partOf(adapted, `hada_w${which}_b`)];
  return hasCore(adapted) ? tucker(adapted, { core: partOf(adapted, `hada_t${which}`), a, b }) : matmul(a, b);
}

/** `Σᵢⱼ t[i,j,·]·b[j,c]·a[i,o]`, the input side first, as a matrix of (out, channels·kernel). */
function tucker(adapted: Adapted, { core, a, b }: Record<"core" | "a" | "b", Expr>): Expr {
  const r = dimOf(adapted, "hada_w1_b", 0);
  const channels = adapted.weight.shape[1]!;
  const kernel = adapted.in / channels;
  const inner = matmul(transpose(b), reshape(permute(core, [1, 0, 2, 3]), [r, r * kernel]));
  const sides = permute(reshape(inner, [channels, r, kernel]), [1, 0, 2]);
  return matmul(transpose(a), reshape(sides, [r, channels * kernel]));
}
