import type { Finding } from "../errors.ts";
import { add, base, type Expr, matmul, mul, over, reshape, round, scale, transpose } from "../expr.ts";
import { isJsonObject, isUnset, type JsonObject } from "../json.ts";
import { knownFields, type Refusal, readCount, readNumber } from "./config.ts";
import {
  type Adapted,
  dimOf,
  type KindContext,
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
 * AdaLoRA (Zhang 2023): `W' = W + B·(A ⊙ E)·alpha/(init_r + 1e-5)` with `lora_A` (r×in), `lora_B` (out×r), `lora_E` (r×1), keys
 * without `.weight`. PEFT multiplies by alpha and then divides. Pruning leaves fewer ranks, but the divisor stays that
 * of `init_r`; modules of `rank_pattern` are made anew in the base's type at load, so their factors are rounded to it.
 */
export function parseAdalora(input: AdapterInput): ParsedAdapter {
  return parseModules(input, ADALORA);
}

const NOT_ADALORA: Refusal = [
  "UNSUPPORTED_VARIANT",
  "it belongs to LoRA's variants, and AdaLoRA has no formula for it. Check what trained this adapter",
];

/** AdaLoRA's config is made of LoRA's; these fields mean another formula or more tensors. */
const OF_LORA_ONLY = Object.fromEntries(
  (
    "use_dora use_qalora use_bdlora kasa_config monteclora_config velora_config megatron_config target_parameters " +
    "alora_invocation_tokens arrow_config"
  )
    .split(" ")
    .map((field) => [field, NOT_ADALORA]),
);

const ADALORA: ModuleKind = {
  name: "AdaLoRA",
  part: /lora_[ABE]/,
  fields: {
    known: knownFields(
      "init_r target_r tinit tfinal deltaT beta1 beta2 orth_reg_weight total_step lora_alpha rank_pattern bias " +
        // Fields that AdaLoRA's config has from LoRA's and does not read.
        "r alpha_pattern use_rslora lora_dropout fan_in_fan_out init_lora_weights megatron_core loftq_config eva_config " +
        "corda_config lora_ga_config qalora_group_size runtime_config lora_bias ensure_weight_tying",
    ),
    refused: OF_LORA_ONLY,
  },
  layers: ["linear", "transposed", "convolution"],
  read(config, context) {
    const initial = readCount(config, { field: "init_r", fallback: 12, least: 1 }, context.report);
    const alpha = readNumber(config, { field: "lora_alpha", fallback: 8 }, context.report);
    const left = readMasks(config, context);
    return (adapted) => {
      const kept = left.get(adapted.module);
      return makeTarget(adapted, { initial, alpha, kept });
    };
  },
};

/** Ranks that pruning left, by module: `rank_pattern` has a mask of `init_r` flags for each. */
function readMasks(config: JsonObject, { report }: KindContext): Map<string, number> {
  const value = config.rank_pattern;
  const left = new Map<string, number>();
  if (isUnset(value)) return left;
  if (!isJsonObject(value)) {
    report(badField("rank_pattern", value, "an object of lists of flags"));
    return left;
  }
  for (const [name, mask] of Object.entries(value)) {
    if (Array.isArray(mask) && mask.every((flag) => typeof flag === "boolean")) {
      const module = name.replace(/\.lora_E(\.[^.]*)?$/, "").replace(/^base_model\.model\./, "");
      left.set(module, mask.filter(Boolean).length);
    } else report(badField(`rank_pattern["${name}"]`, mask, "a list of flags"));
  }
  return left;
}

interface Setting {
  /** `init_r` */
  readonly initial: number;
  readonly alpha: number;
  /** Ranks that are left, of a module in `rank_pattern`. */
  readonly kept: number | undefined;
}

function makeTarget(adapted: Adapted, { initial, alpha, kept }: Setting): Made {
  const { out, weight, layer } = adapted;
  const rank = dimOf(adapted, "lora_A", 0);
  const problem =
    shapeProblem(adapted, { lora_A: [null, adapted.in], lora_B: [out, rank], lora_E: [rank, 1] }) ??
    rankProblem(adapted, rank, kept ?? initial) ??
    unscaled(adapted, alpha);
  if (problem) return problem;
  const stored = (name: string): Expr =>
    kept === undefined ? partOf(adapted, name) : round(partOf(adapted, name));
  const right = mul(stored("lora_A"), stored("lora_E"));
  const product =
    layer === "transposed"
      ? matmul(transpose(right), transpose(stored("lora_B")))
      : matmul(stored("lora_B"), right);
  const divisor = initial + 1e-5;
  const change = over(divisor, scale(alpha, product));
  const expr = add(base(weight.name), layer === "convolution" ? reshape(change, weight.shape) : change);
  return [weightTarget(adapted, { change: "AdaLoRA", expr, rank, alpha, scale: alpha / divisor })];
}

/** PEFT replaces such an alpha by the rank of the layer, before or after pruning as it was loaded. */
function unscaled({ module }: Adapted, alpha: number): Finding | null {
  if (alpha > 0) return null;
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: module,
    message: `module ${module}: lora_alpha is ${alpha}, which AdaLoRA replaces by a rank that depends on how it was loaded. Set lora_alpha to the number that training used.`,
  };
}
