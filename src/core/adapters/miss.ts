import type { Finding } from "../errors.ts";
import { add, base, concat, type Expr, matmul, repeat, reshape, slice, transpose } from "../expr.ts";
import type { Json } from "../json.ts";
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
import { badField } from "./module-names.ts";

/**
 * MiSS (Kang 2024), M = `miss_block`. Default: `W'[o, q·r+k] = W[o, q·r+k] + M[k, o]` for every block q of r input columns,
 * the last of which may be short; "mini": M has `mini_r` columns, repeated along the outputs; "bat": W in r×r blocks,
 * `W'ᵢⱼ = Wᵢⱼ + (Wᵢⱼ·Mᵢ + Mᵢ)` with M (out/r × r × r).
 */
export function parseMiss(input: AdapterInput): ParsedAdapter {
  return parseModules(input, MISS);
}

/** The predecessor of MiSS: PEFT of today cannot load it, and its conversion only renames. */
export function parseBone(): ParsedAdapter {
  const message =
    'adapter_config.json: BONE was renamed to MISS. Convert the adapter: put "miss_" for "bone_" in the keys of the ' +
    "weights, and MISS for peft_type, as PEFT's scripts/convert-bone-to-miss.py does.";
  return {
    targets: [],
    warnings: [],
    problems: [{ code: "UNSUPPORTED_KIND", subject: "peft_type", message }],
  };
}

/** What `init_weights` says about the formula: any other true value is the default. */
const FORMS: ReadonlySet<Json | undefined> = new Set<Json | undefined>([
  undefined,
  null,
  true,
  false,
  "bat",
  "mini",
]);

const MISS: ModuleKind = {
  name: "MiSS",
  part: /miss_block/,
  fields: { known: knownFields("r miss_dropout mini_r bias init_weights") },
  layers: ["linear"],
  read(config, { report }) {
    const rank = readCount(config, { field: "r", fallback: 64, least: 1 }, report);
    const mini = readCount(config, { field: "mini_r", fallback: 1, least: 1 }, report);
    const form = config.init_weights;
    if (!FORMS.has(form)) report(badField("init_weights", form, 'true, false, "bat" or "mini"'));
    return (adapted) => {
      if (form === "bat") return bat(adapted, rank);
      return shared(adapted, { rank, mini: form === "mini" ? mini : null });
    };
  },
};

/** The change of a whole row of blocks is the same in each of them. */
function shared(adapted: Adapted, { rank, mini }: { rank: number; mini: number | null }): Made {
  const { out, weight } = adapted;
  const problem =
    shapeProblem(adapted, { miss_block: [null, mini ?? out] }) ??
    rankProblem(adapted, dimOf(adapted, "miss_block", 0), rank) ??
    (mini !== null && out % mini !== 0 ? indivisible(adapted, `mini_r = ${mini}`) : null);
  if (problem) return problem;
  const block = transpose(partOf(adapted, "miss_block"));
  const rows = mini === null ? block : repeat(block, 0, out);
  const expr = add(base(weight.name), repeat(rows, 1, adapted.in));
  return [weightTarget(adapted, { change: "MiSS", expr, rank })];
}

/** The blocks of one row of blocks stand below each other for the product, and beside each other in the weight. */
function bat(adapted: Adapted, r: number): Made {
  const { out, weight } = adapted;
  if (out % r !== 0 || adapted.in % r !== 0) return indivisible(adapted, `r = ${r}`);
  const problem = shapeProblem(adapted, { miss_block: [out / r, r, r] });
  if (problem) return problem;
  const blocks = partOf(adapted, "miss_block");
  const changes = Array.from({ length: out / r }, (_, i): Expr => {
    const block = reshape(slice(blocks, 0, i, i + 1), [r, r]);
    const rows = slice(base(weight.name), 0, i * r, (i + 1) * r);
    const tall = reshape(rows, [adapted.in, r]);
    return add(reshape(matmul(tall, block), [r, adapted.in]), repeat(block, 1, adapted.in));
  });
  const expr = add(base(weight.name), concat(0, changes));
  return [weightTarget(adapted, { change: "MiSS", expr, rank: r })];
}

function indivisible({ module, weight }: Adapted, setting: string): Finding {
  return {
    code: "SHAPE_MISMATCH",
    subject: module,
    message: `module ${module}: the base weight [${weight.shape}] cannot be cut into blocks of ${setting}. The adapter was trained on another base.`,
  };
}
