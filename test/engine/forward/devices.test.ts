import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { alignSides } from "../../../src/engine/evaluation/pair.ts";
import { checkpointSide } from "../../../src/engine/evaluation/sides.ts";
import { runForward } from "../../../src/engine/forward/pool.ts";
import { locate } from "../../support/forward.ts";
import { requirement, SWIFTSHADER } from "../../support/require.ts";
import { loadTensors } from "../../support/tensors.ts";

/*
 * The same graphs on WebGPU, on a machine without a GPU through SwiftShader: every operator that a family needs must be
 * there, and give the same numbers.
 */
process.env.VK_DRIVER_FILES ??= SWIFTSHADER;

const FIXTURES = resolve(import.meta.dirname, "../../fixtures");
const MAX_LOGIT = 2e-5;

describe("a forward pass on WebGPU", () => {
  it.skipIf(!requirement("webgpu")).each(["llama", "gemma2", "gpt2", "gpt_neox", "mixtral", "bert-score"])(
    "gives the logits of transformers: %s",
    async (name) => {
      const base = checkpointSide(await locate(resolve(FIXTURES, "models", `${name}-fp32`)));
      const tensors = await loadTensors(resolve(FIXTURES, "forward", name, "logits.safetensors"));
      const setup = { ...alignSides([base]), device: "webgpu" as const, threads: 2, cacheBytes: 0 };
      const sequences = [tensors.get("seq.0.input_ids")!.data as Int32Array];
      const found: number[] = [];
      for await (const message of runForward({ type: "logits", setup, sequences, hidden: false }, {})) {
        if (message.type === "tensor") found.push(...message.tensor.data);
      }
      const want = tensors.get("seq.0.logits")!.data;
      expect(found.length).toBe(want.length);
      const errors = found.map((value, i) => Math.abs(value - want[i]!));
      expect(Math.max(...errors)).toBeLessThanOrEqual(MAX_LOGIT);
    },
  );
});
