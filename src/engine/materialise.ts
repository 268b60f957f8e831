import { byteLength } from "../core/dtype.ts";
import type { Kernels } from "./kernels.ts";
import type { TensorTask } from "./pool.ts";
import { TensorRunner } from "./tensor-runner.ts";

/** Computes tensors in memory, one after another, on the calling thread: what a merge would write, without a file. */
export class Materialiser {
  readonly #runner: TensorRunner;
  #into = new Uint8Array(0);

  /** @param checkStopped throws when the work is no longer wanted; called between tiles */
  constructor(kernels: Kernels, checkStopped: () => void = () => {}) {
    this.#runner = new TensorRunner(kernels, {
      checkStopped,
      advance: () => {},
      wrote: () => {},
      computed: (at, bytes) => this.#into.set(bytes, at),
    });
  }

  /**
   * The bytes of a task's value, in its dtype. Nothing is digested.
   * @throws what `TensorRunner.run` throws
   */
  value(task: TensorTask): Uint8Array<ArrayBuffer> {
    const bytes = byteLength(task.dtype, task.shape);
    if (bytes === null) throw new Error(`${task.name} has no whole number of bytes`);
    const into = new Uint8Array(bytes);
    this.#into = into;
    const { output: _, near: __, ...rest } = task;
    this.#runner.run({ ...rest, digests: "none" });
    this.#into = new Uint8Array(0);
    return into;
  }

  /** The value of a float32 task. */
  floats(task: TensorTask): Float32Array<ArrayBuffer> {
    if (task.dtype !== "F32") throw new Error(`${task.name} is no float32 task`);
    return new Float32Array(this.value(task).buffer);
  }

  close(): void {
    this.#runner.close();
  }
}
