import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  addTimes,
  codesOf,
  type Editor,
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

const DEMO = join(import.meta.dirname, "../../fixtures/demo");
const BASE = join(DEMO, "base");
const adapter = (name: string) => join(DEMO, "adapters", name);

let temporary: string;
/** q and v, alpha 2 · rank; all linear layers with rsLoRA; and one whose change is light. */
let support: LoraFamily;
let sentiment: LoraFamily;
let light: LoraFamily;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-broken-"));
  support = await loraFamily(BASE, adapter("customer-support"));
  sentiment = await loraFamily(BASE, adapter("sentiment"));
  light = await loraFamily(BASE, adapter("light-touch"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

let count = 0;
async function write(tensors: Tensors, config = {}): Promise<string> {
  return writeCheckpoint(join(temporary, String(count++)), tensors, { base: BASE, config });
}

/** What is said of a merge of the family that an editor made. */
async function verdict(family: LoraFamily, edit: Editor) {
  return weigh(family.folder, await write(mergeBy(family, edit)));
}

const only =
  (which: (tensor: string) => boolean, edit: Editor): Editor =>
  (weight, delta, tensor) =>
    (which(tensor) ? edit : addTimes(1))(weight, delta, tensor);
const leaveOut: Editor = () => null;

/** Changes bytes of one tensor of a good merge. */
function damaged(family: LoraFamily, tensor: string, change: (bytes: Buffer) => void): Tensors {
  const tensors = mergeBy(family);
  const bytes = Buffer.from(tensors.get(tensor)!.bytes);
  change(bytes);
  return tensors.set(tensor, { ...tensors.get(tensor)!, bytes });
}

const Q3 = "model.layers.3.self_attn.q_proj.weight";
const V3 = "model.layers.3.self_attn.v_proj.weight";

describe("a merge that leaves something out", () => {
  it("lacks a layer", async () => {
    const { reasons } = await verdict(
      support,
      only((tensor) => tensor.includes("layers.4."), leaveOut),
    );
    expect(reasons).toMatchObject([{ code: "LAYER_DROPPED", level: 1, subject: "model.layers.4", value: 0 }]);
    expect(reasons[0]!.message).toContain("2 tensors");
  });

  it("lacks a module in every layer", async () => {
    const { reasons } = await verdict(
      support,
      only((tensor) => tensor.includes("v_proj"), leaveOut),
    );
    expect(reasons).toMatchObject([{ code: "MODULE_DROPPED" }]);
    expect(reasons[0]!.message).toContain("v_proj");
  });

  it("lacks a layer whose change is lighter than the spacing of the stored type in many places", async () => {
    const outcome = await verdict(
      light,
      only((tensor) => tensor.includes("layers.0."), leaveOut),
    );
    expect(codesOf(outcome)).toEqual(["LAYER_DROPPED"]);
  });

  it("is the base under another name", async () => {
    const outcome = await verdict(support, leaveOut);
    expect(outcome.reasons).toMatchObject([{ code: "NO_EFFECT", level: 0 }]);
    expect(outcome.checks).toContainEqual(
      expect.objectContaining({ level: 0, name: "the merge changes something", passed: false }),
    );
  });
});

describe("a merge with a wrong factor", () => {
  const families = () => [support, sentiment, light];

  it("ignores alpha", async () => {
    for (const family of families()) {
      const outcome = await verdict(family, addTimes(1 / family.scale));
      expect(codesOf(outcome)).toEqual(["ALPHA_IGNORED"]);
    }
  });

  it("applies the scale twice", async () => {
    for (const family of families()) {
      const outcome = await verdict(family, addTimes(family.scale));
      expect(codesOf(outcome)).toEqual(["SCALE_APPLIED_TWICE"]);
    }
  });

  it("is taken away instead of added", async () => {
    expect(codesOf(await verdict(support, addTimes(-1)))).toEqual(["SIGN_FLIPPED"]);
  });

  it("is added to a base that holds it already", async () => {
    expect(codesOf(await verdict(sentiment, addTimes(2)))).toEqual(["MERGED_TWICE"]);
  });

  it("takes α/r for rsLoRA's α/√r, or is another number", async () => {
    const { reasons } = await verdict(sentiment, addTimes(1 / 4));
    // The scale of this adapter is √16, so that both mistakes are the same number.
    expect(reasons.map(({ code }) => code)).toEqual(["ALPHA_IGNORED"]);
    const other = await verdict(sentiment, addTimes(0.7));
    expect(other.reasons).toMatchObject([{ code: "SCALE_WRONG", value: expect.closeTo(0.7, 2) }]);
    expect(other.reasons[0]!.message).toContain("0.7");
    // Near to 1, too, it is one number for all tensors and no other base.
    const near = await verdict(sentiment, addTimes(1.05));
    expect(near.reasons).toMatchObject([{ code: "SCALE_WRONG", value: expect.closeTo(1.05, 2) }]);
  });

  it("is told of one tensor alone", async () => {
    const { reasons } = await verdict(
      support,
      only((tensor) => tensor === Q3, addTimes(0.5)),
    );
    expect(reasons).toMatchObject([{ code: "ALPHA_IGNORED", subject: Q3 }]);
  });
});

describe("a merge that puts changes in wrong places", () => {
  it("swaps modules of one shape", async () => {
    const swap: Editor = (weight, delta, tensor) => {
      const other = tensor.includes("q_proj")
        ? tensor.replace("q_proj", "o_proj")
        : tensor.replace("o_proj", "q_proj");
      const change = /[qo]_proj/.test(tensor) ? sentiment.deltas.get(other)! : delta;
      return weight.map((value, i) => value + change[i]!);
    };
    const { reasons } = await verdict(sentiment, swap);
    expect(reasons).toMatchObject([{ code: "MODULES_SWAPPED" }]);
    expect(reasons[0]!.message).toContain("11 other tensors");
  });

  it("shifts every layer by one", async () => {
    const shift: Editor = (weight, _, tensor) => {
      const from = tensor.replace(/layers\.(\d)/, (_, i) => `layers.${(Number(i) + 1) % 6}`);
      const change = support.deltas.get(from)!;
      return weight.map((value, i) => value + change[i]!);
    };
    expect(codesOf(await verdict(support, shift))).toEqual(["MODULES_SWAPPED"]);
  });

  it("gives the general reason where it cannot be told whose change it is", async () => {
    // An adapter whose layers 1 and 2 have one change in q: layer 0 could have taken it from either.
    const twins = join(temporary, "twins");
    await cp(adapter("customer-support"), twins, { recursive: true });
    const file = join(twins, "adapter_model.safetensors");
    const factors = await readTensors(file);
    for (const name of factors.keys()) {
      if (name.includes("layers.2.self_attn.q_proj"))
        factors.set(name, factors.get(name.replace("layers.2", "layers.1"))!);
    }
    await writeTensors(file, factors);
    const family = await loraFamily(BASE, twins);
    const q = (i: number) => `model.layers.${i}.self_attn.q_proj.weight`;
    const take = (from: number) =>
      only(
        (tensor) => tensor === q(0),
        (weight) => weight.map((value, i) => value + family.deltas.get(q(from))![i]!),
      );
    expect((await verdict(family, take(1))).reasons).toMatchObject([
      { code: "TENSOR_DIFFERS", subject: q(0) },
    ]);
    expect((await verdict(family, take(3))).reasons).toMatchObject([
      { code: "MODULES_SWAPPED", subject: q(0) },
    ]);
  });

  it("swaps or transposes the factors", async () => {
    const turn: Editor = (weight, delta, tensor) => {
      if (!/[qo]_proj/.test(tensor)) return addTimes(1)(weight, delta, tensor);
      const size = Math.sqrt(delta.length);
      return weight.map((value, i) => value + delta[(i % size) * size + Math.floor(i / size)]!);
    };
    const { reasons } = await verdict(sentiment, turn);
    expect(reasons).toMatchObject([{ code: "FACTORS_TRANSPOSED" }]);
  });
});

describe("a merge of other inputs", () => {
  it("is of another revision of the base", async () => {
    const drift = (tensor: Float64Array) => tensor.map((value, i) => value * (1 + 0.02 * Math.sin(i)));
    const tensors = mergeBy(support, (weight, delta) => drift(weight).map((value, i) => value + delta[i]!));
    for (const [name, tensor] of tensors) {
      if (!support.deltas.has(name)) {
        tensors.set(name, storedAs("BF16", tensor.shape, drift(valuesOf(tensor))));
      }
    }
    expect(codesOf(await weigh(support.folder, await write(tensors)))).toEqual(["BASE_DIFFERS"]);
  });

  it("is of a base whose linear layers were changed before", async () => {
    // The first adapter merged, then the second into the result.
    const first = { ...support, base: mergeBy(sentiment) };
    const outcome = await weigh(sentiment.folder, await write(mergeBy(first)));
    expect(codesOf(outcome)).toEqual(["TENSOR_DIFFERS"]);
    const { reasons } = await weigh(support.folder, await write(mergeBy(first)));
    expect(reasons).toMatchObject([{ code: "BASE_DIFFERS" }]);
  });

  it("is of another adapter, and of another version of this one", async () => {
    for (const name of ["customer-support-2", "sentiment"]) {
      const other = await loraFamily(BASE, adapter(name));
      const outcome = await weigh(support.folder, await write(mergeBy(other)));
      expect(codesOf(outcome)).toEqual(["ADAPTER_DIFFERS"]);
    }
    const fewer = await weigh(sentiment.folder, await write(mergeBy(support)));
    expect(codesOf(fewer)).toEqual(["ADAPTER_DIFFERS"]);
  });

  it("is of an adapter that does not fit the base, which the plan refuses", async () => {
    const other = join(import.meta.dirname, "../../fixtures/merge/llama-qv-r8/adapter");
    const merged = await write(mergeBy(support));
    await expect(weigh({ base: BASE, adapter: other }, merged)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
    });
  });
});

describe("a merge that rounds", () => {
  it("away what the adapter learnt", async () => {
    const faint = join(temporary, "faint");
    await cp(adapter("light-touch"), faint, { recursive: true });
    const factors = await readTensors(join(faint, "adapter_model.safetensors"));
    for (const [name, tensor] of factors) {
      if (!name.includes("lora_B")) continue;
      const values = valuesOf(tensor).map((value) => value / 2 ** 9);
      factors.set(name, storedAs("F32", tensor.shape, values));
    }
    await writeTensors(join(faint, "adapter_model.safetensors"), factors);
    const family = await loraFamily(BASE, faint);
    const outcome = await weigh(family.folder, await write(mergeBy(family)));
    expect(outcome.reasons).toMatchObject([{ code: "ROUNDED_AWAY", threshold: 0.5 }]);
    expect(outcome.weights!.moved).toBeLessThan(0.05);
    // Stored as float32 it is all there.
    const wide = await weigh(family.folder, await write(mergeBy(family, addTimes(1), "F32")));
    expect(codesOf(wide)).toEqual([]);
    expect(wide.weights!.projection).toBeCloseTo(1, 3);
  });

  it("to a coarser type before it is stored in a finer one", async () => {
    const family = sentiment;
    const coarse = mergeBy(family);
    for (const [name, tensor] of coarse) coarse.set(name, storedAs("F32", tensor.shape, valuesOf(tensor)));
    const { reasons, dtype } = await weigh(family.folder, await write(coarse));
    expect(dtype).toBe("F32");
    expect(reasons).toMatchObject([{ code: "PRECISION_LOST" }]);
    expect(reasons[0]!.message).toContain("BF16");
  });
});

describe("damage", () => {
  it("is a NaN", async () => {
    const tensors = damaged(support, Q3, (bytes) => bytes.writeUInt16LE(0x7fc0, 2468));
    const outcome = await weigh(support.folder, await write(tensors));
    expect(outcome.reasons).toMatchObject([{ code: "NOT_FINITE", level: 0, subject: Q3, value: 1 }]);
    const norm = "model.norm.weight";
    const elsewhere = damaged(support, norm, (bytes) => bytes.writeUInt16LE(0xff80, 0));
    const codes = codesOf(await weigh(support.folder, await write(elsewhere)));
    expect(codes).toEqual(["NOT_FINITE", "UNTOUCHED_CHANGED"]);
  });

  it("is a flipped bit, whichever it is", async () => {
    for (const bit of [2, 9, 14]) {
      const tensors = damaged(support, V3, (bytes) => {
        bytes.writeUInt16LE(bytes.readUInt16LE(1000) ^ (1 << bit), 1000);
      });
      const { reasons } = await weigh(support.folder, await write(tensors));
      expect(reasons).toMatchObject([{ code: "TENSOR_DIFFERS", subject: V3 }]);
      expect(reasons[0]!.message).toContain("1 element of 12288");
    }
  });

  it("is a tensor with other numbers, touched or not", async () => {
    const flip = (bytes: Buffer) => {
      for (let at = 1; at < bytes.byteLength; at += 2) bytes[at]! ^= 0x80;
    };
    const touched = await weigh(support.folder, await write(damaged(support, V3, flip)));
    expect(touched.reasons).toMatchObject([{ subject: V3 }]);
    const o = "model.layers.2.self_attn.o_proj.weight";
    const { reasons, checks } = await weigh(support.folder, await write(damaged(support, o, flip)));
    expect(reasons).toMatchObject([{ code: "UNTOUCHED_CHANGED", subject: o }]);
    expect(checks.filter(({ passed }) => !passed)).toMatchObject([
      { name: "untouched tensors are the base's" },
    ]);
  });
});

describe("another structure", () => {
  const good = () => mergeBy(support);

  it("still holds the adapter", async () => {
    const tensors = good();
    tensors.set("base_model.model.x.lora_A.weight", storedAs("BF16", [2], new Float64Array(2)));
    expect(codesOf(await weigh(support.folder, await write(tensors)))).toEqual(["ADAPTER_LEFT"]);
    const folder = await write(good());
    await writeFile(join(folder, "adapter_model.safetensors.bak"), "");
    await cp(join(adapter("customer-support"), "adapter_config.json"), join(folder, "adapter_config.json"));
    await expect(weigh(support.folder, folder)).rejects.toMatchObject({ code: expect.any(String) });
  });

  it("lacks a tensor, or has one too many", async () => {
    const less = good();
    less.delete("model.norm.weight");
    expect(codesOf(await weigh(support.folder, await write(less)))).toEqual(["MISSING_TENSOR"]);
    const more = good().set("model.layers.6.self_attn.q_proj.weight", good().get(Q3)!);
    expect(codesOf(await weigh(support.folder, await write(more)))).toEqual(["UNEXPECTED_TENSOR"]);
  });

  it("has another shape or a type that is no float", async () => {
    const resized = good().set("model.norm.weight", storedAs("BF16", [96], new Float64Array(96)));
    expect(codesOf(await weigh(support.folder, await write(resized)))).toEqual(["SHAPE_MISMATCH"]);
    const norm = good().get("model.norm.weight")!;
    const packed = good().set("model.norm.weight", { ...norm, dtype: "I16" });
    expect(codesOf(await weigh(support.folder, await write(packed)))).toEqual(["DTYPE_MISMATCH"]);
  });

  it("is described as another model", async () => {
    const theta = { rope_parameters: { rope_theta: 500000, rope_type: "default" } };
    const { reasons } = await weigh(support.folder, await write(good(), theta));
    expect(reasons).toMatchObject([{ code: "CONFIG_DIFFERS", level: 0, subject: "config.json" }]);
    expect(reasons[0]!.message).toContain("theta");
  });

  it.each([
    ["vocab_size", 2000],
    ["architectures", ["LlamaModel"]],
    ["num_attention_heads", 3],
  ])("says another %s, with which it would not load as the same model", async (field, value) => {
    const { reasons } = await weigh(support.folder, await write(good(), { [field]: value }));
    expect(reasons).toMatchObject([{ code: "CONFIG_DIFFERS", level: 0 }]);
    expect(reasons[0]!.message).toContain(field);
  });

  it("holds nothing that can be compared, and gives one reason for it", async () => {
    const doubles = new Map([...good()].map(([name, tensor]) => [name, { ...tensor, dtype: "I16" }]));
    const outcome = await weigh(support.folder, await write(doubles));
    expect(codesOf(outcome)).toEqual(["DTYPE_MISMATCH"]);
    const told = outcome.checks.filter(({ passed }) => !passed).map(({ detail }) => detail);
    expect(told.every((detail) => detail.includes(outcome.reasons[0]!.message))).toBe(true);
  });

  it("stores a tied head that is another matrix, or unties without storing one", async () => {
    const embedding = good().get("model.embed_tokens.weight")!;
    const halved = storedAs(
      "BF16",
      embedding.shape,
      valuesOf(embedding).map((value) => value / 2),
    );
    const other = good().set("lm_head.weight", halved);
    expect(codesOf(await weigh(support.folder, await write(other)))).toEqual(["TIES_DIFFER"]);
    const untied = await weigh(support.folder, await write(good(), { tie_word_embeddings: false }));
    expect(codesOf(untied)).toEqual(["TIES_DIFFER"]);
  });
});
