import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { evaluate } from "../../src/core/evaluate.ts";
import { leafKey, lowRankUpdate, source } from "../../src/core/expr.ts";
import { bitsToNumber, canonical, roundToBits } from "../../src/core/numerics.ts";
import { requirement } from "../support/require.ts";
import { tile } from "../support/tile.ts";

/*
 * The premise of the second executor: ONNX Runtime as npm ships it computes a tile on WebGPU, close to the canonical
 * rule. The executor itself comes with devices; this keeps the package, the driver and the measure honest.
 */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

function runOn(provider: "cpu" | "webgpu"): Float32Array {
  const output = execFileSync(process.execPath, ["test/engine/webgpu-process.ts", provider], {
    encoding: "utf8",
    env: { VK_DRIVER_FILES: SWIFTSHADER, ...process.env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const bytes = Uint8Array.from(Buffer.from(output, "base64"));
  return new Float32Array(bytes.buffer);
}

/** Largest distance from the canonical bf16 value, in units in the last place at the larger of |W| and |W'|. */
function largestDistance(values: Float32Array): number {
  const { rows, columns, rank, a, b, w, scale } = tile;
  const stored = new Map([
    ["base w", { shape: [rows, columns], values: Float64Array.from(w) }],
    ["source 0 a", { shape: [rank, columns], values: Float64Array.from(a) }],
    ["source 0 b", { shape: [rows, rank], values: Float64Array.from(b) }],
  ]);
  const [left, right] = [source(0, "b"), source(0, "a")];
  const expr = lowRankUpdate({ base: "w", left, right, scale, roundFirst: false });
  const merged = evaluate(expr, { whole: (leaf) => stored.get(leafKey(leaf))! }, canonical("BF16"));
  let largest = 0;
  for (const [i, value] of merged.values.entries()) {
    const expected = bitsToNumber("BF16", roundToBits("BF16", value));
    const actual = bitsToNumber("BF16", roundToBits("BF16", values[i]!));
    const operand = Math.max(Math.abs(w[i]!), Math.abs(expected));
    const ulp = 2 ** (Math.floor(Math.log2(operand)) - 7);
    largest = Math.max(largest, Math.abs(actual - expected) / ulp);
  }
  return largest;
}

describe("ONNX Runtime", () => {
  it("computes a tile on the CPU within one unit in the last place of the canonical value", () => {
    expect(largestDistance(runOn("cpu"))).toBeLessThanOrEqual(1);
  });

  it.skipIf(!requirement("webgpu"))("computes a tile on WebGPU within one unit in the last place", () => {
    expect(largestDistance(runOn("webgpu"))).toBeLessThanOrEqual(1);
  });
});
