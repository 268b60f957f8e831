import { env } from "node:process";
import { compileKernels, Kernels } from "./kernels.ts";
import type { FromProcess, ToProcess } from "./onnx-pool.ts";
import { probeSession } from "./onnx-probe.ts";
import { NotOnDevice } from "./onnx-program.ts";
import { Buffers, type RunnerParts, TensorOnDevice } from "./onnx-runner.ts";
import { loadRuntime, Sessions } from "./onnx-session.ts";
import { type DeviceTile, deviceTiles } from "./onnx-tiles.ts";
import type { TensorTask } from "./pool.ts";
import { TileFiles } from "./tile-files.ts";
import { TileIo } from "./tile-io.ts";
import { packError } from "./travel.ts";

/*
 * A process of its own for a device: a driver that crashes, or the second thread that uses WebGPU in a process, must
 * not take a server with it. This thread keeps the device busy; another one reads and writes.
 */

// cuBLAS may otherwise multiply float32 in 10 bits of fraction; ONNX Runtime's Node binding has no option for it.
env.NVIDIA_TF32_OVERRIDE = "0";

/** Tiles that are being written while the next ones are computed. */
const MAX_WRITES = 2;

const send = (message: FromProcess) => process.send!(message);

interface Job {
  readonly task: TensorTask;
  readonly tensor: TensorOnDevice;
  readonly tile: DeviceTile;
  readonly last: boolean;
  readonly reading: Promise<readonly Float32Array[]>;
}

class DeviceRun {
  readonly #parts: RunnerParts;
  readonly #io: TileIo;
  readonly #writing = new Set<Promise<void>>();
  readonly #declined = new Set<TensorTask>();

  constructor(parts: RunnerParts, io: TileIo) {
    this.#parts = parts;
    this.#io = io;
  }

  async run(tasks: readonly TensorTask[]): Promise<void> {
    const jobs = this.#jobs(tasks);
    const begin = () => {
      const { value } = jobs.next();
      // A failed read is thrown when its tile's turn comes.
      value?.reading.catch(() => {});
      return value as Job | undefined;
    };
    for (let job = begin(), next: Job | undefined; job; job = next) {
      // Read while the device computes.
      next = begin();
      await this.#compute(job);
      while (this.#writing.size >= MAX_WRITES) await Promise.race(this.#writing);
    }
    await Promise.all(this.#writing);
  }

  *#jobs(tasks: readonly TensorTask[]): Generator<Job> {
    for (const task of tasks) {
      const tensor = new TensorOnDevice(task, this.#parts);
      for (const tile of deviceTiles(task)) {
        if (this.#declined.has(task)) break;
        yield {
          task,
          tensor,
          tile,
          last: tile.stop === (task.shape[0] ?? 1),
          reading: this.#io.read(tensor.loads(tile)),
        };
      }
    }
  }

  async #compute({ task, tensor, tile, last, reading }: Job): Promise<void> {
    const read = await reading;
    if (this.#declined.has(task)) return;
    try {
      // Whether the device can do all of it must be known before anything is overwritten.
      if (tile.start === 0) await this.#parts.sessions.prepare(modelsOf(task));
      this.#write(task, tile, last, await tensor.compute(tile, read));
    } catch (error) {
      if (!(error instanceof NotOnDevice)) throw error;
      this.#declined.add(task);
      send({ type: "declined", name: task.name, why: error.message });
    }
    if (last) this.#parts.buffers.clear();
  }

  #write(task: TensorTask, { start, stop, skip }: DeviceTile, last: boolean, values: Float32Array): void {
    const row = values.length / (stop - start);
    const write = { task, start: (start + skip) * row, values, skip: skip * row, last };
    const writing = this.#io.write(write).then(({ values: spare, tensor }) => {
      this.#parts.buffers.give(spare);
      send({ type: "progress", name: task.name, part: (stop - start - skip) / (task.shape[0] ?? 1) });
      if (tensor) send({ type: "tensor", name: task.name, ...tensor });
    });
    const settled = writing.finally(() => this.#writing.delete(settled));
    // A failed write is thrown where the run waits for it.
    settled.catch(() => {});
    this.#writing.add(settled);
  }
}

function* modelsOf(task: TensorTask): Generator<Uint8Array<ArrayBuffer>> {
  for (const { program } of deviceTiles(task)) {
    for (const value of program.values) if (value.kind === "graph") yield value.model;
  }
}

async function compute(message: Extract<ToProcess, { type: "run" }>): Promise<void> {
  const module = await compileKernels();
  const sessions = new Sessions(await loadRuntime(), message.device);
  const { failWritesAfter, compare } = message;
  const io = new TileIo({ module, failWritesAfter, compare });
  const files = new TileFiles(new Kernels(module));
  const parts = {
    sessions,
    files,
    read: (loads: Parameters<TileIo["read"]>[0]) => io.read(loads),
    buffers: new Buffers(),
  };
  await new DeviceRun(parts, io).run(message.tasks);
  await io.close();
  await sessions.close();
}

async function obey(message: ToProcess): Promise<FromProcess> {
  try {
    if (message.type === "probe") {
      const sessions = new Sessions(await loadRuntime(), message.device);
      return { type: "probed", found: await probeSession(sessions, message.device) };
    }
    await compute(message);
    return { type: "done" };
  } catch (error) {
    return { type: "failed", error: packError(error) };
  }
}

process.on("message", async (message: ToProcess) => {
  process.send!(await obey(message), undefined, undefined, () => process.disconnect());
});
// Whoever asked is gone: nobody waits for the rest.
process.on("disconnect", () => process.exit());
