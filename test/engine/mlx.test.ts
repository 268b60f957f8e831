import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { planMerge } from "../../src/core/plan.ts";
import { finish } from "../../src/engine/digest.ts";
import { localMergeInput, planLocal } from "../../src/engine/local.ts";
import { runMerge } from "../../src/engine/merge.ts";
import { readModelFolder } from "../../src/storage/model-folder.ts";
import { type RawTensor, readTensors, writeTensors } from "../support/tensor-files.ts";

/*
 * MLX keeps the factors of a LoRA transposed, and the scale as it is. The same adapter in both formats must give the
 * same bytes: those that PEFT wrote.
 */
const FIXTURES = join(import.meta.dirname, "../fixtures");
const CASE = join(FIXTURES, "merge/llama-qv-r8");
const BASE = join(FIXTURES, "models/llama-bf16");
const options = { threads: 2 };

let temporary: string;
let tensors: Map<string, RawTensor>;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-mlx-"));
  const peft = await readTensors(join(CASE, "adapter/adapter_model.safetensors"));
  tensors = new Map([...peft].map(([name, tensor]) => [mlxName(name), transposed(tensor)]));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

const mlxName = (name: string) =>
  name.replace("base_model.model.", "").replace("lora_A.weight", "lora_a").replace("lora_B.weight", "lora_b");

function transposed({ dtype, shape, bytes }: RawTensor): RawTensor {
  const [rows, columns] = shape as [number, number];
  const out = Buffer.alloc(bytes.byteLength);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++)
      bytes.copy(out, 4 * (j * rows + i), 4 * (i * columns + j), 4 * (i * columns + j + 1));
  }
  expect(dtype).toBe("F32");
  return { dtype, shape: [columns, rows], bytes: out };
}

const floats = (count: number) => Buffer.from(new Float32Array(count).fill(0.25).buffer);

const KEYS = ["self_attn.q_proj", "self_attn.v_proj"];
const config = (parameters: object = {}, others: object = {}) => ({
  fine_tune_type: "lora",
  model: "graftwork/tiny-llama",
  num_layers: -1,
  lora_parameters: { rank: 8, dropout: 0.0, scale: 2.0, keys: KEYS, ...parameters },
  ...others,
});

async function adapter(name: string, written: object, file = tensors): Promise<string> {
  const folder = join(temporary, name);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "adapter_config.json"), JSON.stringify(written));
  await writeTensors(join(folder, "adapters.safetensors"), file);
  return folder;
}

/** From headers and configs alone. */
async function plan(folder: string, base = BASE) {
  const [one, two] = await Promise.all([base, folder].map((path) => readModelFolder(path, { roots: null })));
  return planMerge({
    base: { facts: one!.facts, label: base },
    sources: [{ facts: two!.facts, label: folder }],
    choices: { weights: [1], tokenizer: null },
  });
}

const codes = async (folder: string) => (await plan(folder)).refusals.map(({ code }) => code);

describe("a LoRA that mlx-lm saved", () => {
  it("of the embedding of a tied model changes the shared matrix and leaves it shared, as MLX computes", async () => {
    const tied = join(FIXTURES, "models/llama-tied-bf16");
    const stored = await readTensors(join(tied, "model.safetensors"));
    const [rows, columns] = stored.get("model.embed_tokens.weight")!.shape as [number, number];
    const factors = new Map<string, RawTensor>([
      ["model.embed_tokens.lora_a", { dtype: "F32", shape: [rows, 8], bytes: floats(rows * 8) }],
      ["model.embed_tokens.lora_b", { dtype: "F32", shape: [8, columns], bytes: floats(8 * columns) }],
    ]);
    const folder = await adapter("embedding", config({ keys: ["model.embed_tokens"] }), factors);
    const planned = await plan(folder, tied);
    expect(planned.refusals).toEqual([]);
    expect(planned.touched.map(({ tensor }) => tensor)).toEqual(["model.embed_tokens.weight"]);
    expect(planned.steps.map(({ tensor }) => tensor).sort()).toEqual([...stored.keys()].sort());
    expect(planned.files.find(({ path }) => path === "config.json")?.from).toBe("base");
  });

  it("merges into the bytes that PEFT's own file of the same factors merges into", async () => {
    const peftConfig = JSON.parse(await readFile(join(CASE, "adapter/adapter_config.json"), "utf8"));
    const scale = peftConfig.lora_alpha / peftConfig.r;
    const folder = await adapter("same", config({ scale, rank: peftConfig.r }));
    const request = { base: BASE, adapter: folder, choices: { weights: [1], tokenizer: null } };
    const planned = await finish(planLocal(request, options));
    const input = await localMergeInput(request, planned, join(temporary, "out"));
    const summary = await finish(runMerge(input, options));
    const expected = JSON.parse(await readFile(join(CASE, "expected.json"), "utf8"));
    expect(Object.fromEntries(allTensors(summary.facts).map(({ name, digest }) => [name, digest]))).toEqual(
      Object.fromEntries(
        Object.entries<{ digest: string }>(expected).map(([name, { digest }]) => [name, digest]),
      ),
    );
    expect(summary.report.verdict).toBe("PASSED");
    expect(planned.plan.touched[0]).toMatchObject({ change: "LoRA", rank: 8, scale });
  });

  it("is read where its config names no keys, and where it says how many of the last layers it adapts", async () => {
    expect(await codes(await adapter("all", config({ keys: null })))).toEqual([]);
    expect(await codes(await adapter("two", config({}, { num_layers: 2 })))).toEqual([]);
  });

  it("is refused where its config adapts fewer layers or other modules than the file has", async () => {
    expect(new Set(await codes(await adapter("fewer", config({}, { num_layers: 1 }))))).toEqual(
      new Set(["ORPHAN_TENSOR"]),
    );
    expect(new Set(await codes(await adapter("others", config({ keys: ["self_attn.o_proj"] }))))).toEqual(
      new Set(["ORPHAN_TENSOR", "MISSING_TENSOR"]),
    );
  });

  it("is refused where alpha and scale are both given and the file does not say what alpha meant", async () => {
    const old = { ...config({ alpha: 16 }), fine_tune_type: undefined };
    expect(await codes(await adapter("old", old))).toEqual(["AMBIGUOUS_SCALE"]);
    const neutral = { ...config({ alpha: 8 }), fine_tune_type: undefined };
    expect(await codes(await adapter("neutral", neutral))).toEqual([]);
    expect(await codes(await adapter("later", config({ alpha: 16 })))).toEqual([]);
  });

  it.each([
    ["DoRA", config({}, { fine_tune_type: "dora" }), "UNSUPPORTED_VARIANT"],
    [
      "the older way to say DoRA",
      config({}, { fine_tune_type: undefined, use_dora: true }),
      "UNSUPPORTED_VARIANT",
    ],
    ["full fine-tuning", config({}, { fine_tune_type: "full" }), "UNSUPPORTED_VARIANT"],
    ["another rank", config({ rank: 4 }), "RANK_MISMATCH"],
    ["no scale", config({ scale: null }), "BAD_ADAPTER_CONFIG"],
    ["a rank of text", config({ rank: "8" }), "BAD_ADAPTER_CONFIG"],
    ["keys of numbers", config({ keys: [1] }), "BAD_ADAPTER_CONFIG"],
    ["half a layer", config({}, { num_layers: 1.5 }), "BAD_ADAPTER_CONFIG"],
    ["a field that is not known", config({ rslora: true }), "UNKNOWN_CONFIG_FIELD"],
    ["no parameters", { fine_tune_type: "lora" }, "BAD_ADAPTER_CONFIG"],
  ])("is refused with %s", async (name, written, code) => {
    expect(await codes(await adapter(`bad-${name}`, written))).toContain(code);
  });

  it.each<[string, (file: Map<string, RawTensor>) => void, string]>([
    ["a factor missing", (file) => file.delete([...file.keys()][0]!), "MISSING_TENSOR"],
    [
      "a magnitude of DoRA",
      (file) =>
        file.set("model.layers.0.self_attn.q_proj.m", { dtype: "F32", shape: [1], bytes: Buffer.alloc(4) }),
      "UNSUPPORTED_VARIANT",
    ],
    [
      "factors stored as PEFT stores them",
      (file) => {
        for (const [name, tensor] of file) file.set(name, { ...tensor, shape: [...tensor.shape].reverse() });
      },
      "SHAPE_MISMATCH",
    ],
    [
      "integer factors",
      (file) => {
        for (const [name, tensor] of file) file.set(name, { ...tensor, dtype: "I32" });
      },
      "UNSUPPORTED_DTYPE",
    ],
  ])("is refused with %s", async (name, edit, code) => {
    const file = new Map(tensors);
    edit(file);
    expect(await codes(await adapter(`file-${name}`, config(), file))).toContain(code);
  });

  it("in a folder with PEFT's config is not taken for PEFT's", async () => {
    const folder = await adapter("mixed", { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: KEYS });
    await writeTensors(join(folder, "adapter_model.safetensors"), tensors);
    const [refusal] = (await plan(folder)).refusals;
    expect(refusal).toMatchObject({ code: "FOREIGN_FORMAT", message: expect.stringContaining("MLX") });
  });
});
