import { join } from "node:path";
import { allTensors, type CheckpointFacts, RECORD_FILE, type VersionDigests } from "../core/checkpoint.ts";
import type { DeviceUse } from "../core/devices.ts";
import { AppError } from "../core/errors.ts";
import { digestBytes } from "../core/identity.ts";
import { editJson } from "../core/json-edit.ts";
import { type Recipe, recipeDigest } from "../core/recipe.ts";
import { ENGINE, type MergeRecord } from "../core/record.ts";
import { readText } from "../storage/folder.ts";
import { copyInto, writeText } from "../storage/staging.ts";
import type { Located } from "./events.ts";
import type { MergeInput } from "./merge.ts";

/** Copies or writes the small files that come along with the weights. */
export async function copyFiles({ plan, base, sources, staging }: MergeInput): Promise<void> {
  for (const file of plan.files) {
    if (file.content !== undefined) {
      await writeText(join(staging, file.path), file.content);
      continue;
    }
    if (file.edits !== undefined) {
      await writeText(join(staging, file.path), editJson(await readAgain(base, file.path), file.edits));
      continue;
    }
    const from = file.from === "base" ? base.folder : sources[0]!.folder;
    await copyInto(join(from, file.path), join(staging, file.path));
  }
}

/** The text of a small file of the base, which must still be what was read for the plan. */
async function readAgain({ folder, facts }: Located, path: string): Promise<string> {
  const text = await readText(join(folder, path));
  const expected = facts.files.find((file) => file.path === path)?.digest;
  const actual = digestBytes(new TextEncoder().encode(text));
  if (expected && expected !== actual) {
    throw new AppError(
      "INPUT_CHANGED",
      `${path} of the base was changed while it was merged: start again when nothing writes to it.`,
      { details: { file: path, expected, actual } },
    );
  }
  return text;
}

/** The small files were digested when the inputs were read and copied now: they must be the same bytes. */
export function requireCopied({ plan, base, sources }: MergeInput, output: CheckpointFacts): void {
  const digests = (facts: CheckpointFacts) => new Map(facts.files.map((file) => [file.path, file.digest]));
  const [from, to] = [{ base: digests(base.facts), adapter: digests(sources[0]!.facts) }, digests(output)];
  for (const file of plan.files) {
    // What the plan made was written from it just now.
    if (file.from === "plan") continue;
    const expected = from[file.from].get(file.path);
    if (!expected || expected === to.get(file.path)) continue;
    throw new AppError(
      "INPUT_CHANGED",
      `${file.path} of the ${file.from} was changed while it was merged: start again when nothing writes to it.`,
      { details: { file: file.path, expected, actual: to.get(file.path) ?? null } },
    );
  }
}

/** Writes graftwork.json: what was merged, into what, by which arithmetic. */
export async function writeRecord(
  input: MergeInput,
  recipe: Recipe,
  made: { facts: CheckpointFacts; digests: VersionDigests; device: DeviceUse | null },
): Promise<void> {
  const { facts, digests, device } = made;
  const record: MergeRecord = {
    schema: 1,
    recipe,
    recipeDigest: recipeDigest(recipe),
    output: {
      version: digests.version,
      weights: digests.weights,
      tensors: Object.fromEntries(allTensors(facts).map((t) => [t.name, t.digest!])),
    },
    engine: ENGINE,
    ...(device && { device }),
    hints: { base: { ...input.hints.base }, sources: input.hints.sources.map((hint) => ({ ...hint })) },
  };
  await writeText(join(input.staging, RECORD_FILE), `${JSON.stringify(record, null, 2)}\n`);
}
