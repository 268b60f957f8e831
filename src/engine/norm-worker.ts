import { parentPort, workerData } from "node:worker_threads";
import { productNorm } from "../core/adapters/factor-pairs.ts";
import { widen } from "../core/dtype.ts";
import { OpenFiles, readExact } from "../storage/tensor-io.ts";
import { packError } from "./travel.ts";
import type { NormFactor, NormMessage, NormTask } from "./update-norms.ts";

/** Measures the changes it was started with, one after another, and ends. */
const files = new OpenFiles();
const say = (message: NormMessage) => parentPort!.postMessage(message);

function values({ path, offset, bytes, dtype }: NormFactor): Float64Array {
  const stored = new Uint8Array(bytes);
  readExact(files.reading(path), path, stored, offset);
  return widen(dtype, stored);
}

try {
  for (const { name, rank, a, b } of workerData as readonly NormTask[]) {
    say({ name, norm: productNorm(values(a), values(b), rank) });
  }
} catch (error) {
  say({ failed: packError(error) });
} finally {
  files.closeAll();
}
