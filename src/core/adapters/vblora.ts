import type { Finding, Report } from "../errors.ts";
import { call, type Expr, lowRankUpdate, permute, reshape } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { knownFields, readCount, readFlag } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, laidOut, parseLinear } from "./linear-kind.ts";
import { missing, type PartRule, rankMismatch, shapeMismatch } from "./part-shapes.ts";
import { read } from "./parts.ts";

interface Settings {
  readonly rank: number;
  readonly topk: number;
  /** The file holds the chosen weights instead of all logits. */
  readonly onlyTop: boolean;
}

const BANK = "vblora_vector_bank";

const all: Readonly<Record<string, PartRule>> = {
  vblora_logits_A: { shape: ["r", "inTiles", "vectors"] },
  vblora_logits_B: { shape: ["outTiles", "r", "vectors"] },
};
const top: Readonly<Record<string, PartRule>> = {
  vblora_logits_A_topk_weights: { shape: ["r", "inTiles", "stored"] },
  vblora_logits_A_topk_indices: { shape: ["r", "inTiles", "topk"], whole: true },
  vblora_logits_B_topk_weights: { shape: ["outTiles", "r", "stored"] },
  vblora_logits_B_topk_indices: { shape: ["outTiles", "r", "topk"], whole: true },
};

/**
 * VB-LoRA (Li et al. 2024): `W + B·A`, without a scale, where every piece of a row of A (r×in) and of a column of B
 * (out×r) is a mixture of `topk` vectors of one bank (n×length) that all modules share. The file has all logits, or with
 * `save_only_topk_weights` the chosen vectors and all their weights but the last.
 */
const kindOf = (onlyTop: boolean): LinearKind<Settings> => ({
  change: "VB-LoRA",
  fields: {
    known: knownFields(
      "r num_vectors vector_length topk save_only_topk_weights vblora_dropout fan_in_fan_out bias " +
        "init_vector_bank_bound init_logits_std",
    ),
  },
  parts: onlyTop ? top : all,
  shared: new RegExp(BANK),
  transposes: true,
  settings: readSettings,
  changes(module) {
    const { input, weight, dims, settings, name, shared } = module;
    const bank = shared.get(BANK);
    if (!bank) return missing(name, BANK);
    const misfit = bankProblem(module, bank.shape);
    if (misfit) return misfit;
    const rank = dims.r!;
    if (settings.rank !== rank) return rankMismatch(name, settings.rank, rank);
    const a = reshape(mixture(module, "A", read(input, bank)), [rank, dims.in!]);
    const b = reshape(permute(mixture(module, "B", read(input, bank)), [0, 2, 1]), [dims.out!, rank]);
    return [
      {
        rank,
        expr: lowRankUpdate({
          base: weight.name,
          ...laidOut(module, { left: b, right: a }),
          scale: 1,
          roundFirst: false,
        }),
      },
    ];
  },
});

function readSettings(config: JsonObject, report: Report): Settings {
  return {
    rank: readCount(config, { field: "r", fallback: 4, least: 1 }, report),
    topk: readCount(config, { field: "topk", fallback: 2, least: 1 }, report),
    onlyTop: readFlag(config, { field: "save_only_topk_weights", fallback: false }, report),
  };
}

function bankProblem(
  { name, dims, settings }: LinearModule<Settings>,
  bank: readonly number[],
): Finding | null {
  const [vectors, length] = bank as [number, number];
  const { topk, onlyTop } = settings;
  const fits =
    bank.length === 2 &&
    dims.inTiles! * length === dims.in &&
    dims.outTiles! * length === dims.out &&
    (onlyTop ? dims.topk === topk && dims.stored === topk - 1 : dims.vectors === vectors && topk <= vectors);
  if (fits) return null;
  const tiles = `${dims.outTiles}×${dims.inTiles} pieces of the [${dims.out}, ${dims.in}] weight`;
  return shapeMismatch(name, `a vector bank of [${bank}] with topk ${topk} does not make the ${tiles}`);
}

function mixture({ part, settings }: LinearModule<Settings>, side: "A" | "B", bank: Expr): Expr {
  const logits = `vblora_logits_${side}`;
  if (!settings.onlyTop) return call("bank-mix", [part(logits), bank], { topk: settings.topk });
  return call("bank-mix-stored", [part(`${logits}_topk_weights`), part(`${logits}_topk_indices`), bank]);
}

export const parseVblora = (input: AdapterInput): ParsedAdapter =>
  parseLinear(input, kindOf(input.config.save_only_topk_weights === true));
