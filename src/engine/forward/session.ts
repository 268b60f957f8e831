import type { ModelSpec } from "../../core/decoder/spec.ts";
import type { OnnxDevice } from "../../core/devices.ts";
import { OpenFiles } from "../../storage/tensor-io.ts";
import { compileKernels, Kernels } from "../kernels.ts";
import { Materialiser } from "../materialise.ts";
import { loadRuntime, Sessions } from "../onnx-session.ts";
import { Forward } from "./forward.ts";
import { Ops } from "./ops.ts";
import { Scratch } from "./scratch.ts";
import type { Side } from "./side.ts";
import { Weights } from "./weights.ts";

/** What a model is run with. */
export interface ForwardSetup {
  /** Tensors by roles. */
  readonly model: ModelSpec;
  readonly sides: readonly Side[];
  /** "onnx-cpu" for the processor. */
  readonly device: OnnxDevice;
  readonly threads: number;
  /** Bytes of widened weights that may stay in memory. */
  readonly cacheBytes: number;
}

export interface OpenForward {
  readonly forward: Forward;
  /** Name and version of what multiplies. */
  readonly runtime: string;
  close(): Promise<void>;
}

/** Opens files, kernels and sessions in this process, which should be one of its own: runs block it. */
export async function openForward(setup: ForwardSetup): Promise<OpenForward> {
  const sessions = new Sessions(await loadRuntime(), setup.device, { threads: setup.threads, lean: true });
  const files = new OpenFiles();
  const materialiser = new Materialiser(new Kernels(await compileKernels()));
  const scratch = new Scratch();
  const weights = new Weights({ files, materialiser, scratch, cacheBytes: setup.cacheBytes });
  const ops = new Ops(sessions, scratch);
  const { model, sides } = setup;
  return {
    forward: new Forward({ model, sides, ops, weights }),
    runtime: `ONNX Runtime ${sessions.version}`,
    close: async () => {
      files.closeAll();
      materialiser.close();
      await sessions.close();
    },
  };
}
