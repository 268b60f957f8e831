import { isConv1D, type ModelFacts } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { isMergeable } from "../dtype.ts";
import type { Finding, Report } from "../errors.ts";
import type { Expr } from "../expr.ts";
import { isFloat8 } from "../float8.ts";
import type { JsonObject } from "../json.ts";
import { type FieldRules, fieldProblems } from "./config.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import { badField, type Matcher, readTargets } from "./module-names.ts";
import { absent, findTensor, type Grouped, groupByModule, oddKeys, type Parts, read } from "./parts.ts";
import { targetProblems } from "./targets.ts";

/*
 * The frame that the kinds other than LoRA share: config fields, tensors by module, the base's layer of each, and what
 * the config and the file disagree on. A kind adds its fields, its keys and its formula.
 */

/** "transposed": transformers' Conv1D, a linear layer that is stored (in, out). */
export type Layer = "linear" | "transposed" | "convolution" | "embedding";

/** A module that the adapter changes. */
export interface Adapted {
  readonly input: AdapterInput;
  readonly module: string;
  readonly parts: Parts;
  readonly weight: LocatedTensor;
  readonly layer: Layer;
  /** Rows and columns of the weight as a matrix: of a convolution its outputs, and all that each one reads. */
  readonly out: number;
  readonly in: number;
}

/** The output tensors of one module, or why it cannot be merged. */
export type Made = readonly AdapterTarget[] | Finding;

export interface ModuleKind {
  /** For people, "LoHa". */
  readonly name: string;
  /** Matches the end of a key, from after the dot. */
  readonly part: RegExp;
  /** Ends of keys whose tensors hold whole numbers, in whatever type: the kind checks it. */
  readonly whole?: RegExp;
  readonly fields: FieldRules;
  /** Layers that PEFT adapts with this kind; none of the others has a meaning. */
  readonly layers: readonly Layer[];
  /** Reads the config, and gives what makes a module's targets. */
  read(config: JsonObject, context: KindContext): (adapted: Adapted) => Made;
}

export interface KindContext {
  readonly report: Report;
  readonly warn: Report;
  /** Adapter tensors that belong to no module, such as shared projections. */
  readonly others: Grouped["others"];
}

/** Turns an adapter whose changes are one formula a module into targets. */
export function parseModules(input: AdapterInput, kind: ModuleKind): ParsedAdapter {
  const { config } = input;
  const problems = fieldProblems(config, kind.fields);
  const warnings: Finding[] = [];
  const bad: Finding[] = [];
  const report = (finding: Finding) => bad.push(finding);
  problems.push(...biasProblems(config));
  const grouped = groupByModule(input, kind.part);
  const targets = readTargets(config, report);
  const context = { report, warn: (finding: Finding) => warnings.push(finding), others: grouped.others };
  const make = kind.read(config, context);
  // With a field that cannot be read, what would be said of shapes and targets is guesswork.
  if (bad.length > 0) return { targets: [], problems: [...problems, ...bad], warnings };
  if (grouped.modules.size === 0) {
    problems.push({
      code: "NO_TARGET",
      message: `the adapter file holds no tensor of ${kind.name}: nothing would change.`,
    });
    return { targets: [], problems, warnings };
  }
  warnings.push(...oddKeys(grouped), ...unstated(targets));
  const disagreements = targetProblems({ input, targets, modules: grouped.modules });
  if (disagreements.some(({ code }) => code === "NO_TARGET")) {
    return { targets: [], problems: [...problems, ...disagreements], warnings };
  }
  const made: AdapterTarget[] = [];
  const taken = new Map<string, string>();
  for (const [module, parts] of grouped.modules) {
    const adapted = adaptedModule(input, { module, parts, kind });
    const result = "code" in adapted ? adapted : (twice(adapted, taken) ?? make(adapted));
    if ("code" in result) problems.push(result);
    else made.push(...result);
  }
  return { targets: made, problems: [...problems, ...disagreements], warnings };
}

/** The values that PEFT knows are dealt with before: the file then carries the biases themselves. */
function biasProblems({ bias }: JsonObject): Finding[] {
  if (bias === undefined || bias === null || bias === "none") return [];
  return [badField("bias", bias, '"none", "all" or the kind\'s own "…_only"')];
}

function unstated(targets: Matcher | null): Finding[] {
  if (targets !== null) return [];
  return [
    {
      code: "TARGETS_UNSTATED",
      subject: "target_modules",
      message:
        "adapter_config.json names no target_modules: every module in the adapter file was taken as meant.",
    },
  ];
}

/** Two modules of the adapter that mean one tensor of the base: which of the two changes is right is a guess. */
function twice({ module, weight }: Adapted, taken: Map<string, string>): Finding | null {
  const other = taken.get(weight.name);
  taken.set(weight.name, module);
  if (other === undefined) return null;
  return {
    code: "AMBIGUOUS_NAME",
    subject: module,
    message: `modules ${other} and ${module} of the adapter both mean the base tensor "${weight.name}". Rename the adapter's keys to the base's own names.`,
  };
}

interface Wanted {
  readonly module: string;
  readonly parts: Parts;
  readonly kind: ModuleKind;
}

function adaptedModule(input: AdapterInput, { module, parts, kind }: Wanted): Adapted | Finding {
  const say = (code: string, message: string): Finding => ({ code, subject: module, message });
  const weight = findTensor(input, module);
  if (!weight) return absent(input, [...parts.values()][0]!, module);
  // 8-bit floats are dequantised by the plan.
  if (!isMergeable(weight.dtype) && !isFloat8(weight.dtype)) {
    return say(
      "UNSUPPORTED_BASE_DTYPE",
      `base tensor "${weight.name}" is ${weight.dtype}: merge into a BF16, F16 or F32 checkpoint of this model.`,
    );
  }
  for (const [end, part] of parts) {
    if (!isMergeable(part.dtype) && !kind.whole?.test(end)) {
      return say(
        "UNSUPPORTED_DTYPE",
        `adapter tensor "${part.name}" is ${part.dtype}: it must be F32, F16 or BF16.`,
      );
    }
  }
  const layer = layerOf(weight, input.model);
  if (layer === null || !kind.layers.includes(layer)) {
    const shown = layer === null ? "no matrix" : LAYER_NAMES[layer];
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} is ${shown} (base weight [${weight.shape}]), and PEFT has no ${kind.name} for such a layer: check that the base is the one the adapter was trained on.`,
    );
  }
  const [rows, ...columns] = weight.shape as [number, ...number[]];
  const width = columns.reduce((product, dim) => product * dim, 1);
  const size = layer === "transposed" ? { out: width, in: rows } : { out: rows, in: width };
  return { input, module, parts, weight, layer, ...size };
}

const LAYER_NAMES: Readonly<Record<Layer, string>> = {
  linear: "a linear layer",
  transposed: "a Conv1D, a linear layer stored transposed",
  convolution: "a convolution",
  embedding: "an embedding",
};

const EMBEDDING =
  /(^|\.)(embed_tokens|embed_positions|embed_in|wte|wpe|shared|(word|position|token_type)_embeddings)\.weight$/;

/** What a weight belongs to, by its shape and name; `null` for a vector. */
export function layerOf(weight: LocatedTensor, model: ModelFacts): Layer | null {
  if (weight.shape.length < 2) return null;
  if (weight.shape.length > 2) return "convolution";
  if (EMBEDDING.test(weight.name)) return "embedding";
  return isConv1D(model.modelType, weight.name.replace(/\.weight$/, "")) ? "transposed" : "linear";
}

/** The shapes that the parts of a module must have, by the part; `null` in a shape stands for any size. */
export type WantedShapes = Readonly<Record<string, readonly (number | null)[]>>;

/** MISSING_TENSOR or SHAPE_MISMATCH of the first part that is not as wanted. */
export function shapeProblem({ module, parts, weight }: Adapted, wanted: WantedShapes): Finding | null {
  for (const [name, shape] of Object.entries(wanted)) {
    const part = parts.get(name);
    if (!part) {
      return {
        code: "MISSING_TENSOR",
        subject: module,
        message: `module ${module} has ${[...parts.keys()].join(", ")} but no ${name} in the adapter file: the file is incomplete, save it again.`,
      };
    }
    const fits =
      part.shape.length === shape.length && shape.every((dim, i) => (dim ?? part.shape[i]) === part.shape[i]);
    if (!fits) {
      const shown = shape.map((dim) => dim ?? "any").join(",");
      return {
        code: "SHAPE_MISMATCH",
        subject: module,
        message: `module ${module}: ${name} is [${part.shape}], but for the base weight [${weight.shape}] it must be [${shown}]. The adapter was trained on another base, or its config belongs to other weights.`,
      };
    }
  }
  return null;
}

/** RANK_MISMATCH where the tensors have another rank than the config says. */
export function rankProblem({ module }: Adapted, rank: number, stated: number): Finding | null {
  if (rank === stated) return null;
  return {
    code: "RANK_MISMATCH",
    subject: module,
    message: `module ${module} has tensors of rank ${rank}, but adapter_config.json says ${stated}: the arithmetic would be wrong. Restore the config that belongs to these weights.`,
  };
}

/** A part that `shapeProblem` has found. */
export function partOf({ input, parts }: Adapted, name: string): Expr {
  return read(input, tensorOf(parts, name));
}

function tensorOf(parts: Parts, name: string): TensorFacts {
  const part = parts.get(name);
  if (!part) throw new Error(`no part ${name}`);
  return part;
}

/** Size of a part along an axis; -1 where there is none, which no shape fits. */
export function dimOf({ parts }: Adapted, name: string, axis: number): number {
  return parts.get(name)?.shape[axis] ?? -1;
}

export interface Change {
  /** What happens, for people. */
  readonly change: string;
  readonly expr: Expr;
  readonly rank?: number;
  readonly alpha?: number;
  readonly scale?: number;
}

/** The target of a module's weight. */
export function weightTarget({ module, weight }: Adapted, change: Change): AdapterTarget {
  const { rank = null, alpha = null, scale = null } = change;
  return { tensor: weight.name, module, change: change.change, rank, alpha, scale, expr: change.expr };
}
