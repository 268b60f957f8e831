import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { candidateSide, checkpointSide, referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { generate } from "../../../src/engine/forward/generate.ts";
import { digested, locate, openSides } from "../../support/forward.ts";

/*
 * The demo family's greedy completions, as transformers and PEFT gave them: of the base, of base and adapter un-merged,
 * and of PEFT's merged checkpoint.
 */
const DEMO = resolve(import.meta.dirname, "../../fixtures/demo");

interface Completion {
  readonly tokens: number[];
}

interface Behaviour {
  readonly adapters: Record<
    string,
    {
      readonly prompts: readonly {
        readonly prompt_tokens: number[];
        readonly base: Completion;
        readonly adapter: Completion;
        readonly merged: Completion;
      }[];
    }
  >;
}

const behaviour = JSON.parse(readFileSync(join(DEMO, "behaviour.json"), "utf8")) as Behaviour;
const END = 0;
const NEW_TOKENS = 12;

describe("greedy generation", () => {
  it.each(Object.keys(behaviour.adapters))(
    "continues prompts as transformers and PEFT do: %s",
    async (name) => {
      const { prompts } = behaviour.adapters[name]!;
      const base = await locate(join(DEMO, "base"));
      const adapter = { ...(await digested(await locate(join(DEMO, "adapters", name)))), weight: 1 };
      const inputs = { base, sources: [adapter], choices: { weights: [1], tokenizer: null } };
      const reference = referenceSide(inputs);
      const merged = candidateSide({ ...inputs, candidate: null, plan: reference.plan });
      const open = await openSides([checkpointSide(base, "base"), reference, merged], 64 * 2 ** 20);
      const request = {
        prompts: prompts.map(({ prompt_tokens }) => Int32Array.from(prompt_tokens)),
        maxNewTokens: NEW_TOKENS,
        ends: [END],
      };
      const texts = await generate(open.forward, request, 3);
      await open.close();
      const want = (variant: "base" | "adapter" | "merged") =>
        prompts.map((prompt) => prompt[variant].tokens);
      expect(texts).toEqual([want("base"), want("adapter"), want("merged")]);
    },
  );
});
