/* Runs one tile of a merge on ONNX Runtime's provider named by the first argument; prints the result as base64. */
import { InferenceSession, Tensor } from "onnxruntime-node";
import { gemmModel } from "../support/onnx-model.ts";
import { tile } from "../support/tile.ts";

const provider = process.argv[2] as "cpu" | "webgpu";
const session = await InferenceSession.create(gemmModel(tile.scale), { executionProviders: [provider] });
const { rows, rank, columns } = tile;
const { y } = await session.run({
  b: new Tensor("float32", tile.b, [rows, rank]),
  a: new Tensor("float32", tile.a, [rank, columns]),
  w: new Tensor("float32", tile.w, [rows, columns]),
});
const values = y?.data as Float32Array;
process.stdout.write(Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64"));
