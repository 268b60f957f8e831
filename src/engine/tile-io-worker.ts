import { parentPort, workerData } from "node:worker_threads";
import { diskOfSize } from "../storage/tensor-io.ts";
import { Kernels } from "./kernels.ts";
import { TileFiles } from "./tile-files.ts";
import type { FromIo, IoSetup, ToIo } from "./tile-io.ts";
import { packError } from "./travel.ts";

const { module, failWritesAfter } = workerData as IoSetup;
const write = failWritesAfter === null ? undefined : diskOfSize(failWritesAfter);
const files = new TileFiles(new Kernels(module), write);

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
  const { values, skip, store } = message;
  const stats = files.write(store, values.subarray(skip));
  return { reply: { type: "wrote", id, stats, values }, hand: [values] };
}

parentPort!.on("message", (message: ToIo) => {
  if (message.type === "close") {
    files.close();
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
