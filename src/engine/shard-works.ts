import { basename, join } from "node:path";
import type { PlannedShard, PlanStep } from "../core/plan-layout.ts";
import { realPathOf } from "../storage/digest-cache.ts";
import type { KnownTensor, TensorResult, TensorTask, Work } from "./pool.ts";
import { splitTask } from "./split.ts";
import { type TaskInputs, tensorTasks } from "./tasks.ts";

/** A shard is copied by the system and then overwritten in parts where at least this share of it stays as it is. */
const COPY_FROM = 1 / 5;

/** So many copied tensors of a shard are looked at; each of those that are computed is. */
const COPIED_SAMPLES = 50;

export interface ShardRequest extends TaskInputs {
  /** Folder that the shards are written into. */
  readonly staging: string;
  /** Weights files of the base whose stored digests and statistics hold. */
  readonly trusted: ReadonlySet<string>;
  /** Shards that stand in the staging folder already, with what is known of their tensors. */
  readonly adopted: ReadonlyMap<string, readonly TensorResult[]>;
  readonly digests: "all" | "none";
}

/** A task that several works do, by their positions. */
export interface PiecedTask {
  readonly task: TensorTask;
  readonly parts: readonly number[];
  readonly input: number | null;
  readonly output: number | null;
}

export interface ShardWorks {
  readonly works: readonly Work[];
  /** Shards that must exist with their size and header before the works begin. */
  readonly create: readonly PlannedShard[];
  /** Results that no work brings: tensors of adopted shards, and those that are copied unread. */
  readonly known: ReadonlyMap<string, TensorResult>;
  /** The latter's names. */
  readonly unread: ReadonlySet<string>;
  readonly pieces: readonly PiecedTask[];
  /** Weights files of the base that get a second name. */
  readonly linked: ReadonlySet<string>;
  /** For each work the shard that it writes; `null`: none. */
  readonly shardOf: readonly (string | null)[];
}

/**
 * What has to be done to write the shards of a plan. A shard of which nothing changes is copied whole by the system
 * (or linked, where the base is a folder of ours), one of which a part changes is copied and overwritten there, any
 * other is made tensor by tensor. A copied tensor whose digest is known is not read at all. Written tensors are sampled
 * when they are done. Shards are begun in order, so that most of them are finished when a crash comes.
 */
export function shardWorks(request: ShardRequest): ShardWorks {
  return new Planner(request).run();
}

class Planner {
  readonly #request: ShardRequest;
  readonly #tasks: readonly TensorTask[];
  readonly #works: Work[] = [];
  readonly #shardOf: (string | null)[] = [];
  readonly #create: PlannedShard[] = [];
  readonly #known = new Map<string, TensorResult>();
  readonly #unread = new Set<string>();
  readonly #pieces: PiecedTask[] = [];

  constructor(request: ShardRequest) {
    this.#request = request;
    this.#tasks = tensorTasks(request).map((task) => ({ ...task, digests: request.digests }));
  }

  run(): ShardWorks {
    const { plan, adopted } = this.#request;
    const steps = new Map(plan.shards.map((shard) => [shard.path, [] as number[]]));
    for (const [i, step] of plan.steps.entries()) steps.get(step.file)!.push(i);
    for (const [group, shard] of plan.shards.entries()) {
      const done = adopted.get(shard.path);
      if (done) this.#adopted(done, group, steps.get(shard.path)!);
      else this.#shard(shard, group, steps.get(shard.path)!);
    }
    for (const [i, tensor] of plan.unused.entries()) {
      const task = this.#tasks[plan.steps.length + i]!;
      const known = this.#knownOf(tensor.name);
      if (known) this.#takeUnread(task, known);
      else if (this.#request.digests === "all") {
        this.#add({ kind: "tensor", task, group: plan.shards.length }, null);
      }
    }
    return {
      works: this.#works,
      create: this.#create,
      known: this.#known,
      unread: this.#unread,
      pieces: this.#pieces,
      linked: new Set(this.#works.flatMap(linkedFile)),
      shardOf: this.#shardOf,
    };
  }

  #adopted(results: readonly TensorResult[], group: number, steps: readonly number[]): void {
    for (const result of results) this.#known.set(result.name, result);
    for (const i of steps) {
      const task = this.#tasks[i]!;
      if (task.program) this.#add({ kind: "sample", task: { task, written: this.#placeOf(i) }, group }, null);
    }
  }

  #takeUnread(task: TensorTask, known: KnownTensor): void {
    this.#known.set(task.name, unread(task, known));
    this.#unread.add(task.name);
  }

  #placeOf(step: number) {
    const { file, outputBegin } = this.#request.plan.steps[step]!;
    return { path: join(this.#request.staging, file), offset: outputBegin };
  }

  #shard(shard: PlannedShard, group: number, steps: readonly number[]): void {
    const copy = this.#copyWork(shard, steps);
    if (!copy) this.#create.push(shard);
    const after = copy ? this.#add({ ...copy, group }, shard.path) : undefined;
    const wait = after === undefined ? {} : { after: [after] };
    const every = Math.ceil(steps.length / COPIED_SAMPLES);
    let copied = 0;
    for (const i of steps) {
      const step = this.#request.plan.steps[i]!;
      const known = step.input && this.#knownOf(step.input.tensor);
      const task = { ...this.#tasks[i]!, ...(known && { known }) };
      const written = this.#placeOf(i);
      if (copy && isUntouched(step)) {
        this.#copied(task, { shard, group, known: known ?? null });
        // What the system copied is compared here and there; a second name for a file needs no comparison.
        if (!copy.task.link && copied++ % every === 0) {
          this.#add({ kind: "sample", task: { task, written }, group, after: [after!] }, null);
        }
        continue;
      }
      const done = this.#written({ ...task, output: written }, { group, wait, shard: shard.path });
      if (task.program) this.#add({ kind: "sample", task: { task, written }, group, after: done }, null);
    }
  }

  /** A tensor that is computed or copied, in pieces where it is large; returns the works that write it. */
  #written(
    task: TensorTask,
    of: { group: number; wait: { after?: readonly number[] }; shard: string },
  ): number[] {
    const { group, wait, shard } = of;
    const split = splitTask(task);
    if (!split) return [this.#add({ kind: "tensor", task, group, ...wait }, shard)];
    const part = (piece: TensorTask, more: { after?: readonly number[] }) =>
      this.#add({ kind: "tensor", task: piece, group, ...more }, shard);
    const parts = split.parts.map((piece) => part(piece, wait));
    const input = split.input && part(split.input, {});
    const output = split.output && part(split.output, { after: parts });
    this.#pieces.push({ task, parts, input, output });
    return parts;
  }

  /** A tensor that came with its file: known, or read for its digest. */
  #copied(task: TensorTask, of: { shard: PlannedShard; group: number; known: KnownTensor | null }): void {
    if (of.known) this.#takeUnread(task, of.known);
    else if (this.#request.digests === "all") {
      this.#add({ kind: "tensor", task, group: of.group }, of.shard.path);
    }
  }

  #copyWork(shard: PlannedShard, steps: readonly number[]): (Work & { kind: "copy" }) | null {
    const { plan, base, staging } = this.#request;
    const all = steps.map((i) => plan.steps[i]!);
    const from = base.facts.weights.find(({ path }) => path === shard.path);
    const kept = all.filter(isUntouched).reduce((sum, step) => sum + step.bytes, 0);
    const stays = ({ input, outputBegin, bytes }: PlanStep) =>
      input?.file === shard.path && input.begin === outputBegin && input.bytes === bytes;
    const sameLayout = from?.size === shard.size && from.dataStart === shard.dataStart && all.every(stays);
    if (!sameLayout || kept < shard.size * COPY_FROM) return null;
    const whole = shard.header === null && all.every(isUntouched);
    const task = {
      from: realPathOf(base.facts, shard.path) ?? join(base.folder, shard.path),
      to: join(staging, shard.path),
      bytes: shard.size,
      link: whole && base.immutable === true,
      ...(shard.header && { header: shard.header }),
    };
    return { kind: "copy", task };
  }

  #add(work: Work, shard: string | null): number {
    this.#shardOf.push(shard);
    return this.#works.push(work) - 1;
  }

  readonly #baseTensors = new Map<string, KnownTensor>();

  /** What is known of a base tensor, where its file is as it was when that was learnt. */
  #knownOf(tensor: string): KnownTensor | null {
    if (this.#baseTensors.size === 0) this.#readBase();
    return this.#baseTensors.get(tensor) ?? null;
  }

  #readBase(): void {
    const { base, trusted } = this.#request;
    for (const file of base.facts.weights) {
      if (!trusted.has(file.path)) continue;
      for (const { name, digest, stats } of file.tensors) {
        if (digest && stats) this.#baseTensors.set(name, { digest, stats });
      }
    }
  }
}

function linkedFile(work: Work): string[] {
  return work.kind === "copy" && work.task.link ? [basename(work.task.to)] : [];
}

function isUntouched({ expr, input, dtype }: PlanStep): boolean {
  return expr === null && input?.dtype === dtype;
}

/** The result of a tensor that is taken over as it is, without a look at it. */
function unread(task: TensorTask, { digest, stats }: KnownTensor): TensorResult {
  return {
    name: task.name,
    inputDigest: digest,
    outputDigest: digest,
    compareDigest: null,
    inputStats: stats,
    outputStats: stats,
    changed: 0,
    elements: task.shape.reduce((product, dim) => product * dim, 1),
  };
}
