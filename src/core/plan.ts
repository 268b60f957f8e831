import { classifierOf } from "./adapters/classifier.ts";
import { type AdapterInput, type AdapterTarget, parseAdapter } from "./adapters/index.ts";
import { compileSelection } from "./adapters/module-names.ts";
import { settleTies, vocabularyChange } from "./adapters/ties.ts";
import { type ModelFacts, readModelFacts } from "./arch.ts";
import {
  type CheckpointFacts,
  isLicenseFile,
  type LocatedTensor,
  RECORD_FILE,
  tensorsByName,
} from "./checkpoint.ts";
import { type Coverage, coverageOf } from "./coverage.ts";
import { type Finding, type Report, refusal } from "./errors.ts";
import type { Leaf } from "./expr.ts";
import type { DeltaForecast } from "./forecast.ts";
import type { Digest } from "./identity.ts";
import type { JsonEdit } from "./json-edit.ts";
import { METHODS } from "./methods/index.ts";
import { changedConfig, changedIndex } from "./plan-files.ts";
import {
  baseIdentity,
  codeWarnings,
  inputProblems,
  notFinite,
  pinProblems,
  quantisedTraining,
  tokenizerWarnings,
} from "./plan-findings.ts";
import { planFloat8 } from "./plan-float8.ts";
import { forecasts, forecastWarnings } from "./plan-forecast.ts";
import { type Layout, layOut, type PlannedShard, type PlanStep } from "./plan-layout.ts";
import { estimateMemory, type MemoryEstimate } from "./plan-memory.ts";
import { DEFAULT_CHOICES, type MergeChoices, type ModuleSelection, type RecipeChoices } from "./recipe.ts";
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

export interface PlannedFile {
  readonly path: string;
  /** `plan`: made by the plan, from the base's file of that name. */
  readonly from: "base" | "adapter" | "plan";
  /** Bytes; of an edited file at most. */
  readonly size: number;
  /** Text of a file that the plan made. */
  readonly content?: string;
  /** What changes in the base's file of that name. */
  readonly edits?: readonly JsonEdit[];
}

/** One touched tensor, for people. */
export interface TouchedTensor
  extends Pick<AdapterTarget, "tensor" | "module" | "change" | "rank" | "alpha" | "scale"> {
  /** What rounding will cost; null where the sizes are not known from an import, or the change is not of low rank. */
  readonly forecast: DeltaForecast | null;
}

export interface MergePlan {
  readonly steps: readonly PlanStep[];
  readonly shards: readonly PlannedShard[];
  /** Base tensors that no step starts from; a merge reads them for their digests. */
  readonly unused: readonly LocatedTensor[];
  /** Small files that come along; `graftwork.json` is written besides. */
  readonly files: readonly PlannedFile[];
  readonly tokenizer: TokenizerChoice;
  /** What the recipe will say of the choices. */
  readonly choices: RecipeChoices;
  readonly touched: readonly TouchedTensor[];
  /** Adapted modules that include and exclude leave as they are in the base. */
  readonly leftOut: readonly string[];
  /** One for each source. */
  readonly coverage: readonly Coverage[];
  /** From above; `memoryOf` gives it for a number of threads. */
  readonly memory: MemoryEstimate;
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
  const { base, sources } = request;
  const { weights: sourceWeights, tokenizer: wanted, ...given } = request.choices;
  const choices: RecipeChoices = { ...DEFAULT_CHOICES, ...given };
  const tensors = tensorsByName(base.facts.weights);
  const model = readModelFacts(base.facts.config);
  // The method refuses any other number of sources.
  const adapter = sources[0]!;
  const change = planChange(request, { choices, tensors, model, sourceWeights });
  const layout = layOut({ ...change, weights: base.facts.weights, base: tensors, dtype: choices.dtype });
  const tokenizer = chooseTokenizer(base.facts, adapter.facts, wanted);
  const owners = { base: base.facts, adapter: adapter.facts };
  const ids = tokenizerProblems(tokenizer, owners, embeddingRows(layout.steps, model));
  const files = plannedFiles({ ...owners, tokenizer }, [
    ...changedConfig(base.facts, { ...change.config, ...dtypeChange(choices) }),
    ...changedIndex(base.facts, layout),
  ]);
  const identity = baseIdentity(request);
  const factors = sources.map(({ facts }) => tensorsByName(facts.weights));
  const expected = forecasts(layout.steps, tensors, factors);
  const { steps, shards, unused } = layout;
  const refusals = [
    ...inputProblems(base, model.quantMethod),
    ...change.problems,
    ...notFinite(adapter),
    ...ids.refusals,
    ...sources.flatMap((source) => pinProblems(source)),
    ...pinProblems(base),
    ...(request.strictBase ? identity : []),
  ];
  const shapes = (leaf: Leaf) =>
    (leaf.op === "base" ? tensors : factors[leaf.source]!).get(leaf.tensor)!.shape;
  return {
    steps,
    shards,
    unused,
    files,
    tokenizer,
    choices,
    touched: change.targets.map(({ tensor, module, change, rank, alpha, scale }) => ({
      tensor,
      module,
      change,
      rank,
      alpha,
      scale,
      forecast: expected.get(tensor) ?? null,
    })),
    leftOut: change.leftOut,
    coverage: change.coverage,
    // Operands of a refused change need not fit each other.
    memory: estimateMemory(refusals.length === 0 ? steps : [], shapes),
    bytesToRead: sum(base.facts.weights) + sum(adapter.facts.weights) + sum(files),
    bytesToWrite: sum(shards) + sum(files),
    refusals,
    warnings: [
      ...change.warnings,
      ...(request.strictBase ? [] : identity),
      ...quantisedTraining(request),
      ...codeWarnings(base.facts),
      ...tokenizerWarnings(tokenizer),
      ...missingTokenizer(adapter.facts, wanted),
      ...ids.warnings,
      ...forecastWarnings(change.targets, steps, expected),
    ],
  };
}

interface ChangeContext {
  readonly choices: RecipeChoices;
  readonly tensors: ReadonlyMap<string, LocatedTensor>;
  readonly model: ModelFacts;
  readonly sourceWeights: readonly number[];
}

/** What the output's tensors are made of: adapters, partial merges, tied pairs and quantised bases settled in turn. */
function planChange({ base, sources }: PlanRequest, context: ChangeContext) {
  const { choices, tensors, model, sourceWeights } = context;
  const inputs = sources.map(
    ({ facts }, source): AdapterInput => ({
      config: facts.config,
      tensors: facts.weights.flatMap((file) => file.tensors),
      base: tensors,
      model,
      source,
      ties: choices.ties,
      baseConfig: base.facts.config,
    }),
  );
  const parsed = inputs.map(parseAdapter);
  const problems = parsed.flatMap((p) => p.problems);
  const targets = METHODS.add!.combine(parsed, sourceWeights);
  const chosen = chooseTargets(targets, choices, (finding) => problems.push(finding));
  // After include and exclude: a side of a tied pair that is left out stays as it is.
  const start = parsed[0]?.start ?? null;
  const tied = settleTies({ targets: chosen.taken, base: tensors, model, ties: choices.ties, start });
  const classifier = classifierOf({
    adapter: sources[0]!.facts.config,
    config: base.facts.config,
    base: tensors,
    model,
    targets: tied.targets,
  });
  const float8 = planFloat8(tied.targets, tensors, { config: base.facts.config, dtype: choices.dtype });
  return {
    targets: float8.targets,
    tensors: parsed[0]?.tensors ?? null,
    dropped: new Set([...float8.dropped, ...classifier.dropped]),
    leftOut: chosen.leftOut,
    coverage: inputs.map((input, i) => coverageOf(input, parsed[i]!)),
    config: {
      ...Object.assign({}, ...parsed.map((p) => p.config ?? {})),
      ...tied.config,
      ...vocabularyChange(tied.targets, tensors),
      ...classifier.config,
      ...float8.config,
    },
    problems: [...problems, ...tied.problems, ...float8.problems],
    warnings: [
      ...parsed.flatMap((p) => p.warnings),
      ...tied.warnings,
      ...float8.warnings,
      ...partial(chosen),
      ...chosen.idle,
    ],
  };
}

/** Throws every refusal of a plan as one AppError whose code is the first reason's. */
export function requireRunnable(plan: Pick<MergePlan, "refusals">): void {
  if (plan.refusals.length > 0) throw refusal("this merge is refused", plan.refusals);
}

const sum = (files: readonly { readonly size: number }[]) =>
  files.reduce((total, file) => total + file.size, 0);

interface Chosen {
  readonly taken: readonly AdapterTarget[];
  readonly leftOut: readonly string[];
  /** What include and exclude say without any effect. */
  readonly idle: readonly Finding[];
}

/** Applies include and exclude, which match the adapter's own module names. */
function chooseTargets(
  targets: readonly AdapterTarget[],
  { include, exclude }: RecipeChoices,
  report: Report,
): Chosen {
  if (include === null && exclude === null) return { taken: targets, leftOut: [], idle: [] };
  const wanted = include === null ? () => true : compileSelection(include, "include", report);
  const unwanted = exclude === null ? () => false : compileSelection(exclude, "exclude", report);
  const takes = ({ module }: AdapterTarget) => wanted(module) && !unwanted(module);
  const taken = targets.filter(takes);
  const leftOut = [...new Set(targets.filter((target) => !takes(target)).map((target) => target.module))];
  if (taken.length === 0 && targets.length > 0) {
    report({
      code: "NOTHING_INCLUDED",
      subject: "include",
      message: `include and exclude leave none of the ${leftOut.length} adapted modules (for example ${leftOut[0]}). They are matched as PEFT's target_modules: a name, the end of a name, or one regular expression for the whole name.`,
    });
  }
  const idle = [
    ...idleNames(targets, include, "include"),
    ...(exclude !== null && !targets.some(({ module }) => unwanted(module))
      ? [idleFinding("exclude", `matches none of the ${targets.length} adapted tensors`)]
      : idleNames(targets, exclude, "exclude")),
  ];
  return { taken, leftOut, idle };
}

/** A name that matches nothing is a slip of the finger, and the merge another one than was meant. */
function idleNames(
  targets: readonly AdapterTarget[],
  selection: ModuleSelection | null,
  field: "include" | "exclude",
): Finding[] {
  if (!Array.isArray(selection?.modules)) return [];
  const known = new Set<string>();
  for (const { module } of targets) {
    for (let at = 0; at >= 0; at = module.indexOf(".", at) + 1 || -1) known.add(module.slice(at));
  }
  const names = selection.modules.filter((name) => !known.has(name));
  if (names.length === 0) return [];
  const shown = names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
  return [idleFinding(field, `names what the adapter does not change (${shown.slice(0, 300)})`)];
}

function idleFinding(field: "include" | "exclude", what: string): Finding {
  return {
    code: "SELECTION_UNUSED",
    subject: field,
    message: `${field} ${what}: check the spelling; names are matched as PEFT's target_modules, whole or from a dot on.`,
  };
}

function partial({ leftOut }: Chosen): Finding[] {
  if (leftOut.length === 0) return [];
  const names = leftOut.slice(0, 5).join(", ") + (leftOut.length > 5 ? ", …" : "");
  return [
    {
      code: "PARTIAL_MERGE",
      subject: "include",
      message: `${leftOut.length} adapted modules stay as they are in the base (${names}): the result is not the whole adapter.`,
    },
  ];
}

const CONFIG_DTYPES = { BF16: "bfloat16", F16: "float16", F32: "float32" } as const;

function dtypeChange({ dtype }: RecipeChoices): { dtype?: string } {
  return dtype === null ? {} : { dtype: CONFIG_DTYPES[dtype] };
}

/** Config, generation config, code, licence texts, the index, and the chosen tokenizer; never an adapter file. */
function plannedFiles(
  {
    base,
    adapter,
    tokenizer,
  }: { base: CheckpointFacts; adapter: CheckpointFacts; tokenizer: TokenizerChoice },
  made: readonly PlannedFile[],
): PlannedFile[] {
  const replaced = new Set(made.map((file) => file.path));
  const carried = base.files.filter(
    (f) =>
      (f.role === "CONFIG" || f.role === "CODE" || isLicenseFile(f.path) || f.path === base.index?.path) &&
      f.path !== RECORD_FILE &&
      !replaced.has(f.path),
  );
  const size = (facts: CheckpointFacts, path: string) => facts.files.find((f) => f.path === path)!.size;
  return [
    ...made,
    ...carried.map((f): PlannedFile => ({ path: f.path, from: "base", size: f.size })),
    ...tokenizer.files.map(({ path, from }) => ({
      path,
      from,
      size: size(from === "base" ? base : adapter, path),
    })),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
}

const EMBEDDING = /(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$/;

/** Rows of the output's embedding: an adapter may bring a larger one. */
function embeddingRows(steps: Layout["steps"], model: { readonly vocabSize: number | null }): number | null {
  for (const step of steps) if (EMBEDDING.test(step.tensor)) return step.shape[0] ?? null;
  return model.vocabSize;
}
