import { parseAdapter } from "./adapters/index.ts";
import { readModelFacts } from "./arch.ts";
import {
  type CheckpointFacts,
  CONFIG_FILE,
  type FileFacts,
  isLicenseFile,
  type LocatedTensor,
  RECORD_FILE,
  tensorsByName,
  type WeightFile,
} from "./checkpoint.ts";
import type { Dtype } from "./dtype.ts";
import { type Finding, refusal } from "./errors.ts";
import type { Expr } from "./expr.ts";
import type { Digest } from "./identity.ts";
import { METHODS } from "./methods/index.ts";
import type { MergeChoices } from "./recipe.ts";
import { buildSafetensorsHeader } from "./safetensors.ts";
import { chooseTokenizer, missingTokenizer, type TokenizerChoice, tokenizerProblems } from "./tokenizer.ts";

/** A base or an adapter as the plan sees it. */
export interface PlanInput {
  readonly facts: CheckpointFacts;
  /** What to call it in messages: a reference or a folder. */
  readonly label: string;
  /** Known digest of the version, where it was digested before. */
  readonly digest?: Digest | null;
  /** Digest the caller insists on. */
  readonly pin?: Digest | null;
}

export interface PlanRequest {
  readonly base: PlanInput;
  readonly sources: readonly PlanInput[];
  readonly choices: MergeChoices;
  /** A base whose name differs from the one the adapter states, or an unpinned revision, is refused. */
  readonly strictBase?: boolean;
}

/** What happens to one tensor of the output. */
export interface PlanStep {
  readonly tensor: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Bytes of the tensor. */
  readonly bytes: number;
  /** Weight file, the same name in base and output. */
  readonly file: string;
  /** First byte in the base's file. */
  readonly inputBegin: number;
  /** First byte in the output file; differs from the input only where the header had to be rewritten. */
  readonly outputBegin: number;
  /** `null`: copied from the base. */
  readonly expr: Expr | null;
}

export interface PlannedShard {
  readonly path: string;
  /** Bytes of the whole file. */
  readonly size: number;
  readonly dataStart: number;
  /** `null`: the base's header, byte for byte; else the header to write. */
  readonly header: Uint8Array | null;
}

export interface PlannedFile {
  readonly path: string;
  readonly from: "base" | "adapter";
  readonly size: number;
}

export interface MergePlan {
  readonly steps: readonly PlanStep[];
  readonly shards: readonly PlannedShard[];
  /** Small files that come along; `graftwork.json` is written besides. */
  readonly files: readonly PlannedFile[];
  readonly tokenizer: TokenizerChoice;
  readonly touched: readonly { tensor: string; module: string; rank: number; alpha: number; scale: number }[];
  readonly bytesToRead: number;
  readonly bytesToWrite: number;
  /** Every reason to refuse; empty for a plan that can run. */
  readonly refusals: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/**
 * Works out what a merge will do from headers and configs alone: no tensor byte is read. A plan with refusals is
 * returned, not thrown, so that a person sees every reason at once; `requireRunnable` throws them.
 */
export function planMerge(request: PlanRequest): MergePlan {
  const { base, sources, choices } = request;
  const tensors = tensorsByName(base.facts.weights);
  const model = readModelFacts(base.facts.config);
  const parsed = sources.map(({ facts }, source) =>
    parseAdapter({
      config: facts.config,
      tensors: facts.weights.flatMap((file) => file.tensors),
      base: tensors,
      model,
      source,
    }),
  );
  const touched = METHODS.add!.combine(parsed, choices.weights);
  // The method has refused any other number of sources.
  const adapter = sources[0]!;

  const tokenizer = chooseTokenizer(base.facts, adapter.facts, choices.tokenizer);
  const ids = tokenizerProblems(
    tokenizer,
    { base: base.facts, adapter: adapter.facts },
    embeddingRows(tensors, model),
  );
  const exprs = new Map(touched.map((target) => [target.tensor, target.expr]));
  const shards = base.facts.weights.map(planShard);
  const files = plannedFiles(base.facts, adapter.facts, tokenizer);
  const identity = baseIdentity(request);
  const refusals = [
    ...inputProblems(base, model.quantMethod),
    ...parsed.flatMap((p) => p.problems),
    ...notFinite(adapter),
    ...ids.refusals,
    ...sources.flatMap((source) => pinProblems(source)),
    ...pinProblems(base),
    ...(request.strictBase ? identity : []),
  ];
  return {
    steps: base.facts.weights.flatMap((file, i) => planSteps(file, shards[i]!, exprs)),
    shards,
    files,
    tokenizer,
    touched: touched.map(({ tensor, module, rank, alpha, scale }) => ({
      tensor,
      module,
      rank,
      alpha,
      scale,
    })),
    bytesToRead: sum(base.facts.weights) + sum(adapter.facts.weights) + sum(files),
    bytesToWrite: sum(shards) + sum(files),
    refusals,
    warnings: [
      ...parsed.flatMap((p) => p.warnings),
      ...(request.strictBase ? [] : identity),
      ...codeWarnings(base.facts),
      ...tokenizerWarnings(tokenizer),
      ...missingTokenizer(adapter.facts, choices.tokenizer),
      ...ids.warnings,
    ],
  };
}

/** Throws every refusal of a plan as one AppError whose code is the first reason's. */
export function requireRunnable(plan: Pick<MergePlan, "refusals">): void {
  if (plan.refusals.length > 0) throw refusal("this merge is refused", plan.refusals);
}

const sum = (files: readonly { readonly size: number }[]) =>
  files.reduce((total, file) => total + file.size, 0);

function planShard(file: WeightFile): PlannedShard {
  // transformers refuses a file whose metadata lacks the format; the rest of the header stays as it is.
  if (file.metadata.format !== undefined) {
    return { path: file.path, size: file.size, dataStart: file.dataStart, header: null };
  }
  const header = buildSafetensorsHeader(
    { ...file.metadata, format: "pt" },
    file.tensors.map((t) => ({ ...t, begin: t.begin - file.dataStart, end: t.end - file.dataStart })),
  );
  const size = file.size - file.dataStart + header.byteLength;
  return { path: file.path, size, dataStart: header.byteLength, header };
}

function planSteps(file: WeightFile, shard: PlannedShard, exprs: ReadonlyMap<string, Expr>): PlanStep[] {
  const shift = shard.dataStart - file.dataStart;
  return file.tensors.map((tensor) => ({
    tensor: tensor.name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    bytes: tensor.end - tensor.begin,
    file: file.path,
    inputBegin: tensor.begin,
    outputBegin: tensor.begin + shift,
    expr: exprs.get(tensor.name) ?? null,
  }));
}

/** Config, generation config, code, licence texts, the index, and the chosen tokenizer; never an adapter file. */
function plannedFiles(
  base: CheckpointFacts,
  adapter: CheckpointFacts,
  tokenizer: TokenizerChoice,
): PlannedFile[] {
  const carried = base.files.filter(
    (f) =>
      (f.role === "CONFIG" || f.role === "CODE" || isLicenseFile(f.path) || f.path === base.index?.path) &&
      f.path !== RECORD_FILE,
  );
  const size = (facts: CheckpointFacts, path: string) =>
    facts.files.find((f: FileFacts) => f.path === path)!.size;
  return [
    ...carried.map((f): PlannedFile => ({ path: f.path, from: "base", size: f.size })),
    ...tokenizer.files.map(({ path, from }) => ({
      path,
      from,
      size: size(from === "base" ? base : adapter, path),
    })),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function inputProblems(base: PlanInput, quantMethod: string | null): Finding[] {
  const problems: Finding[] = [];
  if (base.facts.kind !== "checkpoint") {
    problems.push({
      code: "NOT_A_CHECKPOINT",
      message: `${base.label} is an adapter, not a base model: it has no ${CONFIG_FILE} with full weights.`,
    });
  }
  if (quantMethod !== null) {
    problems.push({
      code: "QUANTISED_BASE",
      subject: "quantization_config",
      message: `${base.label} is quantised (${quantMethod}): merge into the full-precision checkpoint of this model.`,
    });
  }
  return problems;
}

/** From the statistics that were taken when the adapter was read; NaN would spread over whole rows. */
function notFinite({ facts }: PlanInput): Finding[] {
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

function pinProblems({ digest, pin, label }: PlanInput): Finding[] {
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
function baseIdentity({ base, sources }: PlanRequest): Finding[] {
  const findings: Finding[] = [];
  for (const { facts, label } of sources) {
    const stated = facts.config.base_model_name_or_path;
    if (typeof stated === "string" && stated !== "") {
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

function codeWarnings(base: CheckpointFacts): Finding[] {
  if (!base.hasCode) return [];
  return [
    {
      code: "CARRIES_CODE",
      message:
        "the base carries Python code (auto_map or *.py): it is copied, never run; loading needs trust_remote_code.",
    },
  ];
}

function tokenizerWarnings({ from, differences }: TokenizerChoice): Finding[] {
  if (differences.length === 0) return [];
  return [
    {
      code: "TOKENIZER_DIFFERS",
      subject: "tokenizer",
      message: `the adapter ships ${differences.join(", ")} other than the base's; the output takes the ${from}'s.`,
    },
  ];
}

const EMBEDDING = /(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$/;

function embeddingRows(
  tensors: ReadonlyMap<string, LocatedTensor>,
  model: { readonly vocabSize: number | null },
): number | null {
  for (const tensor of tensors.values()) if (EMBEDDING.test(tensor.name)) return tensor.shape[0] ?? null;
  return model.vocabSize;
}
