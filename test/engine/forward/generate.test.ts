import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { checkpointSide } from "../../../src/engine/evaluation/sides.ts";
import { generate } from "../../../src/engine/forward/generate.ts";
import { locate, openSides } from "../../support/forward.ts";

const MODELS = resolve(import.meta.dirname, "../../fixtures/models");
/** GPT-2 has a table of 64 positions. */
const POSITIONS = 64;
const side = async (name: string) => checkpointSide(await locate(resolve(MODELS, name)));
const ids = (length: number, step = 7) => Int32Array.from({ length }, (_, i) => (i * step + 3) % 128);

async function continued(prompts: readonly Int32Array[], maxNewTokens: number, ends: readonly number[] = []) {
  const open = await openSides([await side("gpt2-fp32"), await side("gpt2-bf16")]);
  try {
    return await generate(open.forward, { prompts, maxNewTokens, ends }, 2);
  } finally {
    await open.close();
  }
}

describe("greedy continuations of a model that learnt its positions", () => {
  it("end where the positions end, beside others that go on", async () => {
    const texts = await continued([ids(61), ids(5, 11)], 20);
    // The last position predicts one more token.
    expect(texts.map((side) => side.map((tokens) => tokens.length))).toEqual([
      [POSITIONS - 61 + 1, 20],
      [POSITIONS - 61 + 1, 20],
    ]);
    const [alone] = await continued([ids(5, 11)], 20);
    expect(texts[0]![1]).toEqual(alone![0]);
  });

  it("are the same beside a text that ended early, which runs no further", async () => {
    const [free] = await continued([ids(61)], 3);
    const end = free![0]![1]!;
    const [together] = await continued([ids(61), ids(5, 11)], 20, [end]);
    const [alone] = await continued([ids(5, 11)], 20, [end]);
    expect(together![0]).toEqual(free![0]!.slice(0, free![0]!.indexOf(end) + 1));
    expect(together![1]).toEqual(alone![0]);
  });

  it("are refused for a prompt beyond the positions, in these words", async () => {
    await expect(continued([ids(POSITIONS + 1)], 1)).rejects.toThrow(
      /text of 65 tokens goes beyond the 64 positions that the model has learnt/,
    );
  });
});
