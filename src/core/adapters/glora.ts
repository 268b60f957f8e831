import type { Finding, Report } from "../errors.ts";
import { add, base, type Expr, matmul, mul, round } from "../expr.ts";
import type { JsonObject } from "../json.ts";
import { fieldFinding, knownFields, readCount } from "./config.ts";
import type { AdapterInput, ParsedAdapter } from "./index.ts";
import { type LinearKind, type LinearModule, parseLinear } from "./linear-kind.ts";
import { rankMismatch } from "./part-shapes.ts";
import { findTensor } from "./parts.ts";

/**
 * GLoRA (Chavan et al. 2023) with `config_A_B` "lora": `W + (W ⊙ A + B)`, A = A.Xd·A.Xu and B = B.Xd·B.Xu, each of out×r
 * and r×in; A, B, the product and the sums are each rounded to W's type. Other parametrisations, and paths that change
 * a bias (C, D, E), have no verified arithmetic and are refused.
 */
const GLORA: LinearKind<number> = {
  change: "GLoRA",
  fields: { known: knownFields("r bias config_A_B config_C config_D_E init_weights") },
  parts: {
    "glora_A.Xd": { shape: ["out", "r"] },
    "glora_A.Xu": { shape: ["r", "in"] },
    "glora_B.Xd": { shape: ["out", "r"] },
    "glora_B.Xu": { shape: ["r", "in"] },
    "glora_C.zeros": { shape: ["in", 1], optional: true, unread: true },
    "glora_D.zeros": { shape: ["out"], optional: true, unread: true },
    "glora_E.zeros": { shape: ["out"], optional: true, unread: true },
  },
  settings: readRank,
  changes(module) {
    const { name, settings: stated, weight, dims } = module;
    const rank = dims.r!;
    if (stated !== rank) return rankMismatch(name, stated, rank);
    const bias = biasProblem(module);
    if (bias) return bias;
    const w = base(weight.name);
    const change = round(add(round(mul(w, factor(module, "A"))), factor(module, "B")));
    return [{ rank, expr: add(w, change) }];
  },
};

function readRank(config: JsonObject, report: Report): number {
  const how = config.config_A_B;
  if (how !== undefined && how !== null && how !== "lora") {
    const why = `config_A_B = ${JSON.stringify(how)} has no verified arithmetic; merge it with PEFT and import the result`;
    report(fieldFinding("UNSUPPORTED_VARIANT", "config_A_B", why));
  }
  return readCount(config, { field: "r", fallback: 8, least: 1 }, report);
}

const factor = ({ part }: LinearModule<number>, side: "A" | "B"): Expr =>
  round(matmul(part(`glora_${side}.Xd`), part(`glora_${side}.Xu`)));

/** Only where the base has a bias do C, D and E change anything; otherwise they are buffers of zeros. */
function biasProblem({ input, name }: LinearModule<number>): Finding | null {
  const { config_C, config_D_E } = input.config;
  if (!findTensor(input, name, "bias") || (config_C === "none" && config_D_E === "none")) return null;
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: name,
    message: `module ${name} has a bias in the base, which GLoRA changes unless config_C and config_D_E are "none": the arithmetic of that is not verified; merge it with PEFT and import the result.`,
  };
}

export const parseGlora = (input: AdapterInput): ParsedAdapter => parseLinear(input, GLORA);
