import type { Finding } from "../errors.ts";
import { add, base, lowRankUpdate, matmul, round, scale } from "../expr.ts";
import {
  baseProblem,
  finding,
  isFinding,
  type LoraModule,
  type Made,
  required,
  scalingOf,
} from "./lora-parts.ts";
import type { Named } from "./names.ts";
import { findTensor, type Parts, read } from "./parts.ts";

const OUTPUT = ".base_layer.out_proj";

/** Whether a module of the file is the output projection that PEFT wraps together with its attention. */
export const isInAttention = (module: string) => module.endsWith(OUTPUT);

/** Whether a module is torch's MultiheadAttention, or the output projection of one. */
export function isAttention(input: Named, module: string): boolean {
  return isInAttention(module) || findTensor(input, module, "in_proj_weight") !== null;
}

/**
 * LoRA on torch's nn.MultiheadAttention, of which PEFT always adapts both projections. `in_proj_weight` (3·dim×dim) gets
 * its change rounded to the base's type first. `out_proj.weight` gets its change twice, rounded first the first time:
 * PEFT's forward pass does the same, so that is what the adapter was trained with.
 */
export function attentionTargets(lora: LoraModule): Made {
  const { input, config, module, parts } = lora;
  const outer = isInAttention(module);
  const attention = outer ? module.slice(0, -OUTPUT.length) : module;
  const weight = outer
    ? findTensor(input, `${attention}.out_proj`)
    : findTensor(input, attention, "in_proj_weight");
  if (!weight)
    return finding("ORPHAN_TENSOR", module, " is the output of an attention that the base does not have");
  const problem = baseProblem(weight) ?? unsupported(lora);
  if (problem) return problem;
  const rank = parts.get("lora_A.weight")?.shape[0] ?? 0;
  const a = required(lora, "lora_A.weight", [rank, weight.shape[1] ?? 0]);
  const b = required(lora, "lora_B.weight", [weight.shape[0]!, rank]);
  if (isFinding(a)) return a;
  if (isFinding(b)) return b;
  // Both projections have the rank and the alpha of the attention.
  const scaling = scalingOf(config, attention, rank);
  if (isFinding(scaling)) return scaling;
  const [left, right] = [read(input, b), read(input, a)];
  const change = scale(scaling.scale, matmul(left, right));
  const expr = outer
    ? add(round(add(base(weight.name), round(change))), change)
    : lowRankUpdate({ base: weight.name, left, right, scale: scaling.scale, roundFirst: true });
  return [
    { tensor: weight.name, module: attention, change: outer ? "LoRA, twice" : "LoRA", ...scaling, expr },
  ];
}

function unsupported({ config, module }: LoraModule): Finding | null {
  const { variant, loraBias } = config;
  if (variant.kind === "plain" && !loraBias) return null;
  const what = loraBias ? "lora_bias" : variant.kind;
  return finding(
    "UNSUPPORTED_VARIANT",
    module,
    ` is a MultiheadAttention, for which PEFT has no ${what}: its arithmetic would be a guess`,
  );
}

/** Attentions of which the file has one projection only. */
export function attentionProblems(input: Named, modules: ReadonlyMap<string, Parts>): Finding[] {
  return [...modules.keys()].flatMap((module) => {
    if (!isAttention(input, module)) return [];
    const other = isInAttention(module) ? module.slice(0, -OUTPUT.length) : `${module}${OUTPUT}`;
    if (modules.has(other)) return [];
    return [
      finding(
        "MISSING_TENSOR",
        module,
        ` is half of an attention; the adapter file holds nothing for ${other}: the file is incomplete, save it again`,
      ),
    ];
  });
}
