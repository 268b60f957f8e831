import type { DeviceName, OnnxDevice } from "../../core/devices.ts";
import { requireDevice } from "../devices.ts";
import type { Located } from "../events.ts";
import type { LocatedReference } from "./local.ts";
import { type AlignedSides, widenedBytes } from "./pair.ts";
import { checkpointSide, type DescribedSide, referenceSide } from "./sides.ts";
import { ownFiles, type TokenizerPaths } from "./tokenizer-files.ts";
import { recipeTokenizer } from "./tokenizer-reasons.ts";

/** A model that can run: a checkpoint, or a base with adapters beside it that are not merged. */
export interface RunnableModel {
  readonly side: DescribedSide;
  /** Where its tokenizer's files lie. */
  readonly tokenizer: TokenizerPaths;
}

/**
 * A base with its adapters, un-merged; without any, the base as it is. The tokenizer is the one a merge would take.
 * @throws what `referenceSide` and `checkpointSide` throw
 */
export function runnableModel({ base, sources }: Omit<LocatedReference, "notices">): RunnableModel {
  if (sources.length === 0) return runnableCheckpoint(base, "model");
  const weights = sources.map(({ weight }) => weight);
  const side = referenceSide({ base, sources, choices: { weights, tokenizer: null } });
  return { side, tokenizer: recipeTokenizer({ base, sources }, side.plans) };
}

/** A checkpoint on its own, with its own tokenizer. */
export function runnableCheckpoint(located: Located, name: string): RunnableModel {
  return { side: checkpointSide(located, name), tokenizer: ownFiles(located) };
}

/**
 * What runs a forward pass for a device that a person named; the processor's is ONNX Runtime's.
 * @throws DEVICE_UNAVAILABLE
 */
export async function forwardDevice(device: DeviceName): Promise<OnnxDevice> {
  if (device === "cpu") return "onnx-cpu";
  if (device !== "onnx-cpu") await requireDevice(device);
  return device;
}

/** Where nothing tells how much memory there is. */
const SOME_MEMORY = 2 * 2 ** 30;

/** Bytes of widened weights to keep in memory: all of them, or half of the memory that is free. */
export function keptBytes(pair: AlignedSides): number {
  const free = process.availableMemory?.() ?? SOME_MEMORY;
  return Math.floor(Math.min(pair.sides.length * widenedBytes(pair) * 1.25, free / 2));
}
