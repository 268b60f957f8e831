import { describe, expect, it } from "vitest";
import type { CheckpointFacts } from "../../../src/core/checkpoint.ts";
import { estimateEvaluation, estimateServing } from "../../../src/core/evaluation/memory.ts";
import { memoryOf } from "../../../src/core/plan-memory.ts";

function facts(shapes: readonly (readonly number[])[], vocabulary = 128_256) {
  const tensors = shapes.map((shape, i) => ({ name: `t${i}`, dtype: "BF16", shape, begin: 0, end: 0 }));
  const weights = [{ path: "model.safetensors", tensors }];
  return { weights, config: { vocab_size: vocabulary } } as unknown as CheckpointFacts;
}

const LAYER = [[4096, 4096], [14_336, 4096], [4096, 14_336], [4096]];
const VOCABULARY = [128_256, 4096];

describe("the memory that an evaluation is expected to take", () => {
  it("is that of two widened matrices of a layer, whatever the number of layers and of tokens", () => {
    const one = estimateEvaluation(facts([VOCABULARY, ...LAYER]));
    const many = estimateEvaluation(facts([VOCABULARY, ...Array.from({ length: 32 }, () => LAYER).flat()]));
    expect(many).toEqual(one);
    // The sizes of an 8 B Llama.
    expect(memoryOf(one, 2)).toBeGreaterThan(1e9);
    expect(memoryOf(one, 2)).toBeLessThan(1.6e9);
    const wider = estimateEvaluation(facts([VOCABULARY, [28_672, 8192]]));
    expect(wider.process - one.process).toBe(2 * 4 * (28_672 * 8192 - 14_336 * 4096));
  });

  it("is less for texts of a few tokens, which need few hidden states", () => {
    const model = facts([VOCABULARY, ...LAYER]);
    expect(estimateEvaluation(model, 100).process).toBeLessThan(estimateEvaluation(model).process - 5e8);
    expect(estimateEvaluation(model, 1e9)).toEqual(estimateEvaluation(model));
  });
});

describe("the memory that an advice is expected to take", () => {
  const model = facts([VOCABULARY, ...LAYER]);
  const evaluation = estimateEvaluation(model);
  const elements = [VOCABULARY, ...LAYER].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const at = (room: number) => estimateServing(model, { documents: null, room, threads: 4 });

  it("is that of an evaluation, and both sides in float32 where there is room for them", () => {
    const { keep, process, thread } = at(1e12);
    expect(keep).toBe(2 * 4 * 1.25 * elements);
    expect([process, thread]).toEqual([evaluation.process + keep, evaluation.thread]);
  });

  it("leaves every thread its part, and keeps nothing rather than refuse", () => {
    const room = memoryOf(evaluation, 4) + 1e8;
    expect(at(room).keep).toBe(1e8);
    expect(memoryOf(at(room), 4)).toBe(room);
    expect(at(1e6)).toMatchObject({ keep: 0, process: evaluation.process });
  });
});
