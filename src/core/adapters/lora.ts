import { usesConv1D } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { isMergeable } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import { lowRankUpdate, source } from "../expr.ts";
import { type AdapterInput, type AdapterTarget, orphan, type ParsedAdapter } from "./index.ts";
import { type LoraConfig, loraConfigProblems, readLoraConfig } from "./lora-config.ts";

/** What one row of B may take in a worker's memory, in elements; real ranks end at a few thousand. */
const MAX_RANK = 131_072;

interface Factors {
  a?: TensorFacts;
  b?: TensorFacts;
}

/**
 * LoRA on linear layers: `W' = W + s·B·A` with A `lora_A.weight` (r×in), B `lora_B.weight` (out×r), W (out×in),
 * `s = alpha/r`, with rsLoRA `alpha/√r` (Kalajdzievski 2023). Key grammar: PEFT's `base_model.model.<module>.<part>`.
 */
export function parseLora(input: AdapterInput): ParsedAdapter {
  const problems = [...loraConfigProblems(input.config)];
  const warnings: Finding[] = [];
  const bad: Finding[] = [];
  const config = readLoraConfig(input.config, (finding) => bad.push(finding));
  // With a field that cannot be read, what would be said of ranks and targets is guesswork.
  if (bad.length > 0) return { targets: [], problems: [...problems, ...bad], warnings };
  const { factors, others } = groupFactors(input, warnings);
  problems.push(...others.map((tensor) => unusedTensor(tensor, config, input)));

  const targets: AdapterTarget[] = [];
  for (const [module, pair] of factors) {
    const target = makeTarget(module, pair, config, input);
    if ("code" in target) problems.push(target);
    else targets.push(target);
  }
  problems.push(...missingModules(factors, config, input));
  if (config.targets === null && factors.size > 0) {
    warnings.push({
      code: "TARGETS_UNSTATED",
      subject: "target_modules",
      message: "adapter_config.json names no target_modules: every factor in the file was taken as meant.",
    });
  }
  // One reason instead of one a module: the adapter was made for another architecture.
  if (factors.size > 0 && [...factors.keys()].every((module) => !input.base.has(`${module}.weight`))) {
    return { targets: [], problems: [...nonOrphans(problems), noTarget(factors)], warnings };
  }
  if (factors.size === 0 && problems.length === 0) {
    problems.push({
      code: "NO_TARGET",
      message: "the adapter file holds no LoRA factor: nothing would change.",
    });
  }
  return { targets, problems, warnings };
}

const nonOrphans = (problems: readonly Finding[]) =>
  problems.filter((p) => p.code !== "ORPHAN_TENSOR" && p.code !== "NO_TARGET");

function noTarget(factors: ReadonlyMap<string, Factors>): Finding {
  const [example] = factors.keys();
  return {
    code: "NO_TARGET",
    message:
      `none of the ${factors.size} adapted modules exists in the base (for example ${example}): ` +
      "the adapter belongs to another architecture or naming. Name the base it was trained on.",
  };
}

/** What a key of a factor says: the path of its module, prefix and all, and which factor; null for any other key. */
export function factorKey(name: string): { path: string; side: "a" | "b" } | null {
  const match = /^(.*)\.lora_([AB])(?:\.default)?\.weight$/.exec(name);
  return match && { path: match[1]!, side: match[2] === "A" ? "a" : "b" };
}

/** PEFT's own reading of a path: its prefix off, however often it was put on. */
export function usualModule(path: string): string {
  return path.replace(/^(base_model\.model\.)+/, "");
}

/** Pairs the factors by module; accepts files without PEFT's prefix, with half of it or with it twice, as a warning. */
function groupFactors({ tensors, base }: AdapterInput, warnings: Finding[]) {
  const factors = new Map<string, Factors>();
  const others: TensorFacts[] = [];
  let odd = 0;
  for (const tensor of tensors) {
    const factor = factorKey(tensor.name);
    if (!factor) {
      others.push(tensor);
      continue;
    }
    const { path, side } = factor;
    const module = moduleOf(path, base);
    if (path !== `base_model.model.${module}`) odd++;
    const pair = factors.get(module) ?? {};
    if (pair[side]) others.push(tensor);
    else factors.set(module, { ...pair, [side]: tensor });
  }
  if (odd > 0) {
    warnings.push({
      code: "ODD_KEYS",
      message:
        `${odd} adapter tensors lack PEFT's prefix "base_model.model." or have another one; they were read by their ` +
        "module names. PEFT itself would ignore them without an error.",
    });
  }
  return { factors, others };
}

/**
 * The module that a key's path means. `base_model.` alone is also seen as a prefix, and then the `model.` after it is
 * the module's own: the reading that the base has a weight for is taken, PEFT's own reading first.
 */
function moduleOf(path: string, base: AdapterInput["base"]): string {
  const usual = usualModule(path);
  const readings = [usual, path.replace(/^base_model\./, "")];
  return readings.find((module) => base.has(`${module}.weight`)) ?? usual;
}

/** What to say of a tensor that is not a factor of a linear layer. */
function unusedTensor(tensor: TensorFacts, config: LoraConfig, input: AdapterInput): Finding {
  const name = tensor.name;
  const variant = VARIANT_TENSORS.find(([pattern]) => pattern.test(name));
  if (variant && !(variant[1] === "lora_bias" && !config.loraBias)) {
    const module = moduleOf(name.replace(/\.lora_B(\.default)?\.bias$/, ""), input.base);
    if (variant[1] === "lora_bias" && !input.base.has(`${module}.bias`)) {
      return {
        code: "NO_BASE_BIAS",
        subject: name,
        message: `adapter tensor "${name}" is a bias for ${module}, which has none in the base: PEFT cannot merge it either. Train without lora_bias.`,
      };
    }
    return {
      code: "UNSUPPORTED_VARIANT",
      subject: name,
      message: `adapter tensor "${name}" belongs to ${variant[1]}; this release merges plain LoRA on linear layers only. Merge it with PEFT and import the result.`,
    };
  }
  return orphan(name, "nothing in the merge uses it");
}

const VARIANT_TENSORS: readonly (readonly [RegExp, string])[] = [
  [/\.lora_embedding_[AB]$/, "LoRA on an embedding"],
  [/\.lora_magnitude_vector(\.weight)?$/, "DoRA"],
  [/\.lora_B(\.default)?\.bias$/, "lora_bias"],
  [/\.lora_diag$/, "KaSA"],
  [/\.base_layer\.(weight|bias)$/, "a copy of a base tensor that the adapter carries"],
  [/\.token_adapter\./, "trainable tokens"],
  [/\.(lora_monteclora_sampler|lora_velora_embed)\b/, "a LoRA variant with extra tensors"],
];

function makeTarget(
  module: string,
  { a, b }: Factors,
  config: LoraConfig,
  input: AdapterInput,
): AdapterTarget | Finding {
  if (!a || !b) {
    const [have, lack] = a ? ["lora_A", "lora_B"] : ["lora_B", "lora_A"];
    return {
      code: "MISSING_TENSOR",
      subject: module,
      message: `module ${module} has ${have} but no ${lack} in the adapter file: the file is incomplete, save it again.`,
    };
  }
  const weight = input.base.get(`${module}.weight`);
  if (!weight) return orphan(a.name, `the base has no tensor "${module}.weight"`);
  if (config.targets !== null && !config.targets(module)) {
    return orphan(a.name, `adapter_config.json does not target module ${module}`);
  }
  const misfit = kindProblem(module, weight, input) ?? shapeProblem(module, a, b, weight);
  if (misfit) return misfit;
  const rank = a.shape[0]!;
  const stated = config.rankOf(module);
  if (stated !== rank) {
    return {
      code: "RANK_MISMATCH",
      subject: module,
      message: `module ${module} has factors of rank ${rank}, but adapter_config.json says ${stated} (r or rank_pattern): the scale alpha/r would be wrong. Restore the config that belongs to these weights.`,
    };
  }
  const alpha = config.alphaOf(module);
  // Division in float64, rounded to float32 once when it multiplies: as torch treats a Python float.
  const scale = config.scaleOf(module, rank);
  const expr = lowRankUpdate({
    base: weight.name,
    left: source(input.source, b.name),
    right: source(input.source, a.name),
    scale,
    roundFirst: false,
  });
  return { tensor: weight.name, module, change: "LoRA", rank, alpha, scale, expr };
}

function shapeProblem(module: string, a: TensorFacts, b: TensorFacts, w: LocatedTensor): Finding | null {
  const say = (code: string, message: string): Finding => ({ code, subject: module, message });
  const shapes = `lora_A [${a.shape}], lora_B [${b.shape}], base weight [${w.shape}]`;
  for (const factor of [a, b]) {
    if (!isMergeable(factor.dtype)) {
      return say(
        "UNSUPPORTED_DTYPE",
        `adapter tensor "${factor.name}" is ${factor.dtype}: factors must be F32, F16 or BF16.`,
      );
    }
  }
  if (w.shape.length > 2 || (w.shape.length === a.shape.length && a.shape.length > 2)) {
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} is a convolution or an expert tensor (${shapes}): this release merges linear layers only.`,
    );
  }
  if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[0] !== b.shape[1] || a.shape[0] === 0) {
    return say(
      "SHAPE_MISMATCH",
      `module ${module}: ${shapes} do not form W + s·B·A with A (r×in) and B (out×r).`,
    );
  }
  if (a.shape[0]! > MAX_RANK) {
    return say("UNSUPPORTED_RANK", `module ${module}: rank ${a.shape[0]} is above the limit of ${MAX_RANK}.`);
  }
  if (a.shape[1] !== w.shape[1] || b.shape[0] !== w.shape[0]) {
    return say(
      "SHAPE_MISMATCH",
      `module ${module}: ${shapes}; A must have ${w.shape[1]} columns and B ${w.shape[0]} rows. The adapter was trained on another base: name that one.`,
    );
  }
  return null;
}

/** `…experts.3.w1`: a checkpoint stores each expert for itself, in memory they are one tensor (transformers 5). */
const EXPERT = /\.experts\.\d+\./;

function kindProblem(module: string, w: LocatedTensor, input: AdapterInput): Finding | null {
  const say = (code: string, message: string): Finding => ({ code, subject: module, message });
  if (!isMergeable(w.dtype)) {
    return say(
      "UNSUPPORTED_BASE_DTYPE",
      `base tensor "${w.name}" is ${w.dtype}: merge into a BF16, F16 or F32 checkpoint of this model.`,
    );
  }
  if (EXPERT.test(module)) {
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} is one expert of a mixture: PEFT merges experts as one tensor and rounds the change before it adds it, which this release does not do. Merge it with PEFT and import the result.`,
    );
  }
  if (usesConv1D(input.model.modelType)) {
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} of a ${input.model.modelType} model is a Conv1D, stored transposed: this release merges linear layers only.`,
    );
  }
  if (input.model.tiedEmbeddings && /(^|\.)(lm_head|embed_tokens)$/.test(module)) {
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} is tied to its counterpart (tie_word_embeddings): a merge must untie them, which this release does not do.`,
    );
  }
  return null;
}

/** Modules that the config targets and the base has, but for which the adapter has no factors. */
function missingModules(
  factors: ReadonlyMap<string, Factors>,
  config: LoraConfig,
  input: AdapterInput,
): Finding[] {
  const targets = config.targets;
  if (targets === null) return [];
  const missing: Finding[] = [];
  for (const [name, tensor] of input.base) {
    if (!name.endsWith(".weight") || tensor.shape.length !== 2) continue;
    const module = name.slice(0, -".weight".length);
    if (factors.has(module) || !targets(module)) continue;
    missing.push({
      code: "MISSING_TENSOR",
      subject: module,
      message: `adapter_config.json targets module ${module}, but the adapter file holds no factors for it: the file is incomplete, save it again.`,
    });
  }
  return missing;
}
