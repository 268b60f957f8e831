import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../../src/core/checkpoint.ts";
import { digestCheckpoint, finish } from "../../../src/engine/digest.ts";
import { referenceSide } from "../../../src/engine/evaluation/sides.ts";
import { compareWeights } from "../../../src/engine/evaluation/weights-pass.ts";
import { weighWithoutRecipe } from "../../../src/engine/evaluation/without-recipe.ts";
import type { EngineEvent } from "../../../src/engine/events.ts";
import { localMergeInput, planLocal } from "../../../src/engine/local.ts";
import { runMerge } from "../../../src/engine/merge.ts";
import { readModelFolder } from "../../../src/storage/model-folder.ts";
import {
  addTimes,
  codesOf,
  type LoraFamily,
  loraFamily,
  mergeBy,
  storedAs,
  type Tensors,
  valuesOf,
  weigh,
  writeCheckpoint,
} from "../../support/lora-family.ts";
import { readTensors, writeTensors } from "../../support/tensor-files.ts";

const FIXTURES = join(import.meta.dirname, "../../fixtures");
const BASE = join(FIXTURES, "demo/base");
const OPTIONS = { threads: 1 };

let temporary: string;
let family: LoraFamily;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-weights-"));
  family = await loraFamily(BASE, join(FIXTURES, "demo/adapters/customer-support"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

let count = 0;
async function write(tensors: Tensors, config = {}): Promise<string> {
  return writeCheckpoint(join(temporary, String(count++)), tensors, { base: BASE, config });
}

/** Merges a case of PEFT's; test/engine/golden.test.ts shows that the bytes are PEFT's own. */
async function golden(name: string, choices: Record<string, unknown> = {}) {
  const folder = join(FIXTURES, "merge", name);
  const { base, adapter } = JSON.parse(await readFile(join(folder, "case.json"), "utf8"));
  const request = {
    base: join(folder, base),
    adapter: join(folder, adapter),
    choices: { weights: [1], tokenizer: null, ...choices },
  };
  const merged = join(temporary, `golden-${name}-${count++}`);
  const planned = await finish(planLocal(request, OPTIONS));
  await finish(runMerge(await localMergeInput(request, planned, merged), OPTIONS));
  return { inputs: { base: request.base, adapter: request.adapter }, merged };
}

const failed = ({ checks }: Awaited<ReturnType<typeof weigh>>) => checks.filter(({ passed }) => !passed);

describe("a good merge has no reasons", () => {
  it.each([
    "llama-linear-r16",
    "llama-rslora",
    "llama-dora",
    "llama-embed-lora",
    "llama-save-embed-head",
    "llama-vocab-resized",
    "llama-tied-token-rows",
    "llama-fp16",
    "llama-wide-r400-fp32",
    "llama-sharded",
    "gpt2-c-attn",
    "mixtral-experts",
    "bert-score",
    "loha",
    "ia3",
  ])("%s, in PEFT's bytes", async (name) => {
    const { inputs, merged } = await golden(name);
    const outcome = await weigh(inputs, merged);
    expect(outcome.reasons).toEqual([]);
    expect(failed(outcome)).toEqual([]);
    expect(outcome.weights!.maxUlp).toBe(0);
    const kept = outcome.weights!.projection;
    if (kept !== null) expect(kept).toBeCloseTo(1, 1);
  });

  it.each(["boft", "llama-kasa", "loha-conv"])(
    "%s, as PEFT wrote it, where other sums are in other orders",
    async (name) => {
      const { inputs, merged } = await golden(name);
      const file = join(merged, "model.safetensors");
      const tensors = await readTensors(file);
      for (const [tensor, theirs] of await readTensors(join(FIXTURES, "merge", name, "expected.safetensors")))
        tensors.set(tensor, theirs);
      await writeTensors(file, tensors);
      const outcome = await weigh(inputs, merged);
      expect(outcome.reasons).toEqual([]);
      expect(failed(outcome)).toEqual([]);
      const differing = outcome.weights!.tensors.reduce((sum, one) => sum + one.differing!, 0);
      expect(differing).toBeGreaterThan(0);
    },
  );

  it.each([
    ["boft", true],
    ["llama-fp32", false],
  ] as const)("%s in float32, off by what sums over the base's own size err: %s", async (name, right) => {
    const { inputs, merged } = await golden(name, { dtype: "F32" });
    const file = join(merged, "model.safetensors");
    const [tensors, before] = [
      await readTensors(file),
      await readTensors(join(inputs.base, "model.safetensors")),
    ];
    const plain = (tensor: string) => valuesOf(before.get(tensor)!);
    const [target, found] = [...tensors].find(([tensor, one]) => {
      const own = plain(tensor);
      return valuesOf(one).some((value, i) => value !== own[i]);
    })!;
    const values = valuesOf(found);
    const rms = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    // The smallest of the first elements: there it is many units in the last place.
    const at = values
      .subarray(0, 64)
      .reduce((best, value, i) => (Math.abs(value) < Math.abs(values[best]!) ? i : best), 0);
    const shifted = async (by: number) => {
      const moved = values.with(at, values[at]! + by * 2 ** -19 * rms);
      await writeTensors(file, new Map(tensors).set(target, storedAs("F32", found.shape, moved)));
      return codesOf(await weigh(inputs, merged, { dtype: "F32" }));
    };
    expect(await shifted(0.8)).toEqual(right ? [] : ["TENSOR_DIFFERS"]);
    expect(await shifted(3)).toEqual(["TENSOR_DIFFERS"]);
  });

  it("of a slight rotation in canonical steps, whose factors bfloat16 changes by more than the weights", async () => {
    const folder = join(FIXTURES, "merge/road-1");
    const { base } = JSON.parse(await readFile(join(folder, "case.json"), "utf8"));
    const adapter = join(temporary, "slight");
    await cp(join(folder, "adapter"), adapter, { recursive: true });
    const file = join(adapter, "adapter_model.safetensors");
    const tensors = await readTensors(file);
    for (const [name, { shape }] of tensors) {
      const count = shape.reduce((product, size) => product * size, 1);
      const value = name.endsWith("road_theta") ? 0 : 1.0045;
      tensors.set(name, storedAs("F32", shape, new Float64Array(count).fill(value)));
    }
    await writeTensors(file, tensors);
    const merged = join(temporary, "slight-merged");
    const request = { base: join(folder, base), adapter, choices: { weights: [1], tokenizer: null } };
    const planned = await finish(planLocal(request, OPTIONS));
    await finish(runMerge(await localMergeInput(request, planned, merged), OPTIONS));
    const outcome = await weigh(request, merged);
    expect(Math.abs(outcome.weights!.projection! - 1)).toBeGreaterThan(0.1);
    expect(codesOf(outcome)).toEqual([]);
  });

  it("as PEFT wrote it into the demonstration's base", async () => {
    const inputs = { base: BASE, adapter: join(FIXTURES, "demo/adapters/sentiment") };
    const outcome = await weigh(inputs, join(FIXTURES, "demo/expected/sentiment"));
    expect(outcome.reasons).toEqual([]);
    expect(outcome.weights).toMatchObject({ touched: 42, maxUlp: 0 });
  });

  it("rounded once from float64, or rounded to the adapter's type first", async () => {
    const once = await weigh(family.folder, await write(mergeBy(family)));
    expect(once.reasons).toEqual([]);
    expect(once.weights!.maxUlp).toBeLessThanOrEqual(1);
    const coarse = mergeBy(family, (weight, delta) => {
      const rounded = valuesOf(storedAs("BF16", [delta.length], delta));
      return weight.map((value, i) => value + rounded[i]!);
    });
    const twice = await weigh(family.folder, await write(coarse));
    expect(twice.reasons).toEqual([]);
    expect(twice.weights!.tensors[0]!.differing).toBeGreaterThan(0);
  });

  it("of a tied pair as PEFT changes it, where the recipe says so", async () => {
    const { inputs, merged } = await golden("llama-tied-embed-head", { ties: "peft" });
    expect(codesOf(await weigh(inputs, merged, { ties: "peft" }))).toEqual([]);
    expect(codesOf(await weigh(inputs, merged))).toContain("TIES_DIFFER");
  });

  it("in exact arithmetic where the recipe says the canonical one", async () => {
    const { inputs, merged } = await golden("llama-linear-r16", { numerics: "exact-1" });
    const outcome = await weigh(inputs, merged);
    expect(outcome.reasons).toEqual([]);
    expect(outcome.weights!.maxUlp).toBeLessThanOrEqual(1);
  });
});

describe("a good merge in another form", () => {
  it.each(["F32", "F16"] as const)("is stored as %s", async (dtype) => {
    const outcome = await weigh(family.folder, await write(mergeBy(family, addTimes(1), dtype)));
    expect(outcome.reasons).toEqual([]);
    expect(outcome.dtype).toBe(dtype);
    expect(outcome.weights!.maxUlp).toBeLessThanOrEqual(1);
    const names = outcome.checks.find(({ name }) => name.startsWith("names"))!;
    expect(names.detail).toContain(`stored as ${dtype} instead of BF16`);
  });

  it("was float32 before it was stored as bfloat16", async () => {
    const wide = mergeBy(family, addTimes(1), "F32");
    for (const [name, tensor] of wide) wide.set(name, storedAs("BF16", tensor.shape, valuesOf(tensor)));
    expect(codesOf(await weigh(family.folder, await write(wide)))).toEqual([]);
  });

  it("has tensor names without the model's prefix, or with another one", async () => {
    const bare: Tensors = new Map(
      [...mergeBy(family)].map(([name, tensor]) => [name.replace(/^model\./, ""), tensor]),
    );
    const outcome = await weigh(family.folder, await write(bare));
    expect(outcome.reasons).toEqual([]);
    expect(outcome.checks.find(({ name }) => name.startsWith("names"))!.detail).toContain("another prefix");
    const { inputs, merged } = await golden("gpt2-bare-keys");
    const file = join(merged, "model.safetensors");
    const prefixed = [...(await readTensors(file))].map(
      ([name, tensor]) => [`transformer.${name}`, tensor] as const,
    );
    await writeTensors(file, new Map(prefixed));
    expect(codesOf(await weigh(inputs, merged))).toEqual([]);
  });

  it("lies in other shards", async () => {
    const folder = await write(mergeBy(family));
    const tensors = [...(await readTensors(join(folder, "model.safetensors")))];
    await rm(join(folder, "model.safetensors"));
    const map: Record<string, string> = {};
    for (const part of [0, 1, 2]) {
      const file = `model-0000${part + 1}-of-00003.safetensors`;
      const own = tensors.filter((_, i) => i % 3 === part);
      for (const [name] of own) map[name] = file;
      await writeTensors(join(folder, file), new Map(own));
    }
    const index = { metadata: {}, weight_map: map };
    await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
    expect(codesOf(await weigh(family.folder, folder))).toEqual([]);
  });

  it("stores a copy of a tied head, tied or untied in config.json", async () => {
    const tensors = mergeBy(family);
    tensors.set("lm_head.weight", tensors.get("model.embed_tokens.weight")!);
    for (const config of [{}, { tie_word_embeddings: false }]) {
      const outcome = await weigh(family.folder, await write(tensors, config));
      expect(outcome.reasons).toEqual([]);
      expect(failed(outcome)).toEqual([]);
    }
  });

  it("has a config.json in the older spelling", async () => {
    const older = {
      rope_parameters: undefined,
      rope_theta: 10000,
      rope_scaling: null,
      dtype: undefined,
      torch_dtype: "bfloat16",
      transformers_version: "4.51.0",
      use_cache: false,
    };
    const outcome = await weigh(family.folder, await write(mergeBy(family), older));
    expect(outcome.reasons).toEqual([]);
    const { detail } = outcome.checks.find(({ name }) => name.startsWith("config"))!;
    expect(detail).toContain("use_cache (speed only)");
    expect(detail).not.toContain("rope");
  });
});

describe("what is measured", () => {
  it("is what float64 gives", async () => {
    const light = await loraFamily(BASE, join(FIXTURES, "demo/adapters/light-touch"));
    const merged = mergeBy(light);
    const { weights } = await weigh(light.folder, await write(merged));
    for (const name of ["model.layers.0.self_attn.k_proj.weight", "model.layers.5.mlp.down_proj.weight"]) {
      const weight = valuesOf(light.base.get(name)!);
      const stored = valuesOf(merged.get(name)!).map((value, i) => value - weight[i]!);
      const delta = light.deltas.get(name)!;
      const sum = (of: (i: number) => number) => delta.reduce((total, _, i) => total + of(i), 0);
      const size = sum((i) => delta[i]! ** 2);
      const found = weights!.tensors.find(({ tensor }) => tensor === name)!;
      expect(found).toMatchObject({
        change: "LoRA",
        dtype: "BF16",
        nonFinite: 0,
        weightNorm: expect.closeTo(Math.sqrt(sum((i) => weight[i]! ** 2)), 6),
        moved: sum((i) => (stored[i] === 0 ? 0 : 1)) / delta.length,
      });
      expect(found.deltaNorm / Math.sqrt(size)).toBeCloseTo(1, 6);
      expect(found.storedNorm / Math.sqrt(sum((i) => stored[i]! ** 2))).toBeCloseTo(1, 9);
      expect(found.projection).toBeCloseTo(sum((i) => stored[i]! * delta[i]!) / size, 6);
      const error = sum((i) => (stored[i]! - delta[i]!) ** 2);
      expect(found.relativeError).toBeCloseTo(Math.sqrt(error / size), 6);
      const most = delta.reduce((max, value, i) => Math.max(max, Math.abs(stored[i]! - value)), 0);
      expect(found.maxError / most).toBeCloseTo(1, 6);
    }
  });

  it("is the same of a recipe that is not written", async () => {
    const folder = await write(mergeBy(family));
    const inputs = { base: BASE, adapter: join(FIXTURES, "demo/adapters/sentiment") };
    const written = await weigh(inputs, join(FIXTURES, "demo/expected/sentiment"));
    const computed = await weigh(inputs, null);
    expect(computed.weights!.tensors).toEqual(written.weights!.tensors);
    expect(computed).toMatchObject({
      reasons: [],
      recipeDigest: written.recipeDigest,
      digests: { base: written.digests.base, candidate: null },
    });
    expect(failed(computed)).toEqual([]);
    expect((await weigh(family.folder, folder)).recipeDigest).not.toBe(written.recipeDigest);
  });

  it("says with what digests everything was read", async () => {
    const candidate = await write(mergeBy(family).set("extra", storedAs("BF16", [2], new Float64Array(2))));
    const { digests } = await weigh(family.folder, candidate);
    const of = async (folder: string) =>
      checkpointDigests(
        await finish(digestCheckpoint(await readModelFolder(folder, { roots: null }), OPTIONS)),
      );
    expect(digests).toEqual({
      base: await of(family.folder.base),
      sources: [await of(family.folder.adapter)],
      candidate: await of(candidate),
    });
  });
});

describe("a comparison", () => {
  async function prepared(adapter = family.folder.adapter) {
    const request = { base: BASE, adapter, choices: { weights: [1], tokenizer: null } };
    const planned = await finish(planLocal(request, OPTIONS));
    const candidate = await readModelFolder(await write(mergeBy(family)), { roots: null });
    const { plan, base } = planned;
    return { plan, base, sources: [{ ...planned.adapter, weight: 1 }], candidate };
  }

  it("tells how many of all bytes are read, up to the last", async () => {
    const events: EngineEvent[] = [];
    for await (const event of compareWeights(await prepared(), OPTIONS)) events.push(event);
    const progress = events.filter((event) => event.type === "progress");
    const last = progress.at(-1)!;
    expect(last.done).toBe(last.total);
    expect(progress.every(({ done }, i) => i === 0 || done >= progress[i - 1]!.done)).toBe(true);
  });

  it("is refused where an input changed after it was digested", async () => {
    const changed = join(temporary, "changed");
    await cp(family.folder.adapter, changed, { recursive: true });
    const inputs = await prepared(changed);
    const file = join(changed, "adapter_model.safetensors");
    const bytes = await readFile(file);
    bytes[bytes.byteLength - 3]! ^= 1;
    await writeFile(file, bytes);
    await expect(finish(compareWeights(inputs, OPTIONS))).rejects.toMatchObject({ code: "INPUT_CHANGED" });
  });

  it("stops when it is aborted", async () => {
    const controller = new AbortController();
    const inputs = await prepared();
    const work = compareWeights(inputs, { threads: 2, signal: controller.signal });
    await work.next();
    controller.abort(new Error("enough"));
    await expect(finish(work)).rejects.toThrow("enough");
  });

  it("has no place for an adapter", async () => {
    const { candidate: _, ...inputs } = await prepared();
    const adapter = await readModelFolder(family.folder.adapter, { roots: null });
    await expect(finish(compareWeights({ ...inputs, candidate: adapter }, OPTIONS))).rejects.toMatchObject({
      code: "NOT_A_CHECKPOINT",
    });
  });
});

describe("several adapters, or one with a weight", () => {
  const choices = { weights: [1], tokenizer: null };

  async function combined(names: readonly string[], weights: readonly number[], candidate: string) {
    const planned = await Promise.all(
      names.map((name) =>
        finish(planLocal({ base: BASE, adapter: join(FIXTURES, "demo/adapters", name), choices }, OPTIONS)),
      ),
    );
    const { base } = planned[0]!;
    const sources = planned.map(({ adapter }, i) => ({ ...adapter, weight: weights[i]! }));
    const reference = referenceSide({ base, sources, choices });
    const found = await readModelFolder(candidate, { roots: null });
    return finish(weighWithoutRecipe({ base, sources, candidate: found }, reference, OPTIONS));
  }

  /** Each change times its weight, one after the other in float64. */
  async function sum(names: readonly string[], weights: readonly number[]): Promise<Tensors> {
    const families = await Promise.all(
      names.map((name) => loraFamily(BASE, join(FIXTURES, "demo/adapters", name))),
    );
    const all = new Map(families[0]!.deltas);
    for (const { deltas } of families) for (const [name, delta] of deltas) all.set(name, delta);
    return mergeBy({ ...families[0]!, deltas: all }, (weight, _, tensor) =>
      weight.map((value, i) =>
        families.reduce(
          (total, { deltas }, at) => total + weights[at]! * (deltas.get(tensor)?.[i] ?? 0),
          value,
        ),
      ),
    );
  }

  it("have no canonical bytes, and their exact change is measured", async () => {
    const names = ["customer-support", "light-touch"];
    const candidate = await write(await sum(names, [0.5, 1]));
    const outcome = await combined(names, [0.5, 1], candidate);
    expect(outcome).toMatchObject({
      reasons: [],
      recipeDigest: null,
      weights: { touched: 42, maxUlp: null },
    });
    expect(failed(outcome)).toEqual([]);
    expect(outcome.weights!.projection).toBeCloseTo(1, 3);
    const both = outcome.weights!.tensors.find(({ tensor }) => tensor.includes("layers.0.self_attn.q_proj"));
    expect(both).toMatchObject({ change: "LoRA", differing: null, maxUlp: null });
  });

  it("are told from one of them alone, and from other weights", async () => {
    const names = ["customer-support", "light-touch"];
    const alone = await combined(names, [1, 1], await write(await sum(names, [0, 1])));
    expect(codesOf(alone)).toEqual(["TENSOR_DIFFERS"]);
    const whole = await combined(["customer-support"], [0.4], await write(mergeBy(family)));
    expect(codesOf(whole)).toEqual(["SCALE_WRONG"]);
    expect(whole.reasons[0]!.message).toContain("2.5 times");
    const right = await combined(["customer-support"], [0.4], await write(mergeBy(family, addTimes(0.4))));
    expect(codesOf(right)).toEqual([]);
  });
});
