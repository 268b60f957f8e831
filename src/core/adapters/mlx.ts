import { usesConv1D } from "../arch.ts";
import type { LocatedTensor, TensorFacts } from "../checkpoint.ts";
import { isMergeable } from "../dtype.ts";
import type { Finding } from "../errors.ts";
import { lowRankUpdate, source, transpose } from "../expr.ts";
import { isJsonObject, isUnset, type Json, type JsonObject } from "../json.ts";
import { withTiedHead } from "./carried-ties.ts";
import { type AdapterInput, type AdapterTarget, orphan, type ParsedAdapter } from "./index.ts";
import { badField } from "./module-names.ts";
import { tiedPair } from "./ties.ts";

interface MlxConfig {
  readonly rank: number;
  /** Multiplies the change as it is; other than PEFT's alpha it is not divided by the rank. */
  readonly scale: number;
  /** Names of adapted modules, from after the layer's number or whole; `null`: mlx-lm's default for the model. */
  readonly keys: ReadonlySet<string> | null;
  /** Adapted layers, counted from the last; `null`: all. */
  readonly layers: number | null;
}

/** Fields of `lora_parameters`; `dropout` acts in training only. */
const PARAMETERS = new Set(["rank", "scale", "dropout", "keys", "alpha"]);

/**
 * LoRA as mlx-lm saves it: `W' = W + scale·(a·b)ᵀ` with `lora_a` (in×r), `lora_b` (r×out) and W (out×in); an embedding
 * (vocab×dim) gets `scale·a·b`. Names are those of the checkpoint. Source: mlx-lm, `tuner/lora.py` (`fuse`); its own
 * rounding depends on the GPU, here the arithmetic is that of PEFT's LoRA.
 */
export function parseMlx(input: AdapterInput): ParsedAdapter {
  const problems: Finding[] = [];
  const config = readConfig(input.config, problems);
  if (!config || problems.length > 0) return { targets: [], problems, warnings: [] };
  const { modules, others } = group(input.tensors);
  problems.push(...others.map(unused));
  const lastLayer = [...input.base.keys()].reduce(
    (last, name) => Math.max(last, layerOf(name)?.layer ?? -1),
    -1,
  );
  const isTarget = (module: string) => adapts(config, module, lastLayer);
  const targets: AdapterTarget[] = [];
  for (const [module, pair] of modules) {
    const target = makeTarget({ module, pair, config, input, isTarget });
    if ("code" in target) problems.push(target);
    else targets.push(target);
  }
  problems.push(...missing({ config, input, isTarget, modules }));
  if (modules.size === 0 && problems.length === 0) {
    problems.push({
      code: "NO_TARGET",
      message: "adapters.safetensors holds no LoRA factor: nothing would change.",
    });
  }
  return { targets: sharingTies(targets, input), problems, warnings: [] };
}

/** MLX's head of a tied model is its embedding used backwards, LoRA and all: both sides change alike and stay tied. */
function sharingTies(targets: readonly AdapterTarget[], { base, model }: AdapterInput) {
  const pair = tiedPair(base, model);
  return pair ? withTiedHead(targets, pair) : targets;
}

function readConfig(config: JsonObject, problems: Finding[]): MlxConfig | null {
  const type = config.fine_tune_type ?? (config.use_dora === true ? "dora" : "lora");
  if (type !== "lora" || config.use_dora === true) {
    problems.push({
      code: "UNSUPPORTED_VARIANT",
      subject: "fine_tune_type",
      message: `adapter_config.json: MLX's fine-tuning type ${JSON.stringify(type).slice(0, 80)} is not LoRA: merge it with mlx_lm.fuse and import the result.`,
    });
    return null;
  }
  const parameters = config.lora_parameters;
  if (!isJsonObject(parameters)) {
    problems.push(badField("lora_parameters", parameters, "an object"));
    return null;
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (PARAMETERS.has(name) || isUnset(value)) continue;
    problems.push({
      code: "UNKNOWN_CONFIG_FIELD",
      subject: `lora_parameters.${name}`,
      message: `adapter_config.json: lora_parameters.${name} is not a field known here and may change the arithmetic; merge with the mlx-lm that wrote it.`,
    });
  }
  const { rank, scale } = parameters;
  if (!isCount(rank) || rank === 0) problems.push(badField("lora_parameters.rank", rank, "a whole number"));
  if (typeof scale !== "number" || !Number.isFinite(scale)) {
    problems.push(badField("lora_parameters.scale", scale, "a finite number"));
  }
  problems.push(...alphaProblems(config, parameters));
  const keys = readKeys(parameters.keys, problems);
  const layers = config.num_layers ?? config.lora_layers ?? null;
  if (layers !== null && (typeof layers !== "number" || !Number.isInteger(layers))) {
    problems.push(badField("num_layers", layers, "a whole number"));
  }
  if (problems.length > 0) return null;
  return { rank: rank as number, scale: scale as number, keys, layers: takenLayers(layers) };
}

/** mlx-lm takes the last n of a Python list: `[-0:]` is all of it, and -1 is read as 0. */
function takenLayers(layers: Json): number | null {
  return typeof layers === "number" && layers > 0 ? layers : null;
}

/**
 * Until 2024 mlx-lm scaled by scale·alpha/rank, then by scale alone while its default config still said alpha. Files
 * that say fine_tune_type are of the later kind.
 */
function alphaProblems(config: JsonObject, { alpha, rank }: JsonObject): Finding[] {
  if (isUnset(alpha) || alpha === rank || config.fine_tune_type !== undefined) return [];
  return [
    {
      code: "AMBIGUOUS_SCALE",
      subject: "lora_parameters.alpha",
      message:
        "adapter_config.json: lora_parameters has both alpha and scale. Older versions of mlx-lm multiplied by alpha/rank, later ones ignored alpha, " +
        "and the file does not say which wrote it. Remove alpha if the scale is meant alone, or fold alpha/rank into scale.",
    },
  ];
}

function readKeys(value: Json | undefined, problems: Finding[]): ReadonlySet<string> | null {
  if (value === undefined || value === null) return null;
  if (Array.isArray(value) && value.every((key) => typeof key === "string")) return new Set(value);
  problems.push(badField("lora_parameters.keys", value, "a list of names"));
  return null;
}

function isCount(value: Json | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

interface Pair {
  a?: TensorFacts;
  b?: TensorFacts;
}

function group(tensors: readonly TensorFacts[]) {
  const modules = new Map<string, Pair>();
  const others: TensorFacts[] = [];
  for (const tensor of tensors) {
    const match = /^(.+)\.lora_([ab])$/.exec(tensor.name);
    if (!match) {
      others.push(tensor);
      continue;
    }
    const pair = modules.get(match[1]!) ?? {};
    pair[match[2] as "a" | "b"] = tensor;
    modules.set(match[1]!, pair);
  }
  return { modules, others };
}

function unused({ name }: TensorFacts): Finding {
  if (!/\.(m|linear\.(weight|bias))$/.test(name)) return orphan(name, "it is no LoRA factor of MLX");
  return {
    code: "UNSUPPORTED_VARIANT",
    subject: name,
    message: `adapter tensor "${name}" belongs to MLX's DoRA: merge it with mlx_lm.fuse and import the result.`,
  };
}

function layerOf(name: string): { layer: number; within: string } | null {
  const match = /(?:^|\.)layers\.(\d+)\.(.+)$/.exec(name);
  return match && { layer: Number(match[1]), within: match[2]! };
}

/** mlx-lm adapts modules whose name within one of the last layers, or whose whole name, is a key. */
function adapts({ keys, layers }: MlxConfig, module: string, lastLayer: number): boolean {
  const place = layerOf(module);
  if (keys?.has(module)) return true;
  if (!place) return keys === null;
  return (keys === null || keys.has(place.within)) && (layers === null || place.layer > lastLayer - layers);
}

interface TargetRequest {
  readonly module: string;
  readonly pair: Pair;
  readonly config: MlxConfig;
  readonly input: AdapterInput;
  readonly isTarget: (module: string) => boolean;
}

const EMBEDDING = /(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embedding)$/;

function makeTarget({ module, pair, config, input, isTarget }: TargetRequest): AdapterTarget | Finding {
  const { a, b } = pair;
  if (!a || !b) {
    const [have, lack] = a ? ["lora_a", "lora_b"] : ["lora_b", "lora_a"];
    return missingTensor(module, `has ${have} but no ${lack} in the adapter file`);
  }
  const weight = input.base.get(`${module}.weight`);
  if (!weight) return orphan(a.name, `the base has no tensor "${module}.weight"`);
  if (!isTarget(module)) return orphan(a.name, `adapter_config.json does not adapt module ${module}`);
  const isEmbedding = EMBEDDING.test(module);
  const misfit = shapeProblem({ module, a, b, weight, isEmbedding, rank: config.rank, input });
  if (misfit) return misfit;
  const [factorA, factorB] = [source(input.source, a.name), source(input.source, b.name)];
  const expr = lowRankUpdate({
    base: weight.name,
    left: isEmbedding ? factorA : transpose(factorB),
    right: isEmbedding ? factorB : transpose(factorA),
    scale: config.scale,
    roundFirst: false,
  });
  const { rank, scale } = config;
  return { tensor: weight.name, module, change: "LoRA", rank, alpha: null, scale, expr };
}

function missingTensor(module: string, what: string): Finding {
  return {
    code: "MISSING_TENSOR",
    subject: module,
    message: `module ${module} ${what}: the file is incomplete, save it again.`,
  };
}

interface Fit {
  readonly module: string;
  readonly a: TensorFacts;
  readonly b: TensorFacts;
  readonly weight: LocatedTensor;
  readonly isEmbedding: boolean;
  readonly rank: number;
  readonly input: AdapterInput;
}

function shapeProblem({ module, a, b, weight, isEmbedding, rank, input }: Fit): Finding | null {
  const say = (code: string, message: string): Finding => ({ code, subject: module, message });
  for (const { name, dtype } of [a, b, weight]) {
    if (isMergeable(dtype)) continue;
    const code = name === weight.name ? "UNSUPPORTED_BASE_DTYPE" : "UNSUPPORTED_DTYPE";
    return say(code, `tensor "${name}" is ${dtype}: base and factors must be F32, F16 or BF16.`);
  }
  if (usesConv1D(input.model.modelType)) {
    return say(
      "UNSUPPORTED_VARIANT",
      `module ${module} of a ${input.model.modelType} model is stored transposed, and MLX's reading of it is not known here: merge it with mlx_lm.fuse.`,
    );
  }
  const shapes = `lora_a [${a.shape}], lora_b [${b.shape}], base weight [${weight.shape}]`;
  const [from, to] = isEmbedding ? weight.shape : [weight.shape[1], weight.shape[0]];
  const fits =
    [a, b, weight].every(({ shape }) => shape.length === 2) &&
    a.shape[0] === from &&
    b.shape[1] === to &&
    a.shape[1] === b.shape[0];
  if (!fits) {
    return say(
      "SHAPE_MISMATCH",
      `module ${module}: ${shapes} do not form W + scale·(a·b)ᵀ. The adapter was trained on another base, or on experts (switch layers), which are not read: merge it with mlx_lm.fuse.`,
    );
  }
  if (a.shape[1] !== rank) {
    return say(
      "RANK_MISMATCH",
      `module ${module} has factors of rank ${a.shape[1]}, but adapter_config.json says ${rank}: restore the config that belongs to these weights.`,
    );
  }
  return null;
}

/** Modules that `keys` names, in the adapted layers, for which the file has nothing. */
function missing({
  config,
  input,
  isTarget,
  modules,
}: Pick<TargetRequest, "config" | "input" | "isTarget"> & { modules: ReadonlyMap<string, Pair> }): Finding[] {
  if (config.keys === null) return [];
  return [...input.base].flatMap(([name, { shape }]) => {
    const module = name.replace(/\.weight$/, "");
    if (module === name || shape.length !== 2 || modules.has(module) || !isTarget(module)) return [];
    return [
      missingTensor(module, "is adapted by adapter_config.json, but the adapter file has no factors for it"),
    ];
  });
}
