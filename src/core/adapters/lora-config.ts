import { AppError, type Finding, type Report } from "../errors.ts";
import type { Json, JsonObject } from "../json.ts";
import { fieldFinding, fieldProblems, knownFields, type Refusal, readPatterned } from "./config.ts";
import { badField, readTargets } from "./module-names.ts";

/** The fields of an adapter_config.json that a LoRA merge reads, after PEFT's defaults. */
export interface LoraConfig {
  /** Rank of a module by `rank_pattern`, else `r`. */
  rankOf(module: string): number;
  /** Alpha of a module by `alpha_pattern`, else `lora_alpha`. */
  alphaOf(module: string): number;
  /** `alpha/r`, with rsLoRA `alpha/√r`, of a module whose factors have this rank; in float64. */
  scaleOf(module: string, rank: number): number;
  /** Whether the config targets a module; `null` where it names no targets at all. */
  readonly targets: ((module: string) => boolean) | null;
  readonly loraBias: boolean;
}

/** Known fields without influence on a merge of LoRA factors into linear layers. */
const WITHOUT_EFFECT = knownFields(
  "r lora_alpha use_rslora rank_pattern alpha_pattern " +
    // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
    "fan_in_fan_out lora_dropout init_lora_weights loftq_config eva_config corda_config lora_ga_config " +
    "qalora_group_size megatron_core runtime_config lora_bias bias ensure_weight_tying",
);

/** Fields that are read as true or false and have to be one of the two. */
const FLAGS = ["use_rslora", "lora_bias"] as const;

const LATER =
  "this release merges plain LoRA on linear layers only; merge it with PEFT and import the result";

/** Known fields that change the arithmetic or the set of tensors, with the refusal when they are set. */
const REFUSED_WHEN_SET: Readonly<Record<string, Refusal>> = {
  use_dora: ["UNSUPPORTED_VARIANT", `DoRA rescales every row: ${LATER}`],
  use_qalora: [
    "UNSUPPORTED_VARIANT",
    "QALoRA factors belong to a GPTQ base with grouped inputs and have no defined merge into a plain one",
  ],
  use_bdlora: ["UNSUPPORTED_VARIANT", `BD-LoRA factors are block-diagonal: ${LATER}`],
  kasa_config: ["UNSUPPORTED_VARIANT", `KaSA truncates the base first: ${LATER}`],
  monteclora_config: ["UNSUPPORTED_VARIANT", `MonteCLoRA carries extra tensors: ${LATER}`],
  velora_config: ["UNSUPPORTED_VARIANT", `VeLoRA carries extra tensors: ${LATER}`],
  megatron_config: ["UNSUPPORTED_VARIANT", `Megatron layers shard their weights: ${LATER}`],
  modules_to_save: ["UNSUPPORTED_VARIANT", `whole modules are replaced: ${LATER}`],
  target_parameters: ["UNSUPPORTED_VARIANT", `factors belong to expert parameters: ${LATER}`],
  trainable_token_indices: ["UNSUPPORTED_VARIANT", `rows of the embedding are replaced: ${LATER}`],
  layer_replication: ["UNSUPPORTED_VARIANT", `layers are repeated: ${LATER}`],
  alora_invocation_tokens: [
    "NOT_A_WEIGHT_UPDATE",
    "an activated LoRA (aLoRA) works only after its invocation tokens, so no fixed weight equals it: serve it beside the base",
  ],
  arrow_config: [
    "NOT_A_WEIGHT_UPDATE",
    "an Arrow router mixes adapters by the input, so no fixed weight equals it: serve it beside the base",
  ],
};

/** `init_lora_weights` values that replace the base at load: the factors belong to a residual base. */
const RESIDUAL_INITS = /^(pissa(_niter_\d+)?|olora|corda|lora_ga|loftq)$/;
/** Values after which the base is as it was. */
const PLAIN_INITS = new Set<Json>([true, false, "gaussian", "eva", "orthogonal"]);

/** Every reason why this config cannot be merged as plain LoRA. */
export function loraConfigProblems(config: JsonObject): Finding[] {
  const problems = fieldProblems(config, { known: WITHOUT_EFFECT, refused: REFUSED_WHEN_SET });
  if (config.bias !== undefined && config.bias !== "none") {
    const sentence = `bias = ${JSON.stringify(config.bias)} carries bias tensors: ${LATER}`;
    problems.push(fieldFinding("UNSUPPORTED_VARIANT", "bias", sentence));
  }
  for (const field of FLAGS) {
    // Python takes 1 and "false" for true; here they would be read as false and scale by something else.
    if (config[field] !== undefined && config[field] !== null && typeof config[field] !== "boolean") {
      problems.push(badField(field, config[field], "true or false"));
    }
  }
  problems.push(...initProblems(config.init_lora_weights));
  return problems;
}

function initProblems(init: Json | undefined): Finding[] {
  if (init === undefined || init === null || PLAIN_INITS.has(init)) return [];
  if (typeof init === "string" && RESIDUAL_INITS.test(init)) {
    return [
      {
        code: "NEEDS_RESIDUAL_BASE",
        subject: "init_lora_weights",
        message:
          `adapter_config.json: init_lora_weights = "${init}" means that training replaced the base by a residual; ` +
          "the factors do not fit the original base. Convert the adapter when saving " +
          "(path_initial_model_for_weight_conversion), or merge into the saved residual base with init_lora_weights true.",
      },
    ];
  }
  return [
    {
      code: "UNSUPPORTED_VARIANT",
      subject: "init_lora_weights",
      message: `adapter_config.json: init_lora_weights = ${JSON.stringify(init)} rounds in its own way: ${LATER}.`,
    },
  ];
}

/**
 * Reads the fields a merge needs.
 * @param report takes BAD_ADAPTER_CONFIG and UNSUPPORTED_PATTERN, every one; absent: the first one is thrown
 */
export function readLoraConfig(config: JsonObject, report: Report = raise): LoraConfig {
  const rankOf = readPatterned(config, { field: "r", fallback: 8, patterns: "rank_pattern" }, report);
  const alpha = { field: "lora_alpha", fallback: 8, patterns: "alpha_pattern" };
  const alphaOf = readPatterned(config, alpha, report);
  return {
    rankOf,
    alphaOf,
    scaleOf: (module, r) => alphaOf(module) / (config.use_rslora === true ? Math.sqrt(r) : r),
    targets: readTargets(config, report),
    loraBias: config.lora_bias === true,
  };
}

function raise({ code, message, subject }: Finding): never {
  throw new AppError(code, message, subject === undefined ? {} : { field: subject });
}
