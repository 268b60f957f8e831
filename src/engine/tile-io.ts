import { Worker } from "node:worker_threads";
import type { TensorTask, WorkerError } from "./pool.ts";
import type { WrittenTensor } from "./tensor-sink.ts";
import type { Load } from "./tile-files.ts";
import { unpackError } from "./travel.ts";

export interface TileWrite {
  readonly task: TensorTask;
  /** Position of the first value that is written, in elements. */
  readonly start: number;
  readonly values: Float32Array;
  /** Values at the start that are not written. */
  readonly skip: number;
  /** With it the tensor is complete. */
  readonly last: boolean;
}

export type ToIo =
  | { readonly type: "read"; readonly id: number; readonly loads: readonly Load[] }
  | ({ readonly type: "write"; readonly id: number } & TileWrite)
  | { readonly type: "close" };

export type FromIo =
  | { readonly type: "read"; readonly id: number; readonly values: readonly Float32Array[] }
  | {
      readonly type: "wrote";
      readonly id: number;
      readonly values: Float32Array;
      /** With the last tile. */
      readonly tensor: WrittenTensor | null;
    }
  | { readonly type: "failed"; readonly id: number; readonly error: WorkerError };

export interface IoSetup {
  readonly module: WebAssembly.Module;
  readonly failWritesAfter: number | null;
  /** The outputs hold the canonical values: each is compared before it is overwritten. */
  readonly compare: boolean;
}

type Waiting = { resolve: (message: FromIo) => void; reject: (error: Error) => void };

/** A thread that reads and writes tiles while this one is busy with a device. Arrays are handed over, not copied. */
export class TileIo {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  constructor(setup: IoSetup) {
    const file = import.meta.url.endsWith(".ts") ? "./tile-io-worker.ts" : "./tile-io-worker.js";
    this.#worker = new Worker(new URL(file, import.meta.url), { workerData: setup });
    this.#worker.on("message", (message: FromIo) => this.#receive(message));
    this.#worker.on("error", (error) => {
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
  }

  async read(loads: readonly Load[]): Promise<readonly Float32Array[]> {
    if (loads.length === 0) return [];
    const answer = await this.#ask((id) =>
      this.#worker.postMessage({ type: "read", id, loads } satisfies ToIo),
    );
    if (answer.type !== "read") throw new Error(`a read was answered with ${answer.type}`);
    return answer.values;
  }

  /** Tiles of a tensor in their order. Takes `values` over; they come back with the answer, for another tile. */
  async write(write: TileWrite) {
    const answer = await this.#ask((id) => {
      const message: ToIo = { type: "write", id, ...write };
      this.#worker.postMessage(message, [write.values.buffer as ArrayBuffer]);
    });
    if (answer.type !== "wrote") throw new Error(`a write was answered with ${answer.type}`);
    return answer;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(send: (id: number) => void): Promise<FromIo> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      send(id);
    });
  }

  #receive(message: FromIo): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.type === "failed") waiting?.reject(unpackError(message.error, "reading or writing a tile"));
    else waiting?.resolve(message);
  }
}
