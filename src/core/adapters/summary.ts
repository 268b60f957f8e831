import type { CheckpointFacts } from "../checkpoint.ts";
import type { Json } from "../json.ts";
import { factorKey, usualModule } from "./lora.ts";
import { readLoraConfig } from "./lora-config.ts";

/** What an adapter's config and headers say about it, for people. */
export interface AdapterSummary {
  readonly peftType: string | null;
  readonly baseModel: string | null;
  readonly revision: string | null;
  /** As configured: a list of module names, or one regular expression. */
  readonly targetModules: Json;
  readonly useRslora: boolean;
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
  const settings = new Map<string, AdapterSummary["settings"][number]>();
  let modules = 0;
  if (peftType === "LORA") {
    const lora = readLoraConfig(config);
    for (const tensor of weights.flatMap((file) => file.tensors)) {
      const factor = factorKey(tensor.name);
      if (factor?.side !== "a" || tensor.shape[0] === undefined) continue;
      const module = usualModule(factor.path);
      // The factors of experts stand one below the other, and only the base says how many there are.
      const rank =
        lora.parameters.length > 0 && !lora.targets?.(module) ? lora.rankOf(module) : tensor.shape[0];
      modules++;
      const alpha = lora.alphaOf(module);
      const scale = lora.scaleOf(module, rank);
      const known = settings.get(`${rank} ${alpha}`)?.modules ?? 0;
      settings.set(`${rank} ${alpha}`, { rank, alpha, scale, modules: known + 1 });
    }
  }
  return {
    peftType,
    baseModel: text(config.base_model_name_or_path),
    revision: text(config.revision),
    targetModules: config.target_modules ?? null,
    useRslora: config.use_rslora === true,
    modules,
    settings: [...settings.values()],
  };
}
