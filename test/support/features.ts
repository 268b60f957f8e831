import { readFileSync } from "node:fs";
import { resolve } from "node:path";

/** What came out of the golden cases, committed; `test/engine/golden.test.ts` compares every run with it. */
export const GOLDEN_RESULTS = resolve(import.meta.dirname, "../engine/golden-results.json");

/** One line a case: how it ended, the share of changed elements equal to the target, and the largest distance. */
export interface GoldenResult {
  readonly case: string;
  readonly outcome: string;
  readonly equalShare: string;
  readonly maxUlp: string;
}

/** A row of the README's table: what works, the golden cases that show it, or the tests where PEFT has none. */
interface Feature {
  readonly feature: string;
  readonly note?: string;
  readonly cases?: readonly string[];
  /** Test files, where no golden case exists. */
  readonly tests?: readonly string[];
}

const FEATURES: readonly Feature[] = [
  {
    feature: "LoRA on linear layers",
    note: "any rank, F32/F16/BF16 factors and bases, `r` and patterns, `use_rslora`, negative alpha",
    cases: [
      "llama-linear-r16",
      "llama-qv-r8",
      "llama-r1",
      "llama-r1-fp32",
      "llama-wide-r193",
      "llama-wide-r193-fp32",
      "llama-wide-r400",
      "llama-wide-r400-fp32",
      "llama-fp16",
      "llama-fp32",
      "llama-bf16-adapter-bf16",
      "llama-bf16-adapter-on-fp32",
      "llama-fp16-adapter-on-bf16",
      "llama-fp32-adapter-on-bf16",
      "llama-rslora",
      "llama-patterns",
      "llama-negative-alpha",
      "llama-lokr-as-lora",
      "old-config",
    ],
  },
  {
    feature: "architectures",
    note: "llama, mistral, qwen2, qwen3, gemma2, gemma3, granite, olmo2, phi3, smollm3, gpt-neox, gpt2, mixtral, qwen3-moe, bert, vit, resnet; sharded or not",
    cases: [
      "mistral-linear",
      "qwen2-linear",
      "qwen3-linear",
      "gemma2-linear",
      "gemma3-linear",
      "granite-linear",
      "olmo2-linear",
      "phi3-fused",
      "smollm3-linear",
      "gpt_neox-linear",
      "llama-sharded",
      "vit-conv-linear",
    ],
  },
  {
    feature: "`target_modules` as list or pattern, `exclude_modules`, `layers_to_transform`",
    cases: ["llama-target-regex", "llama-exclude-modules", "llama-layers-to-transform"],
  },
  { feature: "Conv1D of GPT-2", cases: ["gpt2-c-attn", "gpt2-fan-false", "gpt2-bare-keys"] },
  { feature: "Embedding and output head", cases: ["llama-embed-lora", "llama-lm-head-lora"] },
  { feature: "Conv1d, Conv2d, Conv3d", cases: ["resnet-conv-lora", "vit-conv-linear"] },
  {
    feature: "experts: `target_parameters`, fused or one tensor an expert; old adapters for each expert",
    cases: ["mixtral-experts", "qwen3_moe-experts", "mixtral-per-expert-old"],
  },
  { feature: "nn.MultiheadAttention", tests: ["test/core/adapters/lora-peft.test.ts"] },
  {
    feature: "DoRA",
    cases: ["llama-dora", "llama-dora-rslora", "llama-dora-embedding", "gpt2-dora", "resnet-conv-dora"],
  },
  {
    feature: "biases: `lora_bias`, `bias=all`, `bias=lora_only`",
    cases: ["llama-lora-bias", "qwen2-bias-all", "qwen2-bias-lora-only"],
  },
  {
    feature: "`modules_to_save`, classification heads, saved embeddings",
    cases: ["llama-save-lm-head", "llama-save-embed-head", "llama-score", "bert-score", "ln-tuning"],
  },
  {
    feature: "`trainable_token_indices`, TRAINABLE_TOKENS",
    cases: ["llama-token-rows", "llama-tied-token-rows", "trainable-tokens"],
  },
  { feature: "resized vocabulary (config.json follows)", cases: ["llama-vocab-resized"] },
  {
    feature: "tied embeddings: untied where one side is adapted, or `--ties peft`",
    cases: ["llama-tied-embed", "llama-tied-lm-head", "llama-tied-embed-head"],
  },
  {
    feature: "`layer_replication`, each copy with its own change",
    tests: ["test/core/adapters/carried.test.ts"],
  },
  { feature: "MiCA, KaSA, BD-LoRA", cases: ["llama-mica", "llama-kasa"] },
  {
    feature: "PiSSA and OLoRA, converted on saving",
    cases: ["llama-pissa-converted", "llama-olora-converted"],
  },
  { feature: "LoHa, LoKr", cases: ["loha", "loha-conv", "lokr-full", "lokr-low", "lokr-conv"] },
  { feature: "IA3", cases: ["ia3", "ia3-bias"] },
  { feature: "AdaLoRA", cases: ["adalora", "adalora-pruned"] },
  { feature: "OFT, BOFT", cases: ["oft", "oft-exact", "oft-shared", "boft"] },
  { feature: "VeRA, PVeRA (projections saved)", cases: ["vera", "pvera"] },
  { feature: "HRA, MiSS", cases: ["hra", "hra-gs", "miss", "miss-mini", "miss-bat", "miss-remainder"] },
  {
    feature: "SHiRA, RoAd, DeLoRA, HiRA, GLoRA, C3A",
    cases: ["shira", "road-1", "road-2", "road-4", "delora", "hira", "glora", "c3a"],
  },
  {
    feature: "VB-LoRA, RandLoRA, GraLoRA, BEFT",
    cases: ["vblora", "vblora-topk", "randlora", "gralora", "gralora-hybrid", "beft"],
  },
  {
    feature: "Super-Tuning, TinyLoRA, PEANuT, DEFT",
    cases: ["supertuning", "tinylora", "peanut", "deft"],
  },
  {
    feature: "files: `adapter_model.bin` (read, never run), keys without or with another prefix, sub-folders",
    cases: ["old-bin", "odd-keys-default", "odd-keys-no-prefix", "odd-keys-one-prefix"],
  },
  {
    feature: "MLX adapters; kohya, LyCORIS, diffusers, torchtune, GGUF refused by name",
    tests: ["test/engine/mlx.test.ts"],
  },
  { feature: "bases in 8-bit floats (e4m3, e5m2, with scales)", tests: ["test/cli/float8.test.ts"] },
  {
    feature: "partial merges, `--dtype`, `--numerics exact`",
    tests: ["test/cli/choices.test.ts"],
  },
];

export function goldenResults(): GoldenResult[] {
  return JSON.parse(readFileSync(GOLDEN_RESULTS, "utf8"));
}

/** The README's table of what works, from what the golden cases gave. */
export function featureTable(): string {
  const results = new Map(goldenResults().map((result) => [result.case, result]));
  const rows = FEATURES.map(({ feature, note, cases, tests }) => {
    const shown = cases ? summary(cases.map((name) => requireResult(results, name))) : shownBy(tests ?? []);
    return `| ${feature}${note ? `: ${note}` : ""} | ${shown} |`;
  });
  return ["| what works | shown by |", "|---|---|", ...rows].join("\n");
}

function requireResult(results: ReadonlyMap<string, GoldenResult>, name: string): GoldenResult {
  const found = results.get(name);
  if (!found) throw new Error(`no golden case ${name}`);
  return found;
}

const shownBy = (tests: readonly string[]) => tests.map((test) => `\`${test}\``).join(", ");

function summary(results: readonly GoldenResult[]): string {
  const count = (outcome: string) => results.filter((result) => result.outcome === outcome).length;
  const close = results.filter((result) => result.outcome === "close");
  const parts = [
    ...(count("equal") > 0 ? [`${count("equal")} × byte-equal to PEFT`] : []),
    ...(count("differs-on-purpose") > 0
      ? [`${count("differs-on-purpose")} × equal to the right result, where PEFT's is wrong`]
      : []),
    ...close.map(
      ({ case: name, equalShare, maxUlp }) => `${name} close: ${equalShare} equal, at most ${maxUlp} ulp`,
    ),
  ];
  return parts.join("; ");
}

/** Which refusals are shown, with how many cases each. */
export function refusalTable(): string {
  const byCode = new Map<string, string[]>();
  for (const { case: name, outcome } of goldenResults()) {
    const code = /^refused: (.+)$/.exec(outcome)?.[1];
    if (code) byCode.set(code, [...(byCode.get(code) ?? []), name.replace(/^refused-/, "")]);
  }
  const rows = [...byCode]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([code, names]) => `| \`${code}\` | ${names.join(", ")} |`);
  return ["| refused with | for example |", "|---|---|", ...rows].join("\n");
}

/** Golden cases that no row of the table shows: the table must be complete. */
export function unshownCases(): string[] {
  const shown = new Set(FEATURES.flatMap(({ cases }) => cases ?? []));
  return goldenResults().flatMap(({ case: name, outcome }) =>
    outcome.startsWith("refused") || shown.has(name) ? [] : [name],
  );
}

/** Test files that rows name. */
export function shownTests(): string[] {
  return FEATURES.flatMap(({ tests }) => tests ?? []);
}
