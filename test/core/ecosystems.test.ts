import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { TensorFacts } from "../../src/core/checkpoint.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { planMerge } from "../../src/core/plan.ts";
import { type ModelFolder, readModelFolder } from "../../src/storage/model-folder.ts";

/* PEFT's format as other trainers write it: fields and names that are theirs, and ways in which their files go wrong. */
const FIXTURES = join(import.meta.dirname, "../fixtures");

let base: ModelFolder;
let adapter: ModelFolder;
beforeAll(async () => {
  base = await readModelFolder(join(FIXTURES, "models/llama-bf16"), { roots: null });
  adapter = await readModelFolder(join(FIXTURES, "merge/llama-qv-r8/adapter"), { roots: null });
});

function plan(change: {
  config?: (config: JsonObject) => JsonObject;
  tensor?: (tensor: TensorFacts) => TensorFacts;
}) {
  const { config = (same) => same, tensor = (same) => same } = change;
  const facts = {
    ...adapter.facts,
    config: config(adapter.facts.config),
    weights: adapter.facts.weights.map((file) => ({ ...file, tensors: file.tensors.map(tensor) })),
  };
  const { refusals, warnings, touched } = planMerge({
    base: { facts: base.facts, label: "tiny-llama" },
    sources: [{ facts, label: "adapter" }],
    choices: { weights: [1], tokenizer: null },
  });
  return { refusals, warnings: warnings.map(({ code }) => code), touched: touched.length };
}

describe("an adapter as other trainers write PEFT's format", () => {
  it("by Unsloth, with its mark and a quantised base by name, is read with a warning", () => {
    const auto = { base_model_class: "LlamaForCausalLM", unsloth_fixed: true };
    const { refusals, warnings, touched } = plan({
      config: (config) => ({
        ...config,
        auto_mapping: auto,
        base_model_name_or_path: "unsloth/tiny-llama-bnb-4bit",
      }),
    });
    expect([refusals, touched]).toEqual([[], 4]);
    expect(warnings).toContain("QUANTISED_TRAINING_BASE");
  });

  it("by Unsloth for language layers, with one regular expression for all modules, is read", () => {
    const pattern =
      "(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|dense).*?(?:q_proj|v_proj).*?)|" +
      "(?:\\bmodel\\.layers\\.[\\d]{1,}\\.(?:self_attn|attention|attn|mlp|dense)\\.(?:(?:q_proj|v_proj)))";
    expect(plan({ config: (config) => ({ ...config, target_modules: pattern }) })).toMatchObject({
      refusals: [],
      touched: 4,
    });
  });

  it("by torchtune, with the few fields that it writes, is read", () => {
    const few = { peft_type: "LORA", r: 8, lora_alpha: 16, target_modules: ["q_proj", "v_proj"] };
    expect(plan({ config: () => few })).toMatchObject({ refusals: [], touched: 4 });
  });

  it("by a compiled model, whose names have its wrapper in them, is never merged in part", () => {
    const wrapped = plan({ tensor: (t) => ({ ...t, name: `_orig_mod.${t.name}` }) });
    expect(wrapped.refusals.map(({ code }) => code)).toEqual(["NO_TARGET"]);
  });

  it("with a task that is the name of something in JavaScript is read like one with any other task", () => {
    for (const task of ["__proto__", "constructor", "toString"]) {
      expect(plan({ config: (config) => ({ ...config, task_type: task }) })).toMatchObject({
        refusals: [],
        touched: 4,
      });
    }
  });

  it("is refused on a base that was saved with an adapter in it, before anything is written", () => {
    const name = "model.layers.0.self_attn.q_proj.lora_A.speech.weight";
    const [file, ...others] = base.facts.weights;
    const odd = { ...file!, tensors: [...file!.tensors, { ...file!.tensors[0]!, name }] };
    const { refusals } = planMerge({
      base: { facts: { ...base.facts, weights: [odd, ...others] }, label: "phi" },
      sources: [{ facts: adapter.facts, label: "adapter" }],
      choices: { weights: [1], tokenizer: null },
    });
    expect(refusals).toMatchObject([{ code: "BASE_HOLDS_ADAPTER", subject: name }]);
  });

  it("by DeepSpeed ZeRO-3 without gathering is refused with what went wrong", () => {
    const { refusals } = plan({ tensor: (t) => ({ ...t, shape: [0], end: t.begin }) });
    expect(refusals).toMatchObject([{ code: "EMPTY_TENSORS", message: expect.stringContaining("ZeRO-3") }]);
  });
});
