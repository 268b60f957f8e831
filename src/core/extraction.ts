import { renamesOf } from "./adapters/renames.ts";
import { isConv1D, readModelFacts } from "./arch.ts";
import { type CheckpointFacts, type LocatedTensor, tensorsByName } from "./checkpoint.ts";
import { isMergeable, type MergeableDtype } from "./dtype.ts";
import { AppError } from "./errors.ts";
import type { JsonObject } from "./json.ts";

/** What to extract from a fine-tuned checkpoint. */
export interface ExtractionRequest {
  readonly rank: number;
  /** Ends of module names, as target_modules; null: every linear layer but the output head. */
  readonly targets: readonly string[] | null;
  /** Storage type of the factors. */
  readonly dtype: MergeableDtype;
  /** Goes into adapter_config.json. */
  readonly baseName: string;
  readonly seed: number;
}

/** One module whose difference becomes a pair of factors. */
export interface ExtractedModule {
  /** Name in memory, as PEFT writes it. */
  readonly module: string;
  readonly base: LocatedTensor;
  readonly tuned: LocatedTensor;
  /** transformers' Conv1D: stored (in, out), so the factors change sides. */
  readonly transposed: boolean;
}

export interface ExtractionPlan {
  readonly modules: readonly ExtractedModule[];
  /** Tensors that may differ and that low-rank factors on linear layers do not carry. */
  readonly others: readonly {
    readonly name: string;
    readonly why: string;
    readonly base: LocatedTensor;
    readonly tuned: LocatedTensor;
  }[];
}

/** How much of one module's change its factors keep. */
export interface ModuleLoss {
  readonly module: string;
  /** Frobenius norm of the change. */
  readonly changeNorm: number;
  /** 1 − ‖Δ − B·A‖²/‖Δ‖², of the factors as stored; 1 where nothing changed. */
  readonly energyKept: number;
}

const NOT_ADAPTED =
  /(^|\.)(lm_head|embed_out|embed_tokens|wte|wpe|word_embeddings|position_embeddings|embed_in)$/;

/**
 * Decides which tensors become factors, from headers alone.
 * @throws NOT_THE_SAME_MODEL naming the first tensor that differs in shape or is missing, NO_TARGET, BAD_INPUT
 */
export function planExtraction(
  base: CheckpointFacts,
  tuned: CheckpointFacts,
  request: Pick<ExtractionRequest, "rank" | "targets">,
): ExtractionPlan {
  if (!Number.isSafeInteger(request.rank) || request.rank < 1 || request.rank > 4096) {
    throw new AppError("BAD_INPUT", `rank: must be a whole number from 1 to 4096, found ${request.rank}.`, {
      field: "rank",
    });
  }
  const model = readModelFacts(base.config);
  const rename = renamesOf(model.modelType);
  const baseTensors = tensorsByName(base.weights);
  const tunedTensors = tensorsByName(tuned.weights);
  const modules: ExtractedModule[] = [];
  const others: ExtractionPlan["others"][number][] = [];
  for (const [name, tensor] of baseTensors) {
    const other = tunedTensors.get(name);
    requireSame(tensor, other);
    const module = rename(name).replace(/\.weight$/, "");
    const why = reasonAgainst(name, tensor, module, request.targets);
    const pair = { base: tensor, tuned: other };
    if (why === null) modules.push({ module, ...pair, transposed: isConv1D(model.modelType, module) });
    else others.push({ name, why, ...pair });
  }
  for (const name of tunedTensors.keys()) {
    if (baseTensors.has(name)) continue;
    throw different(`the fine-tuned checkpoint has tensor "${name}", the base has not`);
  }
  if (modules.length === 0) {
    throw new AppError(
      "NO_TARGET",
      "no linear layer of the base is named by the targets: nothing can be extracted.",
      { field: "targets" },
    );
  }
  requireNamed(request.targets, modules);
  requireRoom(request.rank, modules);
  return { modules, others };
}

/** A target that names nothing is a slip of the finger, and the adapter would lack what was meant. */
function requireNamed(targets: ExtractionRequest["targets"], modules: readonly ExtractedModule[]): void {
  const idle = (targets ?? []).filter(
    (t) => !modules.some(({ module }) => module === t || module.endsWith(`.${t}`)),
  );
  if (idle.length === 0) return;
  throw new AppError(
    "NO_TARGET",
    `no linear layer of the base is named ${idle.map((t) => `"${t}"`).join(", ")}: check the spelling of the targets.`,
    { field: "targets" },
  );
}

/** Factors wider than every matrix hold nothing more than the full rank does. */
function requireRoom(rank: number, modules: readonly ExtractedModule[]): void {
  const most = Math.max(...modules.map(({ base }) => Math.min(...base.shape)));
  if (rank <= most) return;
  throw new AppError("BAD_INPUT", `rank: no change here has a rank above ${most}, found ${rank}.`, {
    field: "rank",
  });
}

function requireSame(base: LocatedTensor, tuned: LocatedTensor | undefined): asserts tuned is LocatedTensor {
  if (!tuned) throw different(`the fine-tuned checkpoint lacks tensor "${base.name}"`);
  if (tuned.shape.join() !== base.shape.join()) {
    throw different(
      `tensor "${base.name}" is [${base.shape}] in the base and [${tuned.shape}] in the fine-tuned checkpoint`,
    );
  }
}

function different(what: string): AppError {
  return new AppError(
    "NOT_THE_SAME_MODEL",
    `${what}: these are not the same model before and after training. Name the base it was fine-tuned from.`,
  );
}

function reasonAgainst(
  name: string,
  tensor: LocatedTensor,
  module: string,
  targets: readonly string[] | null,
): string | null {
  if (!name.endsWith(".weight") || tensor.shape.length !== 2) return "not the matrix of a linear layer";
  if (!isMergeable(tensor.dtype)) return `stored as ${tensor.dtype}`;
  if (NOT_ADAPTED.test(module)) return "an embedding or the output head";
  if (/\.experts\.\d+\./.test(name)) return "one expert of a mixture: PEFT adapts them as one parameter";
  if (targets && !targets.some((t) => module === t || module.endsWith(`.${t}`)))
    return "not among the targets";
  return null;
}

/** adapter_config.json of an extracted adapter: plain LoRA with alpha = r, so that the scale is 1. */
export function extractedConfig(plan: ExtractionPlan, request: ExtractionRequest): JsonObject {
  const names = [...new Set(plan.modules.map(({ module }) => module.split(".").at(-1)!))].sort();
  const all = plan.modules.map(({ module }) => module);
  // The last component names the modules where it names no other one; else they are listed in full.
  const ambiguous = plan.others.some(({ name }) =>
    names.includes(
      name
        .replace(/\.weight$/, "")
        .split(".")
        .at(-1)!,
    ),
  );
  return {
    base_model_name_or_path: request.baseName,
    bias: "none",
    fan_in_fan_out: plan.modules.some(({ transposed }) => transposed),
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: request.rank,
    lora_dropout: 0,
    peft_type: "LORA",
    r: request.rank,
    target_modules: ambiguous ? all : names,
    task_type: null,
  };
}
