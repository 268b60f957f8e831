import { add, base, type Expr, kron, matmul, permute, reshape, scale, transpose } from "../expr.ts";
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
import { coreShape } from "./loha.ts";

/**
 * LoKr (Edalati 2022, LyCORIS): `W' = W + s·(w1 ⊗ w2)` with `s = alpha/r`, w1 (a×c), w2 (b×d[×kernel]), out = a·b,
 * in = c·d. Either may be stored as two factors, `w = w_a·w_b`, and w2 of a convolution as a Tucker core with two
 * sides. Which keys a module has tells the case; `alpha/r` applies to all of them.
 */
export function parseLokr(input: AdapterInput): ParsedAdapter {
  return parseModules(input, LOKR);
}

const LOKR: ModuleKind = {
  name: "LoKr",
  part: /lokr_(w[12](_[ab])?|t2)/,
  fields: {
    known: knownFields(
      "r alpha rank_pattern alpha_pattern rank_dropout module_dropout use_effective_conv2d init_weights " +
        "decompose_both decompose_factor rank_dropout_scale",
    ),
  },
  layers: ["linear", "convolution"],
  read(config, { report }) {
    const rankOf = readPatterned(config, { field: "r", fallback: 8, patterns: "rank_pattern" }, report);
    const alphaOf = readPatterned(config, { field: "alpha", fallback: 8, patterns: "alpha_pattern" }, report);
    return (adapted) => {
      const r = rankOf(adapted.module);
      const problem = rankMisfit(adapted, r) ?? misfit(adapted, r);
      if (problem) return problem;
      const alpha = alphaOf(adapted.module);
      const by = alpha / r;
      const change = reshape(scale(by, product(adapted, r)), adapted.weight.shape);
      const expr = add(base(adapted.weight.name), change);
      return [weightTarget(adapted, { change: "LoKr", expr, rank: r, alpha, scale: by })];
    };
  },
};

/** Ranks show in the factors only; a module without factors has the config's word alone. */
function rankMisfit(adapted: Adapted, r: number) {
  const shown = ["lokr_w1_b", "lokr_w2_b"].filter((part) => adapted.parts.has(part));
  const other = shown.find((part) => dimOf(adapted, part, 0) !== r);
  return other === undefined ? null : rankProblem(adapted, dimOf(adapted, other, 0), r);
}

function misfit(adapted: Adapted, r: number) {
  const { out, parts, weight } = adapted;
  const [, channels = 1, ...kernel] = weight.shape;
  const rows1 = dimOf(adapted, parts.has("lokr_w1") ? "lokr_w1" : "lokr_w1_a", 0);
  const columns1 = dimOf(adapted, parts.has("lokr_w1") ? "lokr_w1" : "lokr_w1_b", 1);
  const first = parts.has("lokr_w1")
    ? { lokr_w1: [null, null] }
    : { lokr_w1_a: [null, r], lokr_w1_b: [r, null] };
  const problem = shapeProblem(adapted, first);
  if (problem) return problem;
  const [rows, columns] = [out / rows1, channels / columns1];
  if (!Number.isInteger(rows) || !Number.isInteger(columns)) {
    return {
      code: "SHAPE_MISMATCH",
      subject: adapted.module,
      message: `module ${adapted.module}: w1 is [${rows1},${columns1}], which does not divide the base weight [${weight.shape}]. The adapter was trained on another base.`,
    };
  }
  if (parts.has("lokr_w2")) return shapeProblem(adapted, { lokr_w2: [rows, columns, ...kernel] });
  if (parts.has("lokr_t2")) {
    return shapeProblem(adapted, {
      lokr_t2: coreShape(adapted, r),
      lokr_w2_a: [r, rows],
      lokr_w2_b: [r, columns],
    });
  }
  return shapeProblem(adapted, { lokr_w2_a: [rows, r], lokr_w2_b: [r, (columns * adapted.in) / channels] });
}

/** w1 ⊗ w2, of which the dimensions are still apart from the weight's. */
function product(adapted: Adapted, r: number): Expr {
  const { parts } = adapted;
  const part = (name: string) => partOf(adapted, name);
  const left = parts.has("lokr_w1") ? part("lokr_w1") : matmul(part("lokr_w1_a"), part("lokr_w1_b"));
  const named = parts.has("lokr_w1") ? ["lokr_w1", "lokr_w1"] : ["lokr_w1_a", "lokr_w1_b"];
  const [rows, columns] = [dimOf(adapted, named[0]!, 0), dimOf(adapted, named[1]!, 1)];
  if (parts.has("lokr_t2")) return kron(reshape(left, [rows, columns, 1, 1]), tucker(adapted, r));
  if (!parts.has("lokr_w2")) return kron(left, matmul(part("lokr_w2_a"), part("lokr_w2_b")));
  const dims = parts.get("lokr_w2")!.shape.length;
  if (dims === 2) return kron(left, part("lokr_w2"));
  // torch.kron puts the missing dimension of a Conv1d in front, and training saw the same.
  const shape = dims === 3 ? [1, rows, columns] : [rows, columns, 1, 1];
  return kron(reshape(left, shape), part("lokr_w2"));
}

/** `Σᵢⱼ t[i,j,·]·a[i,p]·b[j,q]` → (p, q, kernel): the output side first and nothing fused, as torch does it here. */
function tucker(adapted: Adapted, r: number): Expr {
  const [core, a, b] = [
    partOf(adapted, "lokr_t2"),
    partOf(adapted, "lokr_w2_a"),
    partOf(adapted, "lokr_w2_b"),
  ];
  const [p, q] = [dimOf(adapted, "lokr_w2_a", 1), dimOf(adapted, "lokr_w2_b", 1)];
  const [, , height, width] = coreShape(adapted, r) as [number, number, number, number];
  const kernel = height * width;
  const inner = matmul(transpose(a), reshape(core, [r, r * kernel]), "unfused");
  const sides = permute(reshape(inner, [p, r, kernel]), [1, 0, 2]);
  const whole = matmul(transpose(b), reshape(sides, [r, p * kernel]), "unfused");
  return permute(reshape(whole, [q, p, height, width]), [1, 0, 2, 3]);
}
