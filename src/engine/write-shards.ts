import { join } from "node:path";
import { AppError } from "../core/errors.ts";
import type { PlannedShard } from "../core/plan-layout.ts";
import type { Recipe } from "../core/recipe.ts";
import { FileSource } from "../storage/file.ts";
import { createShard } from "../storage/staging.ts";
import type { EngineEvent, EngineOptions, Located } from "./events.ts";
import type { TensorResult, WorkResult } from "./pool.ts";
import { ShardJournal } from "./resume.ts";
import { runWorks } from "./run-tasks.ts";
import type { SampledTensor } from "./sample.ts";
import { type PiecedTask, type ShardWorks, shardWorks } from "./shard-works.ts";
import { joinPieces } from "./split.ts";
import type { TaskInputs } from "./tasks.ts";

export interface WriteRequest extends TaskInputs {
  /** An existing folder. */
  readonly staging: string;
  /** The promised recipe; with one, finished shards are noted. */
  readonly recipe?: Recipe;
  /** Results of the tensors of shards that stand in the staging folder already. */
  readonly adopted: ReadonlyMap<string, readonly TensorResult[]>;
  /** The state of the base's weights files. */
  readonly before: ReadonlyMap<string, string | null>;
}

export interface WriteOptions extends EngineOptions {
  /** `none`: no digest is taken, for measurements. Nothing can be recorded of such a merge. Default: `all`. */
  readonly digests?: "all" | "none";
  /** Test hook: the disk is full after so many bytes. */
  readonly failWritesAfter?: number;
}

export interface WrittenShards {
  /** By name of the task; every tensor of the plan and every base tensor that no step starts from. */
  readonly results: ReadonlyMap<string, TensorResult>;
  readonly samples: readonly SampledTensor[];
  /** Tensors that were copied without being read. */
  readonly unread: ReadonlySet<string>;
  /** Weights files of the base whose known digests were taken over; a link to one changes its times, so without those. */
  readonly trusted: ReadonlySet<string>;
}

/**
 * Writes the weights files of a plan into a folder and looks at samples of what was written.
 * @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, …; the reason of the signal
 */
export async function* writeShards(
  request: WriteRequest,
  options: WriteOptions,
): AsyncGenerator<EngineEvent, WrittenShards> {
  const { staging, recipe, adopted } = request;
  const trusted = trustedFiles(request.base, request.before);
  const planned = shardWorks({ ...request, trusted, adopted, digests: options.digests ?? "all" });
  for (const shard of planned.create) await layOutShard(request, shard);
  const results = new Map(planned.known);
  const samples: SampledTensor[] = [];
  const journal = recipe ? new ShardJournal({ ...request, staging, recipe }, planned, options) : null;
  const pieces = new Pieces(planned);
  const done = async (index: number, result: WorkResult) => {
    if (result.kind === "tensor") {
      const whole = pieces.add(index, result.result);
      if (whole) results.set(whole.name, whole);
    } else if (result.kind === "sample") samples.push(result.result);
    await journal?.done(index, results);
  };
  const { works } = planned;
  yield* runWorks({ stage: "merge", works, done, failWritesAfter: options.failWritesAfter }, options);
  const watched = new Set([...trusted].filter((file) => !planned.linked.has(file)));
  return { results, samples, unread: planned.unread, trusted: watched };
}

/** Puts the results of pieces together. */
class Pieces {
  readonly #of = new Map<number, PiecedTask>();
  readonly #results = new Map<number, TensorResult>();

  constructor({ pieces }: ShardWorks) {
    for (const piece of pieces) {
      for (const index of [...piece.parts, piece.input, piece.output]) {
        if (index !== null) this.#of.set(index, piece);
      }
    }
  }

  /** The result of a whole tensor, when its last piece is here. */
  add(index: number, result: TensorResult): TensorResult | null {
    const piece = this.#of.get(index);
    if (!piece) return result;
    this.#results.set(index, result);
    const of = (at: number | null) => (at === null ? null : (this.#results.get(at) ?? null));
    const parts = piece.parts.flatMap((at) => of(at) ?? []);
    const [input, output] = [of(piece.input), of(piece.output)];
    const missing = (at: number | null, found: TensorResult | null) => at !== null && found === null;
    if (parts.length < piece.parts.length || missing(piece.input, input) || missing(piece.output, output)) {
      return null;
    }
    return joinPieces(piece.task, { parts, input, output });
  }
}

/** Files whose stored digests hold: nothing changed since they were taken. */
function trustedFiles({ facts }: Located, now: ReadonlyMap<string, string | null>): ReadonlySet<string> {
  const holds = facts.weights.filter(
    ({ path, fingerprint }) => fingerprint !== undefined && fingerprint === now.get(path),
  );
  return new Set(holds.map(({ path }) => path));
}

/** @throws INPUT_CHANGED where a file whose digests were taken over was written to while the merge ran */
export function requireTrusted(
  { trusted }: Pick<WrittenShards, "trusted">,
  before: ReadonlyMap<string, string | null>,
  after: ReadonlyMap<string, string | null>,
): void {
  for (const file of trusted) {
    if (before.get(file) === after.get(file)) continue;
    throw new AppError(
      "INPUT_CHANGED",
      `${file} of the base was changed while it was merged: start again when nothing writes to it.`,
      { details: { file } },
    );
  }
}

async function layOutShard({ base, staging }: WriteRequest, shard: PlannedShard): Promise<void> {
  let { header } = shard;
  if (header === null) {
    await using source = await FileSource.open(join(base.folder, shard.path), shard.path);
    header = await source.read(0, shard.dataStart);
  }
  await createShard(join(staging, shard.path), header, shard.size);
}
