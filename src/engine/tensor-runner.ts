import { elementCount, isMergeable } from "../core/dtype.ts";
import { isFloat8 } from "../core/float8.ts";
import { FastRun } from "./fast-runner.ts";
import { fastUpdate } from "./fast-update.ts";
import type { Kernels } from "./kernels.ts";
import { LeafCache } from "./leaf-cache.ts";
import type { TensorResult, TensorTask } from "./pool.ts";
import { graphOf } from "./program-leaves.ts";
import { type Done, ProgramRun } from "./program-runner.ts";
import {
  checkInput,
  type RunnerHooks,
  summary,
  TaskIo,
  TILE_AT,
  TILE_BYTES,
  type Timings,
} from "./task-io.ts";

/** Runs tensor tasks on the calling thread, one after another, in the memory of one set of kernels. */
export class TensorRunner {
  readonly #io: TaskIo;
  readonly #cache = new LeafCache();

  constructor(kernels: Kernels, hooks: RunnerHooks) {
    this.#io = new TaskIo(kernels, hooks);
  }

  get timings(): Timings {
    return this.#io.timings;
  }

  close(): void {
    this.#io.close();
  }

  /** @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, OUT_OF_MEMORY, TENSOR_TOO_LARGE, and what opening a file may throw */
  run(task: TensorTask): TensorResult {
    const done = task.program ? this.#compute(task) : this.#copy(task);
    const compareDigest = task.compare ? this.#io.digest(task.compare) : null;
    const elements = elementsOf(task);
    const isCopy = task.program === undefined;
    return {
      name: task.name,
      inputDigest: done.inputDigest,
      outputDigest: done.outputDigest,
      compareDigest,
      inputStats: task.known?.stats ?? summary(done.inputSum, elementCount(task.input?.shape ?? [0])),
      outputStats: isCopy && task.known ? task.known.stats : summary(done.outputSum, elements),
      changed: done.changed,
      elements,
    };
  }

  #copy(task: TensorTask): Done {
    const { input } = task;
    if (!input) throw new Error(`${task.name} has neither an input nor a program`);
    const { digest, sum } = this.#io.readThrough(input, task, (at, bytes) =>
      this.#io.write(task, at, TILE_AT, bytes),
    );
    checkInput(task, digest);
    return { inputDigest: digest, outputDigest: digest, inputSum: sum, outputSum: sum, changed: 0 };
  }

  #compute(task: TensorTask): Done {
    const { dtype } = task;
    if (!isMergeable(dtype) && !isFloat8(dtype)) throw new Error(`${task.name}: ${dtype} cannot be computed`);
    const graph = graphOf(task);
    const place = { io: this.#io, cache: this.#cache, start: TILE_AT + TILE_BYTES };
    const run = new ProgramRun(place, task, graph);
    const update = fastUpdate(task, graph);
    if (task.part && !update) throw new Error(`${task.name} cannot be computed in parts`);
    return update ? new FastRun(this.#io, task, update, run).run() : run.run();
  }
}

function elementsOf({ shape, part, input }: TensorTask): number {
  const all = elementCount(shape);
  return part && input ? (all * part.bytes) / input.bytes : all;
}
