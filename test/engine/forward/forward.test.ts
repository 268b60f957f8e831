import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { finish } from "../../../src/engine/digest.ts";
import { alignSides, floorOf, type NamedSide } from "../../../src/engine/evaluation/pair.ts";
import { checkpointSide } from "../../../src/engine/evaluation/sides.ts";
import { Batch } from "../../../src/engine/forward/batch.ts";
import { KeyValueCache } from "../../../src/engine/forward/cache.ts";
import { type CompareRequest, compareSides } from "../../../src/engine/forward/compare.ts";
import { runForward } from "../../../src/engine/forward/pool.ts";
import { rawNumbers } from "../../../src/engine/forward/raw.ts";
import type { TokenSequence } from "../../../src/engine/forward/sequences.ts";
import { locate, openSides } from "../../support/forward.ts";

const MODELS = resolve(import.meta.dirname, "../../fixtures/models");
const model = async (name: string) => checkpointSide(await locate(resolve(MODELS, name)));
const ids = (length: number, step = 7) => Int32Array.from({ length }, (_, i) => (i * step + (i >> 3)) % 128);
const quiet = { otherSequences: 0, chunkTokens: 10_000, progress: () => {} };

async function compared(
  sides: readonly NamedSide[],
  sequences: readonly TokenSequence[],
  request: Partial<CompareRequest> = {},
) {
  const open = await openSides(sides);
  const comparison = await compareSides(open.forward, { ...quiet, ...request, sequences });
  await open.close();
  return comparison;
}

const documents = [12, 5, 31, 1, 20].map((length, i) => ({
  ids: ids(length, 3 + 2 * i),
  first: 1,
  document: i,
}));

describe("a forward pass in lockstep", () => {
  it.each(["llama-fp32", "gemma2-fp32", "gpt2-fp32", "qwen3_moe-fp32"])(
    "gives documents of different lengths what it gives each alone: %s",
    async (name) => {
      const [side, other] = [await model(name), await model(name.replace("fp32", "bf16"))];
      const together = await compared([side, other], documents);
      const alone = await compared([side, other], documents, { chunkTokens: 1 });
      // A document of one token predicts nothing.
      expect(together.measures.starts).toEqual([0, 11, 15, 45, 45, 64]);
      expect(alone.measures.starts).toEqual(together.measures.starts);
      together.measures.nllReference.forEach((nll, i) => {
        expect(nll).toBeCloseTo(alone.measures.nllReference[i]!, 4);
        expect(together.measures.nllCandidate[i]!).toBeCloseTo(alone.measures.nllCandidate[i]!, 4);
      });
      expect([...together.measures.topReference]).toEqual([...alone.measures.topReference]);
    },
  );

  it("finds no difference between a model and itself, and a small one to its bfloat16 copy", async () => {
    const same = await compared([await model("llama-fp32"), await model("llama-fp32")], documents);
    expect(Math.max(...same.measures.kld)).toBe(0);
    expect(same.layers.every(({ relativeError }) => relativeError === 0)).toBe(true);
    const rounded = await compared([await model("llama-fp32"), await model("llama-bf16")], documents);
    expect(Math.max(...rounded.measures.kld)).toBeGreaterThan(1e-9);
    expect(Math.max(...rounded.measures.kld)).toBeLessThan(1e-2);
    expect(rounded.layers.map(({ name }) => name)).toEqual(["embedding", "layer 0", "layer 1", "final norm"]);
    expect(rounded.layers[0]!.relativeError).toBeGreaterThan(1e-4);
  });

  it("measures a noise floor over the first documents only, far below a rounded copy's distance", async () => {
    const [base, rounded] = [await model("llama-fp32"), await model("llama-bf16")];
    const floor = { ...base, side: floorOf(base.side) };
    const {
      measures,
      others: [noise],
      layers,
    } = await compared([base, rounded, floor], documents, { otherSequences: 2 });
    expect(noise!.starts).toEqual([0, 11, 15]);
    const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(noise!.kld)).toBeGreaterThan(0);
    expect(mean(noise!.kld)).toBeLessThan(mean(measures.kld) / 1000);
    expect(layers.at(-1)!.floor).toBeGreaterThan(0);
  });

  it("predicts what a window was cut for only, with the tokens before it as context", async () => {
    const side = await model("llama-fp32");
    const whole = ids(40);
    const cut = [
      { ids: whole.subarray(0, 30), first: 1, document: 0 },
      { ids: whole.subarray(10, 40), first: 20, document: 0 },
    ];
    const [windows, all] = [
      await compared([side, side], cut),
      await compared([side, side], [{ ids: whole, first: 1, document: 0 }]),
    ];
    expect(windows.measures.starts).toEqual([0, 39]);
    expect([...windows.measures.label]).toEqual([...all.measures.label]);
    expect(windows.measures.nllReference[5]).toBeCloseTo(all.measures.nllReference[5]!, 5);
  });

  it.each(["llama-fp32", "mistral-fp32", "gpt_neox-fp32"])(
    "gives the last token the same state in pieces as at once: %s",
    async (name) => {
      // Long enough for attention to go in blocks of queries.
      const tokens = ids(1_400);
      const open = await openSides([await model(name)]);
      const [atOnce] = await open.forward.run({ batch: new Batch([tokens]), documents: [1] });
      const cache = new KeyValueCache();
      let last = new Float32Array(0);
      for (const [start, stop] of [
        [0, 700],
        [700, 1_399],
        [1_399, 1_400],
      ] as const) {
        const batch = new Batch([tokens.slice(start, stop)], [start]);
        const [hidden] = await open.forward.run({ batch, documents: [1], cache });
        last = hidden!.data.slice(-hidden!.cols);
      }
      await open.close();
      const want = atOnce!.data.slice(-atOnce!.cols);
      want.forEach((value, i) => {
        expect(last[i]).toBeCloseTo(value, 4);
      });
    },
  );

  it("lets a classifier read the last token that is not padding, as transformers does", async () => {
    const side = await model("llama-score-fp32");
    const read = async (tokens: readonly number[]) => {
      const open = await openSides([side]);
      let logits: number[] = [];
      await rawNumbers(open.forward, Int32Array.from(tokens), {
        hidden: false,
        each: ({ data }) => {
          logits = [...data];
        },
      });
      await open.close();
      return logits;
    };
    // The padding token of this model is 0.
    expect(await read([5, 9, 3, 0, 0])).toEqual(await read([5, 9, 3]));
    expect(await read([5, 9, 3, 4])).not.toEqual(await read([5, 9, 3]));
  });

  it("names a token that the embedding has no row for", async () => {
    const side = await model("llama-fp32");
    const wrong = compared([side, side], [{ ids: Int32Array.of(3, 128), first: 1, document: 0 }]);
    await expect(wrong).rejects.toThrow(/token id 128 has no row in an embedding of 128 rows/);
  });
});

describe("the process that runs models", () => {
  const setup = async () => ({
    ...alignSides([await model("llama-fp32"), await model("llama-bf16")]),
    device: "onnx-cpu" as const,
    threads: 1,
    cacheBytes: 0,
  });

  it("gives what this process gives, with progress on the way", async () => {
    const request = {
      type: "compare",
      setup: await setup(),
      sequences: documents,
      otherSequences: 0,
      chunkTokens: 20,
    } as const;
    const run = runForward(request, {});
    const progress: number[] = [];
    let step = await run.next();
    for (; !step.done; step = await run.next())
      if (step.value.type === "progress") progress.push(step.value.done / step.value.total);
    if (step.value.type !== "compared") throw new Error(step.value.type);
    const here = await compared([await model("llama-fp32"), await model("llama-bf16")], documents, {
      chunkTokens: 20,
    });
    expect([...step.value.comparison.measures.topCandidate]).toEqual([...here.measures.topCandidate]);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(1);
    expect(step.value.runtime).toMatch(/^ONNX Runtime \d/);
  });

  it("ends at once when it is told to, with the reason", async () => {
    const controller = new AbortController();
    const sequences = Array.from({ length: 200 }, (_, i) => ({ ids: ids(500), first: 1, document: i }));
    const request = {
      type: "compare",
      setup: await setup(),
      sequences,
      otherSequences: 0,
      chunkTokens: 500,
    } as const;
    const run = runForward(request, { signal: controller.signal });
    await run.next();
    controller.abort(new Error("nobody waits"));
    await expect(finish(run)).rejects.toThrow("nobody waits");
  });

  it("hands on an expected failure", async () => {
    const sequences = [{ ids: Int32Array.of(1, 500), first: 1, document: 0 }];
    const request = {
      type: "compare",
      setup: await setup(),
      sequences,
      otherSequences: 0,
      chunkTokens: 500,
    } as const;
    await expect(finish(runForward(request, {}))).rejects.toMatchObject({ code: "TOKEN_OUT_OF_RANGE" });
  });
});
