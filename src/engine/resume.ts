import { join } from "node:path";
import { digestJson } from "../core/identity.ts";
import type { PlannedShard } from "../core/plan-layout.ts";
import { type Recipe, recipeDigest } from "../core/recipe.ts";
import { ENGINE } from "../core/record.ts";
import { FileSource } from "../storage/file.ts";
import { moveShard, noteFinished, readFinished } from "../storage/shard-journal.ts";
import { type EngineEvent, type EngineOptions, failAt } from "./events.ts";
import type { TensorResult, TensorTask } from "./pool.ts";
import { runTasks } from "./run-tasks.ts";
import type { ShardWorks } from "./shard-works.ts";
import type { TaskInputs } from "./tasks.ts";

export interface ResumeInput extends TaskInputs {
  readonly staging: string;
  readonly recipe: Recipe;
  /** Staging folders of earlier attempts, whose processes are gone or have lost the job. */
  readonly earlier: readonly string[];
}

type Adopted = Map<string, readonly TensorResult[]>;

/**
 * Moves the shards that earlier attempts finished into the staging folder of this one. Every tensor is read again, and
 * a shard counts only if all of them have the digests that were noted: after a power cut a file may be less than what
 * was written. A lost process that still runs has nothing more to write to a finished shard.
 */
export async function* adoptShards(
  input: ResumeInput,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, Adopted> {
  const adopted: Adopted = new Map();
  for (const folder of input.earlier) {
    for (const shard of input.plan.shards) {
      if (adopted.has(shard.path)) continue;
      const note = await readFinished<TensorResult>(folder, shard.path, shardKey(input, shard));
      if (!note || !(await hasHeader(input, shard, folder))) continue;
      yield { type: "stage", stage: "digest", message: `checking the finished shard ${shard.path}` };
      const results = yield* runTasks({ stage: "digest", tasks: readTasks(input, shard, folder) }, options);
      if (!note.results.every(({ name, outputDigest }) => results.get(name)?.inputDigest === outputDigest)) {
        continue;
      }
      await moveShard(folder, input.staging, shard.path);
      await noteFinished(input.staging, shard.path, note);
      adopted.set(shard.path, note.results);
    }
  }
  const message = `taking over ${adopted.size} of ${input.plan.shards.length} shards from an interrupted attempt`;
  if (adopted.size > 0) yield { type: "stage", stage: "digest", message };
  return adopted;
}

function shardKey({ plan, recipe }: Pick<ResumeInput, "plan" | "recipe">, shard: PlannedShard): string {
  const steps = plan.steps.filter((step) => step.file === shard.path);
  const layout = steps.map(({ tensor, dtype, shape, outputBegin }) => [tensor, dtype, shape, outputBegin]);
  return digestJson({ recipe: recipeDigest(recipe), engine: ENGINE, size: shard.size, layout });
}

async function hasHeader(
  { base }: TaskInputs,
  { path, header, dataStart, size }: PlannedShard,
  folder: string,
): Promise<boolean> {
  try {
    await using file = await FileSource.open(join(folder, path));
    if (file.size !== size) return false;
    const actual = await file.read(0, dataStart);
    if (header !== null) return Buffer.compare(header, actual) === 0;
    await using source = await FileSource.open(join(base.folder, path), path);
    return Buffer.compare(await source.read(0, dataStart), actual) === 0;
  } catch {
    return false;
  }
}

function readTasks({ plan }: TaskInputs, shard: PlannedShard, folder: string): TensorTask[] {
  const steps = plan.steps.filter((step) => step.file === shard.path);
  return steps.map(({ tensor, dtype, shape, bytes, outputBegin }): TensorTask => {
    const path = join(folder, shard.path);
    return {
      name: tensor,
      dtype,
      shape,
      input: { key: tensor, path, offset: outputBegin, bytes, dtype, shape },
    };
  });
}

/** Notes each shard when the last of its works is done, so that a later attempt need not do it again. */
export class ShardJournal {
  readonly #input: Omit<ResumeInput, "earlier">;
  readonly #works: ShardWorks;
  readonly #options: EngineOptions;
  readonly #left = new Map<string, number>();

  constructor(input: Omit<ResumeInput, "earlier">, works: ShardWorks, options: EngineOptions) {
    this.#input = input;
    this.#works = works;
    this.#options = options;
    for (const shard of works.shardOf) {
      if (shard !== null) this.#left.set(shard, (this.#left.get(shard) ?? 0) + 1);
    }
  }

  /** Told of a work that is done. @param results of all tensors up to now, by name */
  async done(index: number, results: ReadonlyMap<string, TensorResult>): Promise<void> {
    const path = this.#works.shardOf[index] ?? null;
    if (path === null) return;
    const left = this.#left.get(path)! - 1;
    this.#left.set(path, left);
    if (left > 0) return;
    const { plan, staging } = this.#input;
    const shard = plan.shards.find((planned) => planned.path === path)!;
    const own = plan.steps.filter((step) => step.file === path).map((step) => results.get(step.tensor)!);
    await noteFinished(staging, path, { schema: 1, key: shardKey(this.#input, shard), results: own });
    failAt("after-shard", this.#options.failpoint);
  }
}
