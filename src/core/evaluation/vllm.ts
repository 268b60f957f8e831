import { summariseAdapter } from "../adapters/summary.ts";
import type { CheckpointFacts } from "../checkpoint.ts";
import { isUnset, type JsonObject } from "../json.ts";

/*
 * How vLLM serves a merged checkpoint, and a base with adapters beside it. What it declines of an adapter is what its
 * PEFTHelper checks (vllm/lora/peft_helper.py), the ranks are those of its LoRAConfig (vllm/config/lora.py).
 */

/** Values that `--max-lora-rank` takes. */
const RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512] as const;

/** Adapters that one batch may mix; each takes its place in memory from the start. */
const MOST_LORAS = 8;

/** Starts of training that leave the base as it is; the others belong to a changed base. */
const PLAIN_STARTS = new Set(["gaussian", "eva", "orthogonal", "mica", "lora_ga"]);

/** The one command that serves a checkpoint. */
export function vllmMerged(path: string): string {
  return `vllm serve ${quoted(path)}`;
}

export interface SeparateServing {
  readonly base: string;
  readonly adapters: readonly { readonly name: string; readonly path: string }[];
  /** Largest rank of the adapters. */
  readonly rank: number;
  /** Adapters that will be served from this base, these included. */
  readonly planned: number;
}

/** The command that serves a base with its adapters, each under a name of its own. */
export function vllmSeparate({ base, adapters, rank, planned }: SeparateServing): string {
  const modules = adapters.map(({ name, path }) => quoted(`${name}=${path}`));
  const most = RANKS.find((allowed) => allowed >= rank) ?? RANKS.at(-1)!;
  const loras = Math.min(Math.max(planned, adapters.length), MOST_LORAS);
  return [
    "vllm serve",
    quoted(base),
    "--enable-lora",
    `--lora-modules ${modules.join(" ")}`,
    `--max-lora-rank ${most}`,
    ...(loras > 1 ? [`--max-loras ${loras}`] : []),
  ].join(" ");
}

/** Names for adapters from their paths, no two the same. */
export function servedNames(paths: readonly string[]): string[] {
  const names: string[] = [];
  for (const path of paths) {
    const last = path.split(/[/\\]/).findLast((part) => part !== "" && part !== ".") ?? "adapter";
    const plain = last.replaceAll(/[^\w.-]/g, "-");
    let name = plain;
    for (let i = 2; names.includes(name); i++) name = `${plain}-${i}`;
    names.push(name);
  }
  return names;
}

/** Largest rank that an adapter asks for: of its tensors, and of its config, which vLLM reads first. */
export function servedRank(facts: CheckpointFacts): number {
  const { r, rank_pattern: patterns } = facts.config;
  const stated = [r, ...Object.values((patterns as JsonObject | null | undefined) ?? {})];
  const ranks = stated.filter((rank): rank is number => typeof rank === "number");
  return Math.max(1, ...ranks, ...summariseAdapter(facts).settings.map(({ rank }) => rank));
}

/** Why vLLM would not serve an adapter beside its base, each a part of a sentence; empty: nothing is known against it. */
export function vllmObstacles(facts: CheckpointFacts): string[] {
  const { config } = facts;
  const { format, peftType } = summariseAdapter(facts);
  if (format === "MLX") return ["it is in MLX's format"];
  if (peftType !== "LORA") return [`it is of the kind ${peftType ?? "unknown"}, not LORA`];
  const rank = servedRank(facts);
  const start = config.init_lora_weights;
  const saved = Array.isArray(config.modules_to_save) ? config.modules_to_save : [];
  const others = saved.filter((module) => module !== "classifier" && module !== "score");
  const set = (field: string) => !isUnset(config[field]);
  return [
    ...(set("use_dora") ? ["it has magnitudes (DoRA)"] : []),
    ...(others.length > 0 ? [`it holds whole modules (modules_to_save: ${others.join(", ")})`] : []),
    ...(set("bias") && config.bias !== "none" ? [`it holds biases (bias: ${config.bias})`] : []),
    ...(set("lora_bias") ? ["its factors have biases (lora_bias)"] : []),
    ...(set("layer_replication") ? ["it repeats layers (layer_replication)"] : []),
    ...(set("use_bdlora") ? ["its factors are block-diagonal (use_bdlora)"] : []),
    ...(typeof start === "string" && !PLAIN_STARTS.has(start.toLowerCase())
      ? [`its base is a changed one (init_lora_weights: ${start})`]
      : []),
    ...(rank > RANKS.at(-1)! ? [`its rank ${rank} is above ${RANKS.at(-1)}`] : []),
  ];
}

/** For a shell: as it is where nothing in it means anything to one. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
