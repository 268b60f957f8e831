import { digestCheckpoint, finish } from "../../src/engine/digest.ts";
import { alignSides, type NamedSide } from "../../src/engine/evaluation/pair.ts";
import type { Located } from "../../src/engine/events.ts";
import { type OpenForward, openForward } from "../../src/engine/forward/session.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";

export async function locate(folder: string): Promise<Located> {
  const { facts } = await readModelFolder(folder, { roots: null });
  return { folder, facts };
}

/** With a digest of every tensor, as planning an adapter needs. */
export async function digested(located: Located): Promise<Located> {
  return { ...located, facts: await finish(digestCheckpoint(located, { threads: 1 })) };
}

/** Opens sides in this process, as their own process does. */
export async function openSides(sides: readonly NamedSide[], cacheBytes = 0): Promise<OpenForward> {
  return await openForward({ ...alignSides(sides), device: "onnx-cpu", threads: 2, cacheBytes });
}
