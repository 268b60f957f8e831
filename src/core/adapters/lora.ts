import type { LocatedTensor } from "../checkpoint.ts";
import type { Finding } from "../errors.ts";
import { attentionProblems, attentionTargets, isAttention, isInAttention } from "./attention.ts";
import { expertTargets, isOfParameters, missingParameters, parameterModules } from "./experts.ts";
import type { AdapterInput, AdapterTarget, ParsedAdapter } from "./index.ts";
import { type LoraConfig, loraConfigProblems, readLoraConfig } from "./lora-config.ts";
import { embeddingTargets, layerTargets } from "./lora-layers.ts";
import { baseProblem, finding, isFinding, LORA_PART, type LoraModule, type Made } from "./lora-parts.ts";
import { absent, findTensor, groupByModule, oddKeys, type Parts } from "./parts.ts";
import { noTarget, targetProblems } from "./targets.ts";

/**
 * LoRA in all its forms: see `lora-layers.ts` (linear layers, convolutions, embeddings, and the variants), `experts.ts`
 * (parameters, of which experts of a mixture are the usual ones) and `attention.ts` (torch's MultiheadAttention).
 * Tensors of the file that belong to no formula, such as whole modules, are taken out before.
 */
export function parseLora(input: AdapterInput): ParsedAdapter {
  const problems = [...loraConfigProblems(input.config)];
  const warnings: Finding[] = [];
  const bad: Finding[] = [];
  const config = readLoraConfig(input.config, (finding) => bad.push(finding));
  // With a field that cannot be read, what would be said of ranks and targets is guesswork.
  if (bad.length > 0) return { targets: [], problems: [...problems, ...bad], warnings };
  const grouped = groupByModule(input, LORA_PART);
  warnings.push(...oddKeys(grouped), ...unstated(config, grouped.modules));
  if (grouped.modules.size === 0) {
    const message = "the adapter file holds no LoRA factor: nothing would change.";
    const nothing = problems.length === 0 && grouped.others.size === 0;
    return { targets: [], problems: nothing ? [{ code: "NO_TARGET", message }] : problems, warnings };
  }
  const parameters = parameterModules({ input, config, modules: grouped.modules });
  const made = [
    ...[...parameters].map(([module, levels]) => expertTargets({ input, config, module, levels })),
    ...[...grouped.modules]
      .filter(([module]) => !isOfParameters(module, parameters))
      .map(([module, parts]) => moduleTargets({ input, config, module, parts })),
  ];
  const layers = new Map(
    [...grouped.modules].filter(([module]) => !isOfParameters(module, parameters) && !isInAttention(module)),
  );
  const disagreements = targetProblems({ input, targets: config.targets, modules: layers, adapts: isLayer });
  const targets = made.flatMap((one) => (isFinding(one) ? [] : one));
  if (targets.length === 0 && disagreements.some(({ code }) => code === "NO_TARGET")) {
    return { targets, problems: [...problems, noTarget([...grouped.modules.keys()])], warnings };
  }
  problems.push(
    ...made.flatMap((one) => (isFinding(one) ? [one] : [])),
    ...disagreements.filter(({ code }) => code !== "NO_TARGET"),
    ...missingParameters({ input, config, modules: grouped.modules }),
    ...attentionProblems(input, grouped.modules),
    ...ambiguities(targets),
  );
  return { targets, problems, warnings, ignored: ignoredTensors(config, grouped.modules) };
}

/** What a config that names no targets leaves open. */
function unstated({ targets }: LoraConfig, modules: ReadonlyMap<string, Parts>): Finding[] {
  if (targets !== null || modules.size === 0) return [];
  const message = "adapter_config.json names no target_modules: every factor in the file was taken as meant.";
  return [{ code: "TARGETS_UNSTATED", subject: "target_modules", message }];
}

/** Two modules of the adapter that mean one tensor of the base: which of the two changes is right is a guess. */
function ambiguities(targets: readonly AdapterTarget[]): Finding[] {
  const taken = new Map<string, string>();
  return targets.flatMap(({ tensor, module }) => {
    const other = taken.get(tensor);
    taken.set(tensor, module);
    if (other === undefined) return [];
    const sentence = ` and module ${other} of the adapter both mean the base tensor "${tensor}". Rename the adapter's keys to the base's own names`;
    return [finding("AMBIGUOUS_NAME", module, sentence)];
  });
}

/** Layers that PEFT adapts: linear ones, embeddings, convolutions, and attention with fused projections. */
const isLayer = ({ name, shape }: LocatedTensor) =>
  shape.length >= 2 && (name.endsWith(".weight") || name.endsWith(".in_proj_weight"));

function moduleTargets(lora: LoraModule): Made {
  const { input, module, parts } = lora;
  if (isAttention(input, module)) return attentionTargets(lora);
  const weight = findTensor(input, module);
  if (!weight) return absent(input, [...parts.values()][0]!, module);
  const problem = baseProblem(weight);
  if (problem) return problem;
  if (weight.shape.length < 2) {
    return finding(
      "SHAPE_MISMATCH",
      module,
      `: the base weight "${weight.name}" [${weight.shape}] is no matrix, and LoRA changes matrices`,
    );
  }
  const embeds = parts.has("lora_embedding_A") || parts.has("lora_embedding_B");
  return embeds ? embeddingTargets(lora, weight) : layerTargets(lora, weight);
}

/** Tensors of training that have no part in a merge, by the variant that writes them. */
const TRAINING_ONLY = { velora: /^lora_velora_embed/, monteclora: /^lora_monteclora_sampler\./ } as const;

function ignoredTensors({ variant }: LoraConfig, modules: ReadonlyMap<string, Parts>): ReadonlySet<string> {
  const pattern =
    variant.kind === "velora" || variant.kind === "monteclora" ? TRAINING_ONLY[variant.kind] : null;
  const ignored = [...modules.values()].flatMap((parts) =>
    [...parts].flatMap(([part, tensor]) => (pattern?.test(part) ? [tensor.name] : [])),
  );
  return new Set(ignored);
}

/** What a key of a factor says: the path of its module, prefix and all, and which factor; null for any other key. */
export function factorKey(name: string): { path: string; side: "a" | "b" } | null {
  const match = /^(.*)\.lora_(?:embedding_)?([AB])(?:\.default)?(?:\.weight)?$/.exec(name);
  return match && { path: match[1]!, side: match[2] === "A" ? "a" : "b" };
}

/** PEFT's own reading of a path: its prefix off, however often it was put on. */
export function usualModule(path: string): string {
  return path.replace(/^(base_model\.model\.)+/, "");
}
