import type { Finding, Report } from "../errors.ts";
import { lowRankUpdate, matmul, reshape } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount, readNumber } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, laidOut, parseLinear } from "./linear-kind.ts";
import { badField } from "./module-names.ts";
import { definitionOrder } from "./module-order.ts";
import { missing, rankMismatch, shapeMismatch } from "./part-shapes.ts";
import { groupByModule, read } from "./parts.ts";

interface Settings {
  readonly rank: number;
  /** 0: a vector for each module, 1: one for all of them. */
  readonly tying: number;
}

/** torch sums products into so few columns without fusing, and so it does with a vector times a matrix. */
const NARROW = 8;

/** The adapted modules, in the order in which the model defines them; `null` where that is not known. */
type Order = (modules: readonly string[]) => readonly string[] | null;

/**
 * TinyLoRA (PEFT 0.21): `W + B·R·A` with R = Σ_i v_i·P_i, where A (r×in), B (out×r) and P (u×r×r) are the module's own and
 * v (u) is shared by a group of modules: `tinylora_v.<n>` belongs to the n-th group of the adapted modules, in the order
 * in which the model defines them.
 */
const kindOf = (modules: readonly string[], order: Order): LinearKind<Settings> => ({
  change: "TinyLoRA",
  fields: {
    known: knownFields(
      "r u weight_tying projection_seed save_projection init_v_bound tinylora_dropout fan_in_fan_out bias init_weights",
    ),
  },
  parts: {
    tinylora_A: { shape: ["r", "in"] },
    tinylora_B: { shape: ["out", "r"] },
    tinylora_P: { shape: ["u", "r", "r"], optional: true },
  },
  shared: /tinylora_v\.\d+/,
  transposes: true,
  settings: readSettings,
  changes(module) {
    const { input, name, settings, weight, dims, parts, shared, part } = module;
    const rank = dims.r!;
    // A rank above the weight's own is cut down to it.
    const stated = Math.min(settings.rank, dims.out!, dims.in!);
    if (stated !== rank) return rankMismatch(name, stated, rank);
    if (!parts.has("tinylora_P")) return unsaved(name);
    const group = groupOf(module, order(modules));
    if (typeof group === "object") return group;
    const v = shared.get(`tinylora_v.${group}`);
    if (!v) return missing(name, `base_model.tinylora_v.${group}`);
    if (v.shape.length !== 1 || v.shape[0] !== dims.u) {
      return shapeMismatch(
        name,
        `tinylora_v.${group} is [${v.shape}], but tinylora_P has ${dims.u} matrices`,
      );
    }
    const cores = reshape(part("tinylora_P"), [dims.u!, rank * rank]);
    const mixed = matmul(reshape(read(input, v), [1, dims.u!]), cores, "unfused");
    const core = reshape(mixed, [rank, rank]);
    const left = matmul(part("tinylora_B"), core, rank <= NARROW ? "unfused" : "fused");
    const factors = laidOut(module, { left, right: part("tinylora_A") });
    return [{ rank, expr: lowRankUpdate({ base: weight.name, ...factors, scale: 1, roundFirst: false }) }];
  },
});

function readSettings(config: JsonObject, report: Report): Settings {
  const tying = readNumber(config, { field: "weight_tying", fallback: 0 }, report);
  if (tying < 0 || tying > 1) report(badField("weight_tying", tying, "a number from 0 to 1"));
  return { rank: readCount(config, { field: "r", fallback: 2, least: 1 }, report), tying };
}

/** Number of the vector that a module shares with its group. */
function groupOf(
  { name, settings, input, shared }: LinearModule<Settings>,
  order: readonly string[] | null,
): number | Finding {
  const { tying } = settings;
  if (shared.size === 1 && tying === 1) return 0;
  if (!order) {
    return {
      code: "UNSUPPORTED_VARIANT",
      subject: name,
      message: `module ${name}: which tinylora_v belongs to it depends on the order in which a ${input.model.modelType ?? "model of this kind"} defines its modules, which is not known here; merge it with PEFT and import the result.`,
    };
  }
  const count = order.length;
  const groups = Math.max(1, roundHalfEven(count * (1 - tying)));
  const size = Math.max(1, Math.floor(count / groups));
  return Math.min(Math.floor(order.indexOf(name) / size), groups - 1);
}

/** As Python rounds. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

function unsaved(module: string): Finding {
  return {
    code: "NEEDS_TORCH_RNG",
    subject: module,
    message: `module ${module} has no tinylora_P in the adapter file (save_projection false): the projections come from torch's generator and projection_seed. Save the adapter again with save_projection true, or merge it with PEFT and import the result.`,
  };
}

export function parseTinylora(input: AdapterInput): ParsedAdapter {
  const modules = groupByModule(input, /tinylora_A/).modules.keys();
  return parseLinear(
    input,
    kindOf([...modules], (names) => definitionOrder(names, input.model.modelType)),
  );
}
