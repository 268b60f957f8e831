import { join } from "node:path";
import { tensorsByName } from "../../src/core/checkpoint.ts";
import { alignSides, type NamedSide } from "../../src/engine/evaluation/pair.ts";
import type { Located } from "../../src/engine/events.ts";
import { type OpenForward, openForward } from "../../src/engine/forward/session.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";

export async function locate(folder: string): Promise<Located> {
  const { facts } = await readModelFolder(folder, { roots: null });
  return { folder, facts };
}

/** A folder's own tensors as a side. */
export function storedSide({ folder, facts }: Located, name = "base"): NamedSide {
  const tensors = tensorsByName(facts.weights);
  const weights = [...tensors].map(([tensor, { file, begin, end, dtype, shape }]) => [
    tensor,
    { kind: "stored", tensor: { path: join(folder, file), offset: begin, bytes: end - begin, dtype, shape } },
  ]);
  return { side: { name, weights: Object.fromEntries(weights) }, config: facts.config, shapes: tensors };
}

/** Opens sides in this process, as their own process does. */
export async function openSides(sides: readonly NamedSide[], cacheBytes = 0): Promise<OpenForward> {
  return await openForward({ ...alignSides(sides), device: "onnx-cpu", threads: 2, cacheBytes });
}
