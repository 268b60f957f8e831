import {
  allTensors,
  type CheckpointFacts,
  checkpointDigests,
  tensorsByName,
  type VersionDigests,
} from "../core/checkpoint.ts";
import type { DeviceUse, OnnxDevice } from "../core/devices.ts";
import { AppError, type Finding, refusal } from "../core/errors.ts";
import { asLowRankUpdate, type Expr, leaves } from "../core/expr.ts";
import type { Digest } from "../core/identity.ts";
import { type CheckReport, checkMerge, requireEffect, type TensorOutcome } from "../core/parity.ts";
import { requireRunnable } from "../core/plan.ts";
import { makeRecipe, type Recipe, recipeDigest } from "../core/recipe.ts";
import type { InputHint } from "../core/record.ts";
import { readCheckpoint } from "../storage/checkpoint.ts";
import { rememberDigests } from "../storage/digest-cache.ts";
import { restamp } from "../storage/folder.ts";
import { dropNotes } from "../storage/shard-journal.ts";
import {
  discard,
  discardStaging,
  exists,
  makeStaging,
  outputExists,
  publishFolder,
  requireFreeDisk,
  requireUnchanged,
  syncTree,
} from "../storage/staging.ts";
import { type DevicePlan, planOnDevice, recompute } from "./device-merge.ts";
import { fingerprintsOf, withFingerprints, withResults } from "./digest.ts";
import { type EngineEvent, type EngineOptions, failAt } from "./events.ts";
import { copyFiles, requireCopied, writeRecord } from "./merge-files.ts";
import type { TensorResult } from "./pool.ts";
import { adoptShards } from "./resume.ts";
import { sampledRows } from "./sample.ts";
import { baseResults, type TaskInputs } from "./tasks.ts";
import { requireTrusted, type WrittenShards, writeShards } from "./write-shards.ts";

export interface MergeInput extends TaskInputs {
  /** Where the merged checkpoint appears when it is complete. */
  readonly output: string;
  /** Where it is written before; on the same file system. */
  readonly staging: string;
  /** Weights of the sources, for the recipe. */
  readonly weights: readonly number[];
  /** Digests the inputs must have; checked before anything becomes visible. */
  readonly pins?: { readonly base?: Digest | null; readonly sources?: readonly (Digest | null)[] };
  /** The recipe that was promised (server); a result with another digest is refused. */
  readonly recipe?: Recipe;
  readonly hints: { readonly base: InputHint; readonly sources: readonly InputHint[] };
  /**
   * With a promised recipe: finished shards are noted, and those that earlier attempts finished in these staging
   * folders are taken over. The folders are removed.
   */
  readonly earlier?: readonly string[];
  /** What computes the changed tensors, near the canonical value; absent: the kernels, which give that value. */
  readonly device?: OnnxDevice;
}

export interface MergeOptions extends EngineOptions {
  /** Test hook: the disk is full after so many bytes. */
  readonly failWritesAfter?: number;
}

/** Seconds. */
export interface MergeTiming {
  readonly execute_s: number;
  /** Digests of the small files, the recipe and the version; tensor digests are taken while merging. */
  readonly digest_s: number;
  readonly check_s: number;
  readonly sync_s: number;
}

export interface MergeSummary {
  readonly output: string;
  /** Facts of the merged checkpoint, tensors digested. */
  readonly facts: CheckpointFacts;
  readonly digests: VersionDigests;
  readonly recipe: Recipe;
  readonly recipeDigest: Digest;
  readonly report: CheckReport;
  /** What computed it, and how near that is; null where it is the canonical value. */
  readonly device: DeviceUse | null;
  readonly changedElements: number;
  readonly timing: MergeTiming;
}

/**
 * Runs a plan: streams the base's shards tile by tile into a staging folder, changes the touched tensors by the
 * canonical arithmetic, checks the result, forces it to disk and renames it into view. On any failure nothing is left.
 * @throws the plan's refusals, OUTPUT_EXISTS, NOT_ENOUGH_DISK, DISK_FULL, INPUT_CHANGED, NO_EFFECT, NOT_FINITE,
 *   DIGEST_MISMATCH, CHECK_FAILED; on a device DEVICE_UNAVAILABLE, DEVICE_UNSUITABLE, DEVICE_FAILED, DEVICE_DIFFERS
 */
export async function* runMerge(
  input: MergeInput,
  options: MergeOptions,
): AsyncGenerator<EngineEvent, MergeSummary> {
  requireRunnable(input.plan);
  const onDevice = input.device ? await planOnDevice(input, input.device) : null;
  failAt("after-plan", options.failpoint);
  if (await exists(input.output)) throw outputExists(input.output);
  await requireInputs(input);
  let published = false;
  const topmostMade = await makeStaging(input.staging);
  try {
    const adopted = yield* takeOver(input, options);
    const missing = input.plan.shards.filter(({ path }) => !adopted.has(path));
    const present = totalSize(input.plan.shards) - totalSize(missing);
    await requireFreeDisk(input.output, input.plan.bytesToWrite - present);
    const summary = yield* mergeInto(input, { adopted, onDevice }, options);
    options.signal?.throwIfAborted();
    await publishFolder(input.staging, input.output);
    published = true;
    failAt("after-rename", options.failpoint);
    return { ...summary, facts: await remember(input, summary.facts, options) };
  } finally {
    if (!published) await discardStaging(input.staging, topmostMade);
  }
}

const totalSize = (files: readonly { readonly size: number }[]) =>
  files.reduce((total, { size }) => total + size, 0);

async function requireInputs(input: MergeInput): Promise<void> {
  for (const side of [input.base, ...input.sources]) await requireUnchanged(side.folder, side.facts.files);
}

/** Results of the tensors of shards that stand in the staging folder already. */
type Adopted = ReadonlyMap<string, readonly TensorResult[]>;

async function* takeOver(input: MergeInput, options: MergeOptions): AsyncGenerator<EngineEvent, Adopted> {
  const { recipe, earlier = [] } = input;
  const adopted = recipe ? yield* adoptShards({ ...input, recipe, earlier }, options) : new Map();
  for (const folder of earlier) await discard(folder);
  return adopted;
}

/** The published folder's facts; the next merge on it need not read it for its digests. */
async function remember(
  { output }: MergeInput,
  written: CheckpointFacts,
  { cache }: MergeOptions,
): Promise<CheckpointFacts> {
  const stamped = await restamp(output, written);
  const seen = await fingerprintsOf(stamped);
  const facts = withFingerprints(stamped, seen, seen);
  if (cache !== undefined) await rememberDigests(cache, facts);
  return facts;
}

async function* mergeInto(
  input: MergeInput,
  { adopted, onDevice }: { adopted: Adopted; onDevice: DevicePlan | null },
  options: MergeOptions,
): AsyncGenerator<EngineEvent, MergeSummary> {
  const clock = stopwatch();
  yield { type: "stage", stage: "merge", message: `merging ${input.plan.touched.length} tensors` };
  const before = await fingerprintsOf(input.base.facts);
  const written = yield* writeShards({ ...input, adopted, before }, options);
  const recomputed = onDevice && (yield* recompute({ ...input, ...written, planned: onDevice }, options));
  const results = recomputed?.results ?? written.results;
  const execute_s = clock();

  const read = baseResults(input, results);
  const base = withResults(input.base.facts, ({ name }) => {
    const { inputDigest, inputStats } = read.get(name)!;
    return { digest: inputDigest!, stats: inputStats };
  });
  // What was copied or read must be what the stamps were taken of: nothing was written to it meanwhile.
  await requireInputs(input);
  const after = await fingerprintsOf(input.base.facts);
  requireTrusted(written, before, after);
  if (options.cache !== undefined) {
    await rememberDigests(options.cache, withFingerprints(base, before, after));
    for (const source of input.sources) await rememberDigests(options.cache, source.facts);
  }
  const outcomes = outcomesOf(input, { ...written, results });
  requireUsable(outcomes);
  await copyFiles(input);
  const recipe = settleRecipe(input, base);
  const facts = await describeOutput(input, results);
  requireCopied(input, facts);
  const digests = checkpointDigests(facts);
  const device = recomputed?.use ?? null;
  await writeRecord(input, recipe, { facts, digests, device });
  const digest_s = clock();

  yield { type: "stage", stage: "check", message: "comparing with the plan" };
  const report = checkMerge({
    plan: input.plan,
    outcomes,
    written: allTensors(facts),
    files: facts.files.map((file) => file.path),
    sampled: sampledRows(written.samples),
    ...(recomputed && { device: recomputed }),
  });
  requirePassed(report);
  for (const finding of report.warnings) yield { type: "warning", finding };
  const check_s = clock();

  yield { type: "stage", stage: "sync", message: "forcing the files to disk" };
  await dropNotes(input.staging);
  await syncTree(input.staging);
  failAt("after-sync", options.failpoint);
  const timing = { execute_s, digest_s, check_s, sync_s: clock() };
  return {
    output: input.output,
    facts,
    digests,
    recipe,
    recipeDigest: recipeDigest(recipe),
    report,
    device,
    changedElements: outcomes.reduce((sum, o) => sum + o.changed, 0),
    timing,
  };
}

function stopwatch(): () => number {
  let last = performance.now();
  return () => {
    const now = performance.now();
    const seconds = (now - last) / 1000;
    last = now;
    return seconds;
  };
}

function outcomesOf({ plan, sources }: TaskInputs, { results, unread }: WrittenShards): TensorOutcome[] {
  const factors = sources.map((source) => tensorsByName(source.facts.weights));
  return plan.steps.map((step) => {
    const result = results.get(step.tensor)!;
    return {
      tensor: step.tensor,
      touched: step.expr !== null,
      inputDigest: result.inputDigest,
      outputDigest: result.outputDigest!,
      inputStats: result.inputStats,
      stats: result.outputStats,
      changed: result.changed,
      elements: result.elements,
      inherited: unread.has(step.tensor),
      updateIsZero: step.expr !== null && addsZero(step.expr, factors),
    };
  });
}

type Tensors = ReadonlyMap<string, { readonly stats?: { readonly absmax: number | null } }>;

/** A low-rank update with a factor of zeros, or a scale of zero. */
function addsZero(expr: Expr, factors: readonly Tensors[]): boolean {
  const update = asLowRankUpdate(expr);
  if (!update) return false;
  const zero = (side: Expr) =>
    leaves(side).every(
      (leaf) => leaf.op === "source" && factors[leaf.source]!.get(leaf.tensor)?.stats?.absmax === 0,
    );
  return update.scale === 0 || zero(update.left) || zero(update.right);
}

/** Refuses a result that nobody wants, before it costs a sync: infinite values, or no change at all. */
function requireUsable(outcomes: readonly TensorOutcome[]): void {
  const reasons: Finding[] = outcomes
    .filter((o) => o.touched && o.stats.nonFinite > 0)
    .map((o) => ({
      code: "NOT_FINITE",
      subject: o.tensor,
      message:
        `tensor "${o.tensor}" has ${o.stats.nonFinite} NaN or infinite elements after the merge (${o.inputStats.nonFinite} in the base): ` +
        "the change leaves the range of the base's dtype. Check alpha and the adapter, or use a base in BF16 or F32.",
    }));
  const idle = requireEffect(outcomes);
  if (idle) reasons.push(idle);
  if (reasons.length > 0) throw refusal("this merge is refused", reasons);
}

function requirePassed(report: CheckReport): void {
  const failed = report.checks.filter((check) => !check.passed);
  if (failed.length === 0) return;
  throw refusal(
    "the merged checkpoint failed its check and was removed; this is a defect of Graftwork or of the disk",
    failed.map((check) => ({
      code: "CHECK_FAILED",
      subject: check.name,
      message: `${check.name}: ${check.detail}`,
    })),
  );
}

/** The complete recipe, now that every input was read; refuses inputs other than the pinned or promised ones. */
function settleRecipe(input: MergeInput, base: CheckpointFacts): Recipe {
  const inputs = {
    base: checkpointDigests(base),
    sources: input.sources.map((source) => checkpointDigests(source.facts)),
  };
  requirePin("the base", input.base.folder, inputs.base.version, input.pins?.base);
  for (const [i, source] of inputs.sources.entries()) {
    requirePin("the adapter", input.sources[i]!.folder, source.version, input.pins?.sources?.[i]);
  }
  const recipe = makeRecipe({
    base: inputs.base,
    sources: inputs.sources.map((source, i) => ({ ...source, weight: input.weights[i] ?? 1 })),
    tokenizer: input.plan.tokenizer.from,
    choices: input.plan.choices,
  });
  if (input.recipe && recipeDigest(input.recipe) !== recipeDigest(recipe)) {
    throw new AppError(
      "DIGEST_MISMATCH",
      `the inputs that were read are not those of the recipe ${recipeDigest(input.recipe)}: a file changed since it was imported. Import it again.`,
      { details: { expected: recipeDigest(input.recipe), actual: recipeDigest(recipe) } },
    );
  }
  return recipe;
}

function requirePin(what: string, folder: string, actual: Digest, pin: Digest | null | undefined): void {
  if (!pin || pin === actual) return;
  throw new AppError(
    "DIGEST_MISMATCH",
    `${what} in ${folder} has digest ${actual}, but ${pin} is pinned: these are other bytes. Pin the digest you mean, or fetch the pinned version.`,
    { details: { expected: pin, actual } },
  );
}

/** What is known of the tokenizer that was copied; `undefined` for one of files from both sides. */
function knownTokenizer({ plan, base, sources }: MergeInput): CheckpointFacts["tokenizer"] | undefined {
  const [owner = null, ...others] = new Set(plan.tokenizer.files.map(({ from }) => from));
  if (others.length > 0) return undefined;
  return owner && (owner === "base" ? base : sources[0]!).facts.tokenizer;
}

/** Reads the written folder back (headers are validated again) and joins the digests taken while writing. */
async function describeOutput(
  input: MergeInput,
  results: ReadonlyMap<string, TensorResult>,
): Promise<CheckpointFacts> {
  const tokenizer = knownTokenizer(input);
  const facts = await readCheckpoint(input.staging, {
    roots: null,
    ...(tokenizer !== undefined && { tokenizer }),
  });
  return withResults(facts, ({ name }) => {
    const { outputDigest, outputStats } = results.get(name)!;
    return { digest: outputDigest!, stats: outputStats };
  });
}
