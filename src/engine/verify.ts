import { join } from "node:path";
import {
  allTensors,
  type CheckpointFacts,
  checkpointDigests,
  isIdentityFile,
  type LocatedTensor,
  tensorsByName,
  type VersionDigests,
} from "../core/checkpoint.ts";
import { addDistances, type Distance, MAX_ULP } from "../core/devices.ts";
import { byteLength } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { type Digest, versionDigest, weightsDigest } from "../core/identity.ts";
import { requireRunnable } from "../core/plan.ts";
import { makeRecipe, recipeDigest } from "../core/recipe.ts";
import { type MergeRecord, parseMergeRecord } from "../core/record.ts";
import { readRecordFile } from "../storage/checkpoint.ts";
import { digestCheckpoint, finish, withResults } from "./digest.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import { placementOf } from "./onnx-tiles.ts";
import type { TensorResult, TensorTask } from "./pool.ts";
import { runTasks } from "./run-tasks.ts";
import { baseResults, type TaskInputs, tensorTasks } from "./tasks.ts";

export interface VerifyInput extends TaskInputs {
  /** The merged folder, with its headers. */
  readonly merged: Located;
  readonly record: MergeRecord;
  /** Derive so many tensors, chosen at random, instead of all: seconds instead of minutes. */
  readonly sample?: number;
}

/** One thing that is not as recorded. */
export interface Difference {
  /** Tensor or file name. */
  readonly name: string;
  /** `stored`: the bytes on disk are not the recorded ones. `derived`: the inputs give other bytes. */
  readonly what: "stored" | "derived" | "missing" | "unexpected" | "input" | "file";
  readonly expected: string | null;
  readonly actual: string | null;
}

export interface VerifyResult {
  /** `PROVEN_CLOSE`: made on a device, and every element within a unit in the last place of the canonical value. */
  readonly verdict: "IDENTICAL" | "PROVEN_CLOSE" | "DIFFERENT";
  readonly recipeDigest: Digest;
  /** Digest of the merged folder as it is now; null where only a sample was read. */
  readonly digest: Digest | null;
  /** Tensors compared. */
  readonly tensors: number;
  /** Their names where they are a sample; null where they are all. */
  readonly sampled: readonly string[] | null;
  readonly differences: readonly Difference[];
  /** How far what a device computed is from the canonical value; null for a merge in the canonical arithmetic. */
  readonly distance: Distance | null;
}

/**
 * Derives a merge again from its inputs, without writing, and compares three digests of every tensor: recorded, on
 * disk, derived. Tensors of a merge on a device are compared with the canonical value by element instead.
 * @throws the plan's refusals, BAD_FILE; a difference is a result, not an error
 */
export async function* runVerify(
  input: VerifyInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, VerifyResult> {
  requireRunnable(input.plan);
  const stored = tensorsByName(input.merged.facts.weights);
  // The base's recorded digests are left out: a changed base is a finding of the comparison, not a failure to run it.
  const all = tensorTasks(input);
  const chosen = input.sample === undefined ? all : sampled(input, all, input.sample);
  const tasks = chosen.map(({ expectDigest: _, ...task }) => {
    const tensor = stored.get(task.name);
    const range = tensor && storedRange(input.merged.folder, tensor);
    // What a device computed is held to the canonical value element by element.
    const near =
      input.record.device && range?.bytes === byteLength(task.dtype, task.shape) && isOnDevice(task);
    return { ...task, ...(range && { compare: range }), ...(range && near && { near: range }) };
  });
  yield { type: "stage", stage: "verify", message: `deriving ${tasks.length} tensors again` };
  const results = yield* runTasks({ stage: "verify", tasks }, options);
  return input.sample === undefined ? compare(input, results) : compareSample(input, results);
}

/** Some of the merge's tensors, changed ones first: an untouched tensor proves little. */
function sampled({ plan }: TaskInputs, tasks: readonly TensorTask[], count: number): TensorTask[] {
  const order = plan.steps
    .map((step, i) => ({ task: tasks[i]!, rank: (step.expr === null ? 1 : 0) + Math.random() }))
    .sort((a, b) => a.rank - b.rank);
  return order.slice(0, count).map(({ task }) => task);
}

/** Whether the sampled tensors are what was recorded, on disk and derived; the inputs as a whole are not read. */
function compareSample(input: VerifyInput, results: ReadonlyMap<string, TensorResult>): VerifyResult {
  const { record } = input;
  const differences = [...results.keys()].flatMap((name) =>
    tensorDifferences(name, record.output.tensors[name] ?? null, results.get(name)),
  );
  return {
    verdict: verdictOf(differences, distanceOf(input, results)),
    recipeDigest: record.recipeDigest,
    digest: null,
    tensors: results.size,
    sampled: [...results.keys()],
    differences,
    distance: distanceOf(input, results),
  };
}

function tensorDifferences(
  name: string,
  digest: string | null,
  result: TensorResult | undefined,
): Difference[] {
  const differences: Difference[] = [];
  if (!result) differences.push({ name, what: "unexpected", expected: digest, actual: null });
  else if (result.outputDigest !== digest && !isClose(result)) {
    differences.push({ name, what: "derived", expected: digest, actual: result.outputDigest });
  }
  const stored = result?.compareDigest ?? null;
  if (stored === null) differences.push({ name, what: "missing", expected: digest, actual: null });
  else if (stored !== digest) differences.push({ name, what: "stored", expected: digest, actual: stored });
  return differences;
}

function distanceOf({ record }: VerifyInput, results: ReadonlyMap<string, TensorResult>): Distance | null {
  return record.device ? addDistances([...results.values()].flatMap((result) => result.near ?? [])) : null;
}

function verdictOf(differences: readonly Difference[], distance: Distance | null): VerifyResult["verdict"] {
  if (differences.length > 0) return "DIFFERENT";
  return distance === null || distance.differing === 0 ? "IDENTICAL" : "PROVEN_CLOSE";
}

function storedRange(folder: string, tensor: LocatedTensor) {
  return { path: join(folder, tensor.file), offset: tensor.begin, bytes: tensor.end - tensor.begin };
}

async function compare(
  input: VerifyInput,
  results: ReadonlyMap<string, TensorResult>,
): Promise<VerifyResult> {
  const { record, merged, plan } = input;
  const expected = new Map(Object.entries(record.output.tensors));
  const differences: Difference[] = [...inputDifferences(input, results)];
  for (const [name, digest] of expected) {
    differences.push(...tensorDifferences(name, digest, results.get(name)));
  }
  const names = new Set(expected.keys());
  for (const tensor of allTensors(merged.facts)) {
    if (!names.has(tensor.name)) {
      differences.push({ name: tensor.name, what: "unexpected", expected: null, actual: tensor.dtype });
    }
  }
  const { version: digest, weights } = storedDigests(merged.facts, results);
  if (weights !== record.output.weights && differences.length === 0) {
    // All bytes are right: what is left is a name, a dtype or a shape in a header, or the record itself.
    differences.push({
      name: "names, dtypes and shapes",
      what: "stored",
      expected: record.output.weights,
      actual: weights,
    });
  }
  if (digest !== record.output.version && differences.length === 0) {
    const files = merged.facts.files.filter(isIdentityFile).map((file) => file.path);
    const name = `one of ${files.join(", ")}`;
    differences.push({ name, what: "file", expected: record.output.version, actual: digest });
  }
  const distance = distanceOf(input, results);
  return {
    verdict: verdictOf(differences, distance),
    recipeDigest: record.recipeDigest,
    digest,
    tensors: plan.steps.length,
    sampled: null,
    differences,
    distance,
  };
}

function isOnDevice(task: TensorTask): boolean {
  return placementOf(task).on === "device";
}

/** Of a device's tensor: the stored bytes, which must be the recorded ones too, are near the canonical value. */
function isClose({ near }: TensorResult): boolean {
  return near !== undefined && near.maxUlp <= MAX_ULP;
}

/** The recipe that these inputs make must be the recorded one; else the inputs are others. */
function inputDifferences(input: VerifyInput, results: ReadonlyMap<string, TensorResult>): Difference[] {
  const read = baseResults(input, results);
  const base = withResults(input.base.facts, ({ name }) => {
    const { inputDigest, inputStats } = read.get(name)!;
    return { digest: inputDigest!, stats: inputStats };
  });
  const actual = makeRecipe({
    base: checkpointDigests(base),
    sources: input.sources.map((source, i) => ({
      ...checkpointDigests(source.facts),
      weight: input.record.recipe.sources[i]?.weight ?? 1,
    })),
    tokenizer: input.record.recipe.tokenizer,
    choices: input.record.recipe,
  });
  if (recipeDigest(actual) === input.record.recipeDigest) return [];
  const pairs = [
    { name: "base", expected: input.record.recipe.base.version, actual: actual.base.version },
    ...actual.sources.map((source, i) => ({
      name: `adapter ${i + 1}`,
      expected: input.record.recipe.sources[i]?.version ?? null,
      actual: source.version,
    })),
  ].filter((pair) => pair.expected !== pair.actual);
  if (pairs.length > 0) return pairs.map((pair) => ({ ...pair, what: "input" as const }));
  return [
    { name: "recipe", what: "input", expected: input.record.recipeDigest, actual: recipeDigest(actual) },
  ];
}

function storedDigests(facts: CheckpointFacts, results: ReadonlyMap<string, TensorResult>): VersionDigests {
  const weights = weightsDigest(
    allTensors(facts).map(({ name, dtype, shape }) => ({
      name,
      dtype,
      shape,
      digest: results.get(name)?.compareDigest ?? "unread",
    })),
  );
  const files = facts.files
    .filter(isIdentityFile)
    .map(({ path, size, digest }) => ({ path, size, digest: digest! }));
  return { weights, version: versionDigest(weights, files) };
}

/** The record of a merged folder; throws NOT_A_MERGE where there is none. */
export async function readRecord(folder: string): Promise<MergeRecord> {
  const json = await readRecordFile(folder);
  if (json === null) {
    throw new AppError(
      "NOT_A_MERGE",
      `${folder} has no graftwork.json: it was not merged by Graftwork, or the file was removed.`,
    );
  }
  return parseMergeRecord(json, join(folder, "graftwork.json"));
}

export interface Adopted {
  readonly facts: CheckpointFacts;
  readonly record: MergeRecord;
}

/**
 * Takes over a finished folder that an interrupted run left: every tensor is digested, and the folder counts only if
 * its record is for this recipe and its bytes are the recorded ones. `null`: it is something else.
 */
export async function adoptMerge(
  located: Located,
  recipe: Digest,
  options: EngineOptions,
): Promise<Adopted | null> {
  const record = await readRecord(located.folder);
  if (record.recipeDigest !== recipe) return null;
  const facts = await finish(digestCheckpoint(located, options));
  return checkpointDigests(facts).version === record.output.version ? { facts, record } : null;
}
