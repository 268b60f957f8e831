import { AppError, type Finding, type Report } from "../errors.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "../json.ts";
import {
  fieldFinding,
  fieldProblems,
  knownFields,
  type Refusal,
  readCount,
  readFlag,
  readPatterned,
} from "./config.ts";
import { badField, endings, type Matcher, readTargets } from "./module-names.ts";

/** The fields of an adapter_config.json that a LoRA merge reads, after PEFT's defaults. */
export interface LoraConfig {
  /** Rank of a module by `rank_pattern`, else `r`. */
  rankOf(module: string): number;
  /** Alpha of a module by `alpha_pattern`, else `lora_alpha`. */
  alphaOf(module: string): number;
  /** `alpha/r`, with rsLoRA `alpha/√r`, of a module whose factors have this rank; in float64. */
  scaleOf(module: string, rank: number): number;
  /** Whether the config targets a module; `null` where it names no targets at all. */
  readonly targets: Matcher | null;
  /** `target_parameters`: names of parameters in memory, or the ends of such names. */
  readonly parameters: readonly string[];
  /** Whether `target_parameters` names a parameter, by its name in memory. */
  targetsParameter(parameter: string): boolean;
  readonly variant: Variant;
  readonly loraBias: boolean;
  /** Which of the base's biases the adapter replaces. */
  readonly bias: "none" | "all" | "lora_only";
  readonly peftVersion: string | null;
}

/** What PEFT calls LoRA variants: ways to compute the change other than `s·B·A`, of which an adapter has at most one. */
export type Variant =
  | { readonly kind: "plain" | "dora" | "mica" | "kasa" | "velora" | "monteclora" }
  /** One factor has blocks on its diagonal and is stored without the zeros; parts of module names say which one. */
  | {
      readonly kind: "bdlora";
      readonly a: readonly string[];
      readonly b: readonly string[];
      readonly blocks: number;
    };

/** Fields that are read here or elsewhere, and known ones without influence on a merge. */
const KNOWN = knownFields(
  "r lora_alpha use_rslora rank_pattern alpha_pattern target_parameters lora_bias bias use_dora use_bdlora " +
    "modules_to_save trainable_token_indices layer_replication kasa_config monteclora_config velora_config init_lora_weights " +
    // PEFT overrides fan_in_fan_out by layer type and saves whatever the last layer left there.
    "fan_in_fan_out lora_dropout loftq_config eva_config corda_config lora_ga_config " +
    "qalora_group_size megatron_core runtime_config ensure_weight_tying",
);

const LATER = "this release does not merge that; merge it with PEFT and import the result";

/** Known fields that change the arithmetic or the set of tensors, with the refusal when they are set. */
const REFUSED_WHEN_SET: Readonly<Record<string, Refusal>> = {
  use_qalora: [
    "UNSUPPORTED_VARIANT",
    "QALoRA factors belong to a GPTQ base with grouped inputs and have no defined merge into a plain one",
  ],
  megatron_config: ["UNSUPPORTED_VARIANT", `Megatron layers shard their weights: ${LATER}`],
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
const RESIDUAL_INITS = /^(pissa(_niter_\d+)?|olora|corda|lora_ga|loftq)$/i;
/** Values after which the base is as it was. */
const PLAIN_INITS = new Set<Json>([true, false, "gaussian", "eva", "orthogonal", "mica"]);

/** Every reason why this config cannot be merged. */
export function loraConfigProblems(config: JsonObject): Finding[] {
  const problems = fieldProblems(config, { known: KNOWN, refused: REFUSED_WHEN_SET });
  problems.push(...initProblems(config.init_lora_weights), ...variantProblems(config));
  if (!isUnset(config.target_parameters)) {
    const kinds = [...variantsOf(config), ...(config.lora_bias === true ? ["lora_bias"] : [])];
    const sentence = `target_parameters is set, and PEFT has no ${kinds.join(" or ")} for parameters: its arithmetic there would be a guess. Train plain LoRA on them`;
    if (kinds.length > 0) problems.push(fieldFinding("UNSUPPORTED_VARIANT", "target_parameters", sentence));
  }
  return problems;
}

function initProblems(init: Json | undefined): Finding[] {
  if (init === undefined || init === null || PLAIN_INITS.has(init)) return [];
  if (typeof init === "string" && RESIDUAL_INITS.test(init)) {
    const sentence =
      `init_lora_weights = "${init}" means that training replaced the base by a residual; ` +
      "the factors do not fit the original base. Convert the adapter when saving " +
      "(path_initial_model_for_weight_conversion), or merge into the saved residual base with init_lora_weights true";
    return [fieldFinding("NEEDS_RESIDUAL_BASE", "init_lora_weights", sentence)];
  }
  const sentence = `init_lora_weights = ${JSON.stringify(init)} is not a value known here, and may mean another arithmetic; merge with the PEFT version that wrote it`;
  return [fieldFinding("UNSUPPORTED_VARIANT", "init_lora_weights", sentence)];
}

/** The variants that a config asks for, by their fields. */
function variantsOf(config: JsonObject): string[] {
  const fields = ["use_dora", "use_bdlora", "kasa_config", "velora_config", "monteclora_config"];
  const set = fields.filter((field) => !isUnset(config[field]));
  return config.init_lora_weights === "mica" ? [...set, 'init_lora_weights "mica"'] : set;
}

function variantProblems(config: JsonObject): Finding[] {
  const variants = variantsOf(config);
  if (variants.length > 1) {
    const sentence = `${variants.join(" and ")} are set, which PEFT cannot combine: the config does not belong to these weights`;
    return [fieldFinding("BAD_ADAPTER_CONFIG", variants[1]!, sentence)];
  }
  if (config.use_dora === true && config.lora_bias === true) {
    return [
      fieldFinding(
        "BAD_ADAPTER_CONFIG",
        "lora_bias",
        "lora_bias is set with use_dora, which PEFT cannot combine",
      ),
    ];
  }
  return [];
}

/**
 * Reads the fields a merge needs.
 * @param report takes BAD_ADAPTER_CONFIG and UNSUPPORTED_PATTERN, every one; absent: the first one is thrown
 */
export function readLoraConfig(config: JsonObject, report: Report = raise): LoraConfig {
  const rankOf = readPatterned(config, { field: "r", fallback: 8, patterns: "rank_pattern" }, report);
  const alpha = { field: "lora_alpha", fallback: 8, patterns: "alpha_pattern" };
  const alphaOf = readPatterned(config, alpha, report);
  const rslora = readFlag(config, { field: "use_rslora", fallback: false }, report);
  const parameters = readParameters(config, report);
  const named = new Set(parameters);
  return {
    rankOf,
    alphaOf,
    scaleOf: (module, r) => alphaOf(module) / (rslora ? Math.sqrt(r) : r),
    // With parameters alone PEFT adapts no module.
    targets: readTargets(config, report) ?? (parameters.length > 0 ? () => false : null),
    parameters,
    targetsParameter: (name) => named.has(name) || endings(name).some((ending) => named.has(ending)),
    variant: readVariant(config, report),
    loraBias: readFlag(config, { field: "lora_bias", fallback: false }, report),
    bias: readBias(config, report),
    peftVersion: typeof config.peft_version === "string" ? config.peft_version : null,
  };
}

function raise({ code, message, subject }: Finding): never {
  throw new AppError(code, message, subject === undefined ? {} : { field: subject });
}

function readBias({ bias }: JsonObject, report: Report): LoraConfig["bias"] {
  if (bias === undefined || bias === null || bias === "none") return "none";
  if (bias === "all" || bias === "lora_only") return bias;
  report(badField("bias", bias, '"none", "all" or "lora_only"'));
  return "none";
}

function readTexts(value: Json | undefined, field: string, report: Report): string[] {
  if (isUnset(value)) return [];
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value as string[];
  report(badField(field, value, "a list of names"));
  return [];
}

/** Modules have a few parameters of their own; each name is looked up in every module. */
const MAX_PARAMETERS = 50;

function readParameters({ target_parameters: value }: JsonObject, report: Report): string[] {
  const names = readTexts(value, "target_parameters", report);
  const kinds = new Set(names.map((name) => name.slice(name.lastIndexOf(".") + 1)));
  if (kinds.size <= MAX_PARAMETERS) return names;
  report(badField("target_parameters", value, `names of at most ${MAX_PARAMETERS} different parameters`));
  return [];
}

function readVariant(config: JsonObject, report: Report): Variant {
  if (config.init_lora_weights === "mica") return { kind: "mica" };
  if (readFlag(config, { field: "use_dora", fallback: false }, report)) return { kind: "dora" };
  for (const kind of ["kasa", "velora", "monteclora"] as const) {
    if (!isUnset(config[`${kind}_config`])) return { kind };
  }
  return isUnset(config.use_bdlora) ? { kind: "plain" } : readBdlora(config.use_bdlora, report);
}

function readBdlora(value: Json | undefined, report: Report): Variant {
  if (!isJsonObject(value)) {
    report(
      badField("use_bdlora", value, "an object with target_modules_bd_a, target_modules_bd_b and nblocks"),
    );
    return { kind: "plain" };
  }
  return {
    kind: "bdlora",
    a: readTexts(value.target_modules_bd_a, "use_bdlora.target_modules_bd_a", report),
    b: readTexts(value.target_modules_bd_b, "use_bdlora.target_modules_bd_b", report),
    blocks: readCount(value, { field: "nblocks", fallback: 1, least: 1 }, report),
  };
}
