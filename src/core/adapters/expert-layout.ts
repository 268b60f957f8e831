import type { Finding } from "../errors.ts";
import type { Parameter } from "./expert-parameters.ts";
import type { AdapterInput } from "./index.ts";
import type { LoraConfig } from "./lora-config.ts";
import { finding } from "./lora-parts.ts";
import type { Parts } from "./parts.ts";
import { versionBefore } from "./peft-version.ts";

/** Models whose experts are (in×out) in memory, which transformers 5 says of them (`is_transposed`). */
const TRANSPOSED_IN_MEMORY = new Set(["gpt_oss", "aria", "aria_text", "openai_privacy_filter"]);
/** Models whose fused experts are (out×in) in memory, or (in×out) without saying so; stored the same way. */
const SAID_STRAIGHT = new Set(
  "mixtral qwen2_moe qwen3_moe granitemoe granitemoeshared granitemoehybrid llama4 llama4_text".split(" "),
);

export interface LayoutRequest {
  readonly input: AdapterInput;
  readonly config: LoraConfig;
  /** Module and parameter. */
  readonly name: string;
  readonly parts: Parts;
  readonly parameter: Parameter;
  /** What the other parameters of the module are, where their shapes tell. */
  readonly others: boolean | null;
}

/** Whether the shapes of a parameter's factors say that its change is transposed; `null` where they do not tell. */
export function shapesTell({ rows, columns, pieces }: Parameter, parts: Parts): boolean | null {
  if (pieces.length === 1 && pieces[0]!.tensor.shape.length === 2) return false;
  if (rows === columns) return null;
  // What does not fit either way is told by the check of shapes.
  return parts.get("lora_A.weight")?.shape[1] === rows && parts.get("lora_B.weight")?.shape[0] === columns;
}

/**
 * Whether the change of each expert is `(B·A)ᵀ` as the parameter is stored. A matrix parameter is (out×in). Of a stack of
 * them PEFT before 0.19 took the middle size for `in`; since then it does so only for models that say they are transposed.
 * The shapes of the factors tell, except for square experts: there the module's other parameters do, or PEFT's version
 * and the model.
 */
export function isTransposed({
  input,
  config,
  name,
  parts,
  parameter,
  others,
}: LayoutRequest): boolean | Finding {
  const { rows, columns, pieces } = parameter;
  const told = shapesTell(parameter, parts) ?? others;
  if (told !== null) return told;
  const modelType = input.model.modelType ?? "";
  const transposed = TRANSPOSED_IN_MEMORY.has(modelType);
  const knownLayout = transposed || SAID_STRAIGHT.has(modelType) || pieces.length > 1;
  if (knownLayout && config.peftVersion !== null)
    return transposed || versionBefore(config.peftVersion, [0, 19]);
  return finding(
    "AMBIGUOUS_LAYOUT",
    name,
    `: its experts are square (${rows}×${columns}), so that shapes do not tell whether their change is B·A or its transpose, and ` +
      `${knownLayout ? "adapter_config.json has no peft_version" : `the layout of model_type ${modelType || "(unstated)"} is not known`}. Merge it with the PEFT version that wrote it and import the result`,
  );
}
