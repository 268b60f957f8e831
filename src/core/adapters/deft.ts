import type { Report } from "../errors.ts";
import { add, base, type Expr, matmul, relu, round, sub, transpose } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { fieldFinding, knownFields, readCount } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";

/**
 * DEFT (PEFT 0.21) with decomposition "relu": `W + P·(R − relu(P)ᵀ·W)` with P out×r, R r×in, the change rounded to W's
 * type first. The orthogonal decomposition, removal alone (`para`) and a scaled R (`alpha`) are refused.
 */
const DEFT: LinearKind<number> = {
  change: "DEFT",
  fields: {
    known: knownFields("r decomposition_method init_scale fan_in_fan_out deft_dropout init_weights bias"),
    refused: {
      para: [
        "UNSUPPORTED_VARIANT",
        "removal of a subspace alone has no verified arithmetic; merge it with PEFT and import the result",
      ],
      alpha: [
        "UNSUPPORTED_VARIANT",
        "a scaled injection has no verified arithmetic; merge it with PEFT and import the result",
      ],
    },
  },
  parts: { deft_P: { shape: ["out", "r"] }, deft_R: { shape: ["r", "in"] } },
  transposes: true,
  settings: readRank,
  changes({ name, settings: stated, weight, dims, part, transposed }) {
    const rank = dims.r!;
    // A rank above the number of rows is cut down to it.
    if (Math.min(stated, dims.out!) !== rank) return rankMismatch(name, stated, rank);
    const p = part("deft_P");
    const turned = (of: Expr) => (transposed ? transpose(of) : of);
    const removed = matmul(transpose(relu(p)), turned(base(weight.name)));
    return [{ rank, expr: add(base(weight.name), round(turned(matmul(p, sub(part("deft_R"), removed))))) }];
  },
};

function readRank(config: JsonObject, report: Report): number {
  const how = config.decomposition_method ?? "relu";
  if (how !== "relu") {
    const why = `decomposition_method = ${JSON.stringify(how)} has no verified arithmetic; merge it with PEFT and import the result`;
    report(fieldFinding("UNSUPPORTED_VARIANT", "decomposition_method", why));
  }
  return readCount(config, { field: "r", fallback: 8, least: 1 }, report);
}

export const parseDeft = (input: AdapterInput): ParsedAdapter => parseLinear(input, DEFT);
