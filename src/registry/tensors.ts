import { deflateSync, inflateSync } from "node:zlib";
import type { WeightFile } from "../core/checkpoint.ts";

/**
 * One weights file's header, with a digest and statistics for each tensor, as it is stored: deflated JSON of a
 * `WeightFile`. A header of 200,000 tensors is some 40 MB of JSON and deflates to about a tenth; zlib because every
 * tool can read it.
 */
export function packTensors(file: WeightFile): Uint8Array<ArrayBuffer> {
  return new Uint8Array(deflateSync(JSON.stringify(file)));
}

/** The reverse of `packTensors`. */
export function unpackTensors(document: Uint8Array): WeightFile {
  return JSON.parse(inflateSync(document).toString("utf8")) as WeightFile;
}
