import type { InferenceSession, Tensor } from "onnxruntime-node";
import type { OnnxDevice } from "../core/devices.ts";
import { elementCount } from "../core/dtype.ts";
import { NotOnDevice } from "./onnx-program.ts";

type Runtime = typeof import("onnxruntime-node");

/** Sessions that are kept: one for each structure of graph, storage type aside, and shape of tile. */
const MAX_SESSIONS = 64;

/** MLProgram computes in float32; the older format that Core ML takes by default does not everywhere. */
const COREML_ML_PROGRAM_CPU_AND_GPU = 0x030;

const PROVIDERS: Readonly<Record<OnnxDevice, InferenceSession.ExecutionProviderConfig>> = {
  webgpu: "webgpu",
  cuda: "cuda",
  coreml: { name: "coreml", coreMlFlags: COREML_ML_PROGRAM_CPU_AND_GPU },
  dml: "dml",
  "onnx-cpu": "cpu",
};

/**
 * Loads ONNX Runtime into this process. Its binding takes `Float16Array`, where there is one, for the only form of
 * half-precision data, and then rejects others; merges feed float32 only, but the class must be gone before it loads.
 */
export async function loadRuntime(): Promise<Runtime> {
  Reflect.deleteProperty(globalThis, "Float16Array");
  const { default: runtime } = (await import("onnxruntime-node")) as unknown as { default: Runtime };
  return runtime;
}

export interface Fed {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

export interface SessionOptions {
  readonly threads?: number;
  readonly lean?: boolean;
}

/** Graphs on one device, each compiled once. `run` blocks the thread until the device is done. */
export class Sessions {
  readonly #runtime: Runtime;
  readonly #device: OnnxDevice;
  readonly #threads: number | undefined;
  readonly #lean: boolean;
  /** By the model's bytes; the least recently used first. */
  readonly #open = new Map<string, InferenceSession>();

  /**
   * @param threads of ONNX Runtime's own processor kernels; default: as many as there are cores
   * @param lean sessions keep neither memory nor processors between two runs: for many graphs whose sizes differ
   */
  constructor(runtime: Runtime, device: OnnxDevice, { threads, lean = false }: SessionOptions = {}) {
    this.#runtime = runtime;
    this.#device = device;
    this.#threads = threads;
    this.#lean = lean;
  }

  get version(): string {
    return this.#runtime.env.versions.node ?? this.#runtime.env.versions.common;
  }

  /**
   * Feeds a graph and fills `into` with its output.
   * @throws NotOnDevice where the provider lacks an operator: it must not be computed elsewhere unseen
   */
  async run(model: Uint8Array<ArrayBuffer>, feeds: readonly Fed[], into: Fed): Promise<void> {
    const session = await this.#session(model);
    const tensor = ({ values, shape }: Fed): Tensor => new this.#runtime.Tensor("float32", values, shape);
    const inputs = Object.fromEntries(feeds.map((fed, i) => [`x${i}`, tensor(fed)]));
    const { y } = await session.run(inputs, { y: tensor(into) });
    if (y?.size !== elementCount(into.shape))
      throw new Error(`a graph gave [${y?.dims}], not [${into.shape}]`);
  }

  /** @throws NotOnDevice where the provider lacks an operator of one of the graphs */
  async prepare(models: Iterable<Uint8Array<ArrayBuffer>>): Promise<void> {
    for (const model of models) await this.#session(model);
  }

  async close(): Promise<void> {
    for (const session of this.#open.values()) await session.release();
    this.#open.clear();
  }

  async #session(model: Uint8Array<ArrayBuffer>): Promise<InferenceSession> {
    const key = Buffer.from(model).toString("latin1");
    const session = this.#open.get(key) ?? (await this.#create(model));
    this.#open.delete(key);
    this.#open.set(key, session);
    if (this.#open.size > MAX_SESSIONS) {
      const [[oldest, unused]] = this.#open as unknown as [[string, InferenceSession]];
      this.#open.delete(oldest);
      await unused.release();
    }
    return session;
  }

  async #create(model: Uint8Array<ArrayBuffer>): Promise<InferenceSession> {
    try {
      return await this.#runtime.InferenceSession.create(model, {
        executionProviders: [PROVIDERS[this.#device]],
        // ONNX Runtime would quietly give its own CPU provider what the device cannot do.
        extra: {
          session: {
            disable_cpu_ep_fallback: this.#device === "onnx-cpu" ? "0" : "1",
            // Threads that spin between small operations take the processor from each other and from everybody else.
            ...(this.#lean && { intra_op: { allow_spinning: "0" } }),
          },
        },
        // DirectML asks for both.
        ...(this.#device === "dml" && { enableMemPattern: false, executionMode: "sequential" as const }),
        ...(this.#lean && { enableCpuMemArena: false, enableMemPattern: false }),
        ...(this.#threads !== undefined && { intraOpNumThreads: this.#threads }),
        logSeverityLevel: 3,
      });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (/fallback to CPU EP has been explicitly disabled/.test(text)) {
        throw new NotOnDevice(`an operator that ${this.#device} lacks`);
      }
      throw error;
    }
  }
}
