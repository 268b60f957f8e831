import { basename } from "node:path";
import { needsBaseDigests } from "../../core/adapters/ties.ts";
import { readModelFacts } from "../../core/arch.ts";
import { checkpointDigests, tensorsByName } from "../../core/checkpoint.ts";
import type { DeviceName } from "../../core/devices.ts";
import { AppError, type Finding, refusal } from "../../core/errors.ts";
import { DEFAULT_GATE, parseGate } from "../../core/evaluation/gates.ts";
import { type EvaluationOptions, parseOptions } from "../../core/evaluation/options.ts";
import type { Gate } from "../../core/evaluation/report.ts";
import { parsePrompts, parseTasks, parseTexts } from "../../core/evaluation/texts.ts";
import type { Digest } from "../../core/identity.ts";
import { parseJsonObject } from "../../core/json.ts";
import { pinProblems } from "../../core/plan-findings.ts";
import type { MergeChoices } from "../../core/recipe.ts";
import { recallDigests } from "../../storage/digest-cache.ts";
import { readText } from "../../storage/folder.ts";
import { readModelFolder } from "../../storage/model-folder.ts";
import { digestCheckpoint } from "../digest.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import { recordedChoices } from "../local.ts";
import type { EvaluationInputs } from "./evaluate.ts";

export interface LocalAdapter {
  readonly folder: string;
  readonly weight: number;
}

/** A base and its adapters as folders on this machine. */
export interface LocalReference {
  readonly base: string;
  readonly adapters: readonly LocalAdapter[];
  /** Digests the caller insists on; the adapter's only where there is one. */
  readonly pins?: { readonly base?: Digest | null; readonly adapter?: Digest | null };
}

/** An evaluation of folders on this machine; paths are those of files, null where none is given. */
export interface LocalEvaluation extends LocalReference {
  /** Absent: what the recipe would write, computed on the fly. */
  readonly merged: string | null;
  readonly choices: Omit<MergeChoices, "weights">;
  /** The choices were made by somebody: a record in the merged folder does not overrule them. */
  readonly choicesGiven: boolean;
  readonly texts: string | null;
  readonly tasks: string | null;
  readonly prompts: string | null;
  readonly gate: string | null;
  /** As `parseOptions` reads them; prompts come from their file. */
  readonly options: Readonly<Partial<Omit<EvaluationOptions, "prompts">>>;
  readonly device: DeviceName;
}

export interface LocatedReference {
  readonly base: Located;
  readonly sources: readonly (Located & { readonly weight: number })[];
  /** What a person should know about where they were found. */
  readonly notices: readonly Finding[];
}

/**
 * Reads the folders, files of texts and the gate of an evaluation. A merged folder with a record of ours says how it
 * was merged, unless somebody else does.
 * @throws NOT_FOUND, NOT_A_MODEL, NOT_AN_ADAPTER, NOT_A_CHECKPOINT, DIGEST_MISMATCH, BAD_TEXTS, BAD_TASKS, BAD_PROMPTS,
 *   BAD_GATE, BAD_INPUT
 */
export async function* prepareEvaluation(
  request: LocalEvaluation,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, { inputs: EvaluationInputs; notices: readonly Finding[] }> {
  const asked = await readAsked(request);
  const candidate = request.merged === null ? null : await locateMerged(request.merged, options);
  const found = yield* locateReference(request, options);
  const recorded =
    request.merged === null || request.choicesGiven ? null : await recordedChoices(request.merged);
  const weights = request.adapters.map(({ weight }) => weight);
  const { base, sources, notices } = found;
  const inputs: EvaluationInputs = {
    base,
    sources,
    choices: { ...(recorded ?? request.choices), weights },
    candidate,
    labels: {
      base: request.base,
      sources: request.adapters.map(({ folder }) => folder),
      candidate: request.merged ?? "what merging them would write",
    },
    ...asked,
  };
  return { inputs, notices: [...notices, ...(candidate?.notices ?? [])] };
}

/** What does not depend on the models: read first, so that a slip in it shows at once. */
async function readAsked(
  request: LocalEvaluation,
): Promise<Pick<EvaluationInputs, "texts" | "tasks" | "prompts" | "gate" | "options">> {
  const { texts, tasks, prompts, gate, device } = request;
  const given = prompts === null ? null : parsePrompts(basename(prompts), await readText(prompts));
  const { prompts: checked, ...options } = parseOptions({ ...request.options, prompts: given });
  return {
    texts: texts === null ? null : parseTexts(basename(texts), await readText(texts)),
    tasks: tasks === null ? null : parseTasks(basename(tasks), await readText(tasks)),
    prompts: checked,
    gate: gate === null ? DEFAULT_GATE : await readGate(gate),
    options: { ...options, device },
  };
}

/** @throws BAD_JSON, BAD_GATE */
export async function readGate(path: string): Promise<Gate> {
  return parseGate(parseJsonObject(await readText(path), path), path);
}

/**
 * Reads a base and its adapters. Adapters' tensors are read for their digests, so that NaN is refused; the base's only
 * where it is pinned, or a tied pair is stored twice.
 * @throws NOT_FOUND, NOT_A_MODEL, NOT_AN_ADAPTER, NOT_A_CHECKPOINT, DIGEST_MISMATCH
 */
export async function* locateReference(
  { base: folder, adapters, pins }: LocalReference,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, LocatedReference> {
  if (pins?.adapter && adapters.length !== 1) {
    throw new AppError("BAD_INPUT", "one adapter's digest is pinned, but several adapters are given.", {
      field: "adapter-digest",
    });
  }
  const base = await locateBase(folder, options);
  const sources: (Located & { readonly weight: number })[] = [];
  const notices = [...base.notices];
  for (const { folder, weight } of adapters) {
    const found = await locate(folder, options);
    if (found.facts.kind !== "adapter") throw notAnAdapter(folder);
    notices.push(...found.notices);
    const facts = yield* digestCheckpoint(found, options);
    requirePinned(folder, facts, pins?.adapter);
    sources.push({ folder: found.folder, facts, weight });
  }
  const { weights, config } = base.facts;
  const digested = pins?.base || needsBaseDigests(tensorsByName(weights), readModelFacts(config));
  const facts = digested ? yield* digestCheckpoint(base, options) : base.facts;
  requirePinned(folder, facts, pins?.base);
  return { base: { folder: base.folder, facts }, sources, notices };
}

interface Found extends Located {
  readonly notices: readonly Finding[];
}

async function locate(folder: string, { cache }: EngineOptions): Promise<Found> {
  const found = await readModelFolder(folder, { roots: null });
  return cache === undefined ? found : { ...found, facts: await recallDigests(cache, found.facts) };
}

async function locateBase(folder: string, options: EngineOptions): Promise<Found> {
  const found = await locate(folder, options);
  if (found.facts.kind === "checkpoint") return found;
  throw new AppError(
    "NOT_A_CHECKPOINT",
    `${folder} is an adapter, not a model with full weights: name the folder of the base. Did you swap the base and the adapter?`,
  );
}

/** @throws NOT_A_CHECKPOINT for an adapter in the place of the merged folder */
export async function locateMerged(folder: string, options: EngineOptions): Promise<Found> {
  const found = await locate(folder, options);
  if (found.facts.kind === "checkpoint") return found;
  throw new AppError(
    "NOT_A_CHECKPOINT",
    `${folder} is an adapter, not a merged checkpoint: name the folder that base and adapter became.`,
  );
}

function notAnAdapter(folder: string): AppError {
  return new AppError(
    "NOT_AN_ADAPTER",
    `${folder} has no adapter_config.json: it is not an adapter. Did you swap the base and the adapter?`,
  );
}

function requirePinned(label: string, facts: Located["facts"], pin: Digest | null | undefined): void {
  if (!pin) return;
  const problems = pinProblems({ facts, label, pin, digest: checkpointDigests(facts).version });
  if (problems.length > 0) throw refusal("this evaluation is refused", problems);
}
