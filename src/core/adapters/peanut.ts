import type { Report } from "../errors.ts";
import { add, base, matmul, relu, round, scale } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { fieldFinding, knownFields, readCount, readNumber } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";

interface Settings {
  readonly rank: number;
  readonly scale: number;
}

/**
 * PEANuT (Zhong et al. 2024) of depth 0 with relu: `W + s·B·relu(A·W)` with A r×out, B out×r, the change rounded to W's
 * type first. PEFT multiplies the transposed matrices, which sums the same products in the same order.
 */
const PEANUT: LinearKind<Settings> = {
  change: "PEANuT",
  fields: {
    known: knownFields("r act_fn scaling init_weights"),
    refused: {
      depth: [
        "UNSUPPORTED_VARIANT",
        "hidden layers between A and B have no verified arithmetic; merge it with PEFT and import the result",
      ],
    },
  },
  parts: { "peanut_A.weight": { shape: ["r", "out"] }, "peanut_B.weight": { shape: ["out", "r"] } },
  settings: readSettings,
  changes({ name, settings, weight, dims, part }) {
    const rank = dims.r!;
    if (settings.rank !== rank) return rankMismatch(name, settings.rank, rank);
    const inner = relu(matmul(part("peanut_A.weight"), base(weight.name)));
    const change = scale(settings.scale, matmul(part("peanut_B.weight"), inner));
    return [{ rank, scale: settings.scale, expr: add(base(weight.name), round(change)) }];
  },
};

function readSettings(config: JsonObject, report: Report): Settings {
  const how = config.act_fn ?? "relu";
  if (how !== "relu") {
    const why = `act_fn = ${JSON.stringify(how)} has no verified arithmetic; merge it with PEFT and import the result`;
    report(fieldFinding("UNSUPPORTED_VARIANT", "act_fn", why));
  }
  return {
    rank: readCount(config, { field: "r", fallback: 32, least: 1 }, report),
    scale: readNumber(config, { field: "scaling", fallback: 1 }, report),
  };
}

export const parsePeanut = (input: AdapterInput): ParsedAdapter => parseLinear(input, PEANUT);
