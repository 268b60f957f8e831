import { readModelFacts } from "./arch.ts";
import { type CheckpointFacts, CONFIG_FILE } from "./checkpoint.ts";
import type { Finding } from "./errors.ts";
import { isFloat8 } from "./float8.ts";
import { statedBase } from "./foreign.ts";
import { isAdapterName } from "./parity.ts";
import type { PlanInput, PlanRequest } from "./plan.ts";
import { FLOAT8_METHODS } from "./plan-float8.ts";
import type { TokenizerChoice } from "./tokenizer.ts";

export function inputProblems(base: PlanInput, quantMethod: string | null): Finding[] {
  const problems: Finding[] = [];
  if (base.facts.kind !== "checkpoint") {
    problems.push({
      code: "NOT_A_CHECKPOINT",
      message: `${base.label} is an adapter, not a base model: it has no ${CONFIG_FILE} with full weights.`,
    });
  }
  if (quantMethod !== null && !isFloat8Base(base.facts, quantMethod)) {
    problems.push({
      code: "QUANTISED_BASE",
      subject: "quantization_config",
      message: `${base.label} is quantised (${quantMethod}): merge into the full-precision checkpoint of this model.`,
    });
  }
  const own = base.facts.weights.flatMap((file) => file.tensors).filter(({ name }) => isAdapterName(name));
  if (base.facts.kind === "checkpoint" && own.length > 0) {
    problems.push({
      code: "BASE_HOLDS_ADAPTER",
      subject: own[0]!.name,
      message: `${base.label} holds ${own.length} tensors of an adapter (for example "${own[0]!.name}"): it was saved with one in place, and what it computes depends on both. Use the plain base, or merge that adapter first with the tool that put it there.`,
    });
  }
  return problems;
}

/** Matrices of 8-bit floats with scales, which a merge dequantises; compressed-tensors has other formats besides. */
export function isFloat8Base({ weights }: CheckpointFacts, quantMethod: string): boolean {
  return (
    FLOAT8_METHODS.has(quantMethod) &&
    weights.some((file) => file.tensors.some((tensor) => isFloat8(tensor.dtype))) &&
    !weights.some((file) => file.tensors.some((tensor) => /\.(weight_packed|qweight)$/.test(tensor.name)))
  );
}

/** From the statistics that were taken when the adapter was read; NaN would spread over whole rows. */
export function notFinite({ facts }: PlanInput): Finding[] {
  return facts.weights.flatMap((file) =>
    file.tensors
      .filter((tensor) => (tensor.stats?.nonFinite ?? 0) > 0)
      .map((tensor) => ({
        code: "NOT_FINITE",
        subject: tensor.name,
        message: `adapter tensor "${tensor.name}" in ${file.path} holds ${tensor.stats?.nonFinite} NaN or infinite elements: training diverged or the file is damaged. Use an earlier checkpoint.`,
      })),
  );
}

export function pinProblems({ digest, pin, label }: PlanInput): Finding[] {
  if (!pin || !digest || pin === digest) return [];
  return [
    {
      code: "DIGEST_MISMATCH",
      subject: label,
      details: { expected: pin, actual: digest },
      message: `${label} has digest ${digest}, but ${pin} is pinned: these are other bytes. Pin the digest you mean, or fetch the pinned version.`,
    },
  ];
}

const lastPart = (path: string) =>
  path
    .replace(/[/\\]+$/, "")
    .split(/[/\\]/)
    .pop()!
    .split("@")[0]!
    .toLowerCase();

/** Where the adapter's own statement about its base is weaker than, or differs from, the base at hand. */
export function baseIdentity({ base, sources }: PlanRequest): Finding[] {
  const findings: Finding[] = [];
  for (const { facts, label } of sources) {
    const stated = statedBase(facts.config);
    if (stated !== null) {
      const names = [base.label, readModelFacts(base.facts.config).nameOrPath ?? base.label].map(lastPart);
      if (!names.includes(lastPart(stated))) {
        findings.push({
          code: "BASE_NAME_DIFFERS",
          subject: "base_model_name_or_path",
          message: `${label} was trained on "${stated}", the base here is ${base.label}: make sure they are the same weights.`,
        });
      }
    }
    if (!facts.config.revision) {
      findings.push({
        code: "BASE_REVISION_UNPINNED",
        subject: "revision",
        message: `${label} does not say on which revision of its base it was trained; the merge records the digest of this one.`,
      });
    }
  }
  return findings;
}

export function codeWarnings(base: CheckpointFacts): Finding[] {
  if (!base.hasCode) return [];
  return [
    {
      code: "CARRIES_CODE",
      message:
        "the base carries Python code (auto_map or *.py): it is copied, never run; loading needs trust_remote_code.",
    },
  ];
}

export function tokenizerWarnings({ from, differences }: TokenizerChoice): Finding[] {
  if (differences.length === 0) return [];
  return [
    {
      code: "TOKENIZER_DIFFERS",
      subject: "tokenizer",
      message: `the adapter ships ${differences.join(", ")} other than the base's; the output takes the ${from}'s.`,
    },
  ];
}

/** Parts of names that say that a checkpoint is quantised. */
const QUANTISED_NAME =
  /(^|[-_.])(bnb|4bit|8bit|int4|int8|gptq|awq|nf4|fp4|gguf|hqq|eetq)([-_.]|$)|[48]-?bit/i;

/** An adapter says which base it was trained on; a quantised one is not the one that it is merged into. */
export function quantisedTraining({ sources }: PlanRequest): Finding[] {
  return sources.flatMap(({ facts, label }) => {
    const stated = statedBase(facts.config);
    if (stated === null || !QUANTISED_NAME.test(lastPart(stated))) return [];
    return [
      {
        code: "QUANTISED_TRAINING_BASE",
        subject: "base_model_name_or_path",
        message: `${label} was trained on "${stated}", by its name a quantised checkpoint: what training saw is that one's dequantised weights, and merging into the full-precision base differs by the quantisation error. This is common practice; check the merged model's answers.`,
      },
    ];
  });
}
