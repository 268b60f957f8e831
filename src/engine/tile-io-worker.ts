import { parentPort, workerData } from "node:worker_threads";
import { diskOfSize, OpenFiles } from "../storage/tensor-io.ts";
import { Kernels } from "./kernels.ts";
import { TensorSink, type WrittenTensor } from "./tensor-sink.ts";
import { TileFiles } from "./tile-files.ts";
import type { FromIo, IoSetup, TileWrite, ToIo } from "./tile-io.ts";
import { packError } from "./travel.ts";

const { module, failWritesAfter, compare } = workerData as IoSetup;
const disk = failWritesAfter === null ? undefined : diskOfSize(failWritesAfter);
const files = new TileFiles(new Kernels(module), disk);
const open = new OpenFiles();
/** Of the tensors that are being written. */
const sinks = new Map<string, TensorSink>();

function write({ task, start, values, skip, last }: TileWrite): WrittenTensor | null {
  const sink = sinks.get(task.name) ?? new TensorSink(task, { files, open, compare });
  sinks.set(task.name, sink);
  sink.write(start, values.subarray(skip));
  if (!last) return null;
  sinks.delete(task.name);
  return sink.finish();
}

function answer(message: Exclude<ToIo, { type: "close" }>): { reply: FromIo; hand: readonly Float32Array[] } {
  const { id } = message;
  if (message.type === "read") {
    const values = message.loads.map((load) => {
      const into = new Float32Array(load.count);
      files.read(load, into);
      return into;
    });
    return { reply: { type: "read", id, values }, hand: values };
  }
  const { values } = message;
  return { reply: { type: "wrote", id, values, tensor: write(message) }, hand: [values] };
}

parentPort!.on("message", (message: ToIo) => {
  if (message.type === "close") {
    files.close();
    open.closeAll();
    parentPort!.close();
    return;
  }
  try {
    const { reply, hand } = answer(message);
    parentPort!.postMessage(
      reply,
      hand.map((values) => values.buffer as ArrayBuffer),
    );
  } catch (error) {
    parentPort!.postMessage({ type: "failed", id: message.id, error: packError(error) } satisfies FromIo);
  }
});
