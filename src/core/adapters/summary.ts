import type { CheckpointFacts, TensorFacts } from "../checkpoint.ts";
import { isMlxConfig, statedBase } from "../foreign.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import { factorKey, usualModule } from "./lora.ts";
import { readLoraConfig } from "./lora-config.ts";

/** What an adapter's config and headers say about it, for people. */
export interface AdapterSummary {
  /** The tool whose format it is. */
  readonly format: "PEFT" | "MLX";
  readonly peftType: string | null;
  readonly baseModel: string | null;
  readonly revision: string | null;
  /** As configured: a list of module names, or one regular expression. */
  readonly targetModules: Json;
  readonly useRslora: boolean;
  /** LoRA with magnitudes. */
  readonly useDora: boolean;
  /** Parameters that are adapted beside modules, as configured: experts. */
  readonly targetParameters: Json;
  /** Modules that the adapter holds whole copies of, as configured. */
  readonly modulesToSave: Json;
  /** Modules with factors in the file. */
  readonly modules: number;
  /** Distinct settings among those modules, with how many modules have each; empty for kinds other than LoRA. */
  readonly settings: readonly {
    readonly rank: number;
    readonly alpha: number;
    /** alpha/r, with rsLoRA alpha/√r. */
    readonly scale: number;
    readonly modules: number;
  }[];
}

/** Summarises an adapter folder; ranks are those of the tensors, alphas those of the config. */
export function summariseAdapter({ config, weights }: CheckpointFacts): AdapterSummary {
  const text = (value: Json | undefined) => (typeof value === "string" && value !== "" ? value : null);
  const peftType = text(config.peft_type);
  const isMlx = isMlxConfig(config);
  const tensors = weights.flatMap((file) => file.tensors);
  const read = isMlx ? mlxSettings(config) : peftType === "LORA" ? loraSettings(config) : () => null;
  const settings = new Map<string, AdapterSummary["settings"][number]>();
  let modules = 0;
  for (const setting of tensors.map(read)) {
    if (!setting) continue;
    modules++;
    const key = `${setting.rank} ${setting.alpha}`;
    settings.set(key, { ...setting, modules: (settings.get(key)?.modules ?? 0) + 1 });
  }
  return {
    format: isMlx ? "MLX" : "PEFT",
    peftType,
    baseModel: statedBase(config),
    revision: text(config.revision),
    targetModules: config.target_modules ?? (isMlx ? mlxKeys(config) : null),
    useRslora: config.use_rslora === true,
    useDora: config.use_dora === true,
    targetParameters: config.target_parameters ?? null,
    modulesToSave: config.modules_to_save ?? null,
    modules,
    settings: [...settings.values()],
  };
}

type Setting = Omit<AdapterSummary["settings"][number], "modules">;

/** What the first factor of a module says of it; `null` for every other tensor. */
function loraSettings(config: JsonObject): (tensor: TensorFacts) => Setting | null {
  const lora = readLoraConfig(config);
  return (tensor) => {
    const factor = factorKey(tensor.name);
    if (factor?.side !== "a" || tensor.shape[0] === undefined) return null;
    const module = usualModule(factor.path);
    // The factors of experts stand one below the other, and only the base says how many there are.
    const rank =
      lora.parameters.length > 0 && !lora.targets?.(module) ? lora.rankOf(module) : tensor.shape[0];
    return { rank, alpha: lora.alphaOf(module), scale: lora.scaleOf(module, rank) };
  };
}

/** MLX states the scale; the alpha is what PEFT would need for it. */
function mlxSettings({ lora_parameters: parameters }: JsonObject): (tensor: TensorFacts) => Setting | null {
  const scale = isJsonObject(parameters) ? parameters.scale : null;
  return ({ name, shape }) => {
    const rank = shape[1];
    if (!name.endsWith(".lora_a") || rank === undefined || typeof scale !== "number") return null;
    return { rank, alpha: scale * rank, scale };
  };
}

const mlxKeys = ({ lora_parameters: parameters }: JsonObject): Json =>
  (isJsonObject(parameters) ? parameters.keys : null) ?? null;
