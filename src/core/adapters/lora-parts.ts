import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { isMergeable } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import { isFloat8 } from "../float8.ts";
import type { AdapterInput, AdapterTarget } from "./index.ts";
import type { LoraConfig } from "./lora-config.ts";
import type { Parts } from "./parts.ts";

/** One module of a LoRA adapter. */
export interface LoraModule {
  readonly input: AdapterInput;
  readonly config: LoraConfig;
  /** As the adapter names it, `base_layer` levels and all. */
  readonly module: string;
  readonly parts: Parts;
}

/** The output tensors of one module, or why it cannot be merged. */
export type Made = readonly AdapterTarget[] | Finding;

/** What one row of B may take in a worker's memory, in elements; real ranks end at a few thousand. */
const MAX_RANK = 131_072;

/**
 * The ends of keys of LoRA tensors. PEFT 0.9 and 0.10 wrote magnitudes with `.weight`.
 */
export const LORA_PART = new RegExp(
  [
    "lora_[AB]\\.weight",
    "lora_B\\.bias",
    "lora_embedding_[AB]",
    "lora_magnitude_vector(?:\\.weight)?",
    "lora_diag",
    "lora_monteclora_sampler\\..+",
    "lora_velora_embed(?:\\..+)?",
  ].join("|"),
);

export function finding(code: string, module: string, sentence: string): Finding {
  return { code, subject: module, message: `module ${module}${sentence}.` };
}

/** A module's tensor that has to be there with this shape: the tensor, or why not. */
export function required(
  { module, parts }: Pick<LoraModule, "module" | "parts">,
  part: string,
  shape: readonly number[],
): TensorFacts | Finding {
  const tensor = parts.get(part);
  if (!tensor) {
    const have = [...parts.keys()].join(", ");
    return finding(
      "MISSING_TENSOR",
      module,
      ` has ${have} but no ${part} in the adapter file: the file is incomplete, save it again`,
    );
  }
  if (!isMergeable(tensor.dtype)) {
    return {
      code: "UNSUPPORTED_DTYPE",
      subject: tensor.name,
      message: `adapter tensor "${tensor.name}" is ${tensor.dtype}: it must be F32, F16 or BF16.`,
    };
  }
  if (tensor.shape.join() === shape.join()) return tensor;
  return finding(
    "SHAPE_MISMATCH",
    module,
    `: ${part} is [${tensor.shape}] and should be [${shape}]. The adapter was trained on another base, or its config belongs to other weights: name that base`,
  );
}

export const isFinding = (value: object): value is Finding => "code" in value && "message" in value;

/** Why a base tensor cannot take a change; `null` where it can. */
export function baseProblem(weight: LocatedTensor): Finding | null {
  // 8-bit floats are dequantised by the plan.
  if (isMergeable(weight.dtype) || isFloat8(weight.dtype)) return null;
  return {
    code: "UNSUPPORTED_BASE_DTYPE",
    subject: weight.name,
    message: `base tensor "${weight.name}" is ${weight.dtype}: merge into a BF16, F16 or F32 checkpoint of this model.`,
  };
}

export interface Scaling {
  readonly rank: number;
  readonly alpha: number;
  /** In float64; rounded to float32 once when it multiplies, as torch treats a Python float. */
  readonly scale: number;
}

/**
 * Scale of a module whose factors have this rank, or RANK_MISMATCH with the config.
 * @param name what rank_pattern and alpha_pattern are matched with
 */
export function scalingOf(config: LoraConfig, name: string, rank: number): Scaling | Finding {
  if (rank > MAX_RANK)
    return finding("UNSUPPORTED_RANK", name, `: rank ${rank} is above the limit of ${MAX_RANK}`);
  const stated = config.rankOf(name);
  if (stated === rank && rank > 0)
    return { rank, alpha: config.alphaOf(name), scale: config.scaleOf(name, rank) };
  return finding(
    "RANK_MISMATCH",
    name,
    ` has factors of rank ${rank}, but adapter_config.json says ${stated} (r or rank_pattern): the scale alpha/r would be wrong. Restore the config that belongs to these weights`,
  );
}
