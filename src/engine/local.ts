import { resolve } from "node:path";
import { needsBaseDigests } from "../core/adapters/ties.ts";
import { readModelFacts } from "../core/arch.ts";
import type { CheckpointFacts } from "../core/checkpoint.ts";
import { checkpointDigests, tensorsByName } from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import type { Digest } from "../core/identity.ts";
import { type MergePlan, planMerge } from "../core/plan.ts";
import { type MergeChoices, recipeChoices } from "../core/recipe.ts";
import type { InputHint } from "../core/record.ts";
import { discardAbandoned, requireOutside, stagingBeside } from "../storage/beside.ts";
import { recallDigests } from "../storage/digest-cache.ts";
import { type ModelFolder, readModelFolder } from "../storage/model-folder.ts";
import { exists, outputExists } from "../storage/staging.ts";
import { digestCheckpoint } from "./digest.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { MergeInput } from "./merge.ts";
import type { UnmergeInput } from "./unmerge.ts";
import { measureUpdates } from "./update-norms.ts";
import { readRecord, type VerifyInput } from "./verify.ts";

/** Two folders on this machine, and what is asked of merging them. */
export interface LocalMerge {
  readonly base: string;
  readonly adapter: string;
  readonly choices: MergeChoices;
  readonly strictBase?: boolean;
  /** Digests the caller insists on. */
  readonly pins?: { readonly base?: Digest | null; readonly adapter?: Digest | null };
}

export interface LocalUnmerge extends LocalMerge {
  /** The choices were made by somebody: a record in the merged folder does not overrule them. */
  readonly choicesGiven?: boolean;
}

export interface LocalPlan {
  readonly base: Located;
  readonly adapter: Located;
  readonly plan: MergePlan;
}

/**
 * Reads two folders and plans their merge. The adapter's tensors are read once, for their digests and so that NaN is
 * refused by the plan; the base's only where `digestBase` asks for it (a merge reads them anyway), or a tied pair is
 * stored twice; the sizes of the adapter's changes where `measure` does. With `cache`, files that did not change since they were digested are not read again.
 * @throws NOT_FOUND, NOT_A_MODEL, NOT_AN_ADAPTER, BAD_FILE, …; a plan with refusals is returned
 */
export async function* planLocal(
  request: LocalMerge,
  options: EngineOptions & { readonly digestBase?: boolean; readonly measure?: boolean },
): AsyncGenerator<EngineEvent, LocalPlan> {
  const base = await recalled(await locate(request.base), options);
  const adapter = await recalled(await locate(request.adapter), options);
  if (adapter.facts.kind !== "adapter") {
    throw new AppError(
      "NOT_AN_ADAPTER",
      `${request.adapter} has no adapter_config.json: it is not an adapter. Did you swap the base and the adapter?`,
    );
  }
  const read = { ...adapter, facts: yield* digestCheckpoint(adapter, options) };
  const digestedAdapter = options.measure ? { ...read, facts: yield* measureUpdates(read, options) } : read;
  const { weights, config } = base.facts;
  const digestBase = options.digestBase || needsBaseDigests(tensorsByName(weights), readModelFacts(config));
  const digestedBase = digestBase ? { ...base, facts: yield* digestCheckpoint(base, options) } : base;
  const { pins, choices, strictBase } = request;
  const plan = planMerge({
    base: planInput(request.base, digestedBase.facts, pins?.base, digestBase),
    sources: [planInput(request.adapter, digestedAdapter.facts, pins?.adapter, true)],
    choices,
    ...(strictBase !== undefined && { strictBase }),
  });
  const warnings = [...base.notices, ...adapter.notices, ...plan.warnings];
  return { base: digestedBase, adapter: digestedAdapter, plan: { ...plan, warnings } };
}

/** The folder with the digests that are remembered of its files, where they did not change since. */
async function recalled(found: ModelFolder, { cache }: EngineOptions): Promise<ModelFolder> {
  return cache === undefined ? found : { ...found, facts: await recallDigests(cache, found.facts) };
}

const locate = (folder: string): Promise<ModelFolder> => readModelFolder(folder, { roots: null });

function planInput(label: string, facts: CheckpointFacts, pin: Digest | null | undefined, digested: boolean) {
  return { facts, label, pin: pin ?? null, digest: digested ? checkpointDigests(facts).version : null };
}

/**
 * What `runMerge` needs to write a planned local merge to `output`; staging lies beside it, on the same file system,
 * and what a killed merge to the same output left there is removed.
 * @throws OUTPUT_EXISTS, OUTPUT_INSIDE_INPUT
 */
export async function localMergeInput(
  request: LocalMerge,
  planned: LocalPlan,
  output: string,
): Promise<MergeInput> {
  const target = resolve(output);
  if (await exists(target)) throw outputExists(target);
  await requireOutside(target, [planned.base.folder, planned.adapter.folder]);
  await discardAbandoned(target);
  return {
    plan: planned.plan,
    base: planned.base,
    sources: [planned.adapter],
    output: target,
    staging: await stagingBeside(target),
    weights: request.choices.weights,
    pins: { base: request.pins?.base ?? null, sources: [request.pins?.adapter ?? null] },
    hints: { base: { path: planned.base.folder }, sources: [{ path: planned.adapter.folder }] },
  };
}

export interface LocalVerify {
  readonly merged: string;
  /** Where the inputs are now; absent: where the record says they were. */
  readonly base?: string;
  readonly adapter?: string;
}

/**
 * Reads a merged folder, its record and its inputs, and plans the merge again.
 * @throws NOT_A_MERGE, INPUT_NOT_FOUND naming the option that says where an input is, and what reading may throw
 */
export async function* prepareVerify(
  request: LocalVerify,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, VerifyInput> {
  const merged = await locate(request.merged);
  const record = await readRecord(request.merged);
  const base = await findInput("base", request.base, record.hints.base, record.recipe.base.version);
  const adapter = await findInput(
    "adapter",
    request.adapter,
    record.hints.sources[0] ?? {},
    record.recipe.sources[0]!.version,
  );
  // What is remembered may be wrong, and whether it is, is the question.
  const { cache: _, ...uncached } = options;
  const planned = yield* planLocal({ base, adapter, choices: recipeChoices(record.recipe) }, uncached);
  return { plan: planned.plan, base: planned.base, sources: [planned.adapter], merged, record };
}

/**
 * Reads a merged folder of any tool's making beside the base and the adapter that are said to have made it. A record
 * of ours says how it was merged where nobody else does.
 * @throws NOT_A_CHECKPOINT for an adapter in the place of the merged folder, and what `planLocal` throws
 */
export async function* prepareUnmerge(
  merged: string,
  { choicesGiven, ...request }: LocalUnmerge,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, UnmergeInput> {
  const found = await locate(merged);
  if (found.facts.kind === "adapter") {
    throw new AppError(
      "NOT_A_CHECKPOINT",
      `${merged} is an adapter, not a merged checkpoint: name the folder that base and adapter became.`,
    );
  }
  const choices = choicesGiven ? request.choices : ((await recordedChoices(merged)) ?? request.choices);
  const digestBase = request.pins?.base != null;
  const planned = yield* planLocal({ ...request, choices }, { ...options, digestBase });
  return { plan: planned.plan, base: planned.base, sources: [planned.adapter], merged: found };
}

/** The choices of a folder that Graftwork merged; null for one of another tool. */
export async function recordedChoices(merged: string): Promise<MergeChoices | null> {
  try {
    return recipeChoices((await readRecord(merged)).recipe);
  } catch (error) {
    if (error instanceof AppError && error.code === "NOT_A_MERGE") return null;
    throw error;
  }
}

async function findInput(
  name: "base" | "adapter",
  given: string | undefined,
  hint: InputHint,
  digest: Digest,
): Promise<string> {
  if (given !== undefined) return given;
  if (hint.path !== undefined && (await exists(hint.path))) return hint.path;
  const where = hint.path === undefined ? "the record does not say where it was" : `${hint.path} is gone`;
  throw new AppError(
    "INPUT_NOT_FOUND",
    `the ${name} of this merge (${digest}) was not found: ${where}. Say where it is now with --${name} DIR.`,
    { field: name, details: { digest, hint: hint.path ?? null } },
  );
}
