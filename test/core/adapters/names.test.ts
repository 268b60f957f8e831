import { describe, expect, it } from "vitest";
import type { AdapterInput } from "../../../src/core/adapters/index.ts";
import { readTargets } from "../../../src/core/adapters/module-names.ts";
import { absent, findTensor, groupByModule, moduleOf, oddKeys } from "../../../src/core/adapters/parts.ts";
import { targetProblems } from "../../../src/core/adapters/targets.ts";
import { readModelFacts } from "../../../src/core/arch.ts";
import type { LocatedTensor } from "../../../src/core/checkpoint.ts";

function tensor(name: string, shape: readonly number[] = [4, 4]): LocatedTensor {
  return { name, dtype: "BF16", shape, begin: 0, end: 0, file: "model.safetensors" };
}

function inputOf(modelType: string, base: readonly string[], adapter: readonly string[] = []): AdapterInput {
  return {
    config: {},
    tensors: adapter.map((name) => tensor(name)),
    base: new Map(base.map((name) => [name, tensor(name, name.includes("norm") ? [4] : [4, 4])])),
    model: readModelFacts({ model_type: modelType }),
    source: 0,
    ties: "preserve",
  };
}

describe("a module's name in memory finds the checkpoint's tensor", () => {
  it.each([
    ["llama", "model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj.weight"],
    ["llama", "model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj.weight"],
    ["llama", "layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj.weight"],
    ["gpt2", "transformer.h.0.attn.c_attn", "h.0.attn.c_attn.weight"],
    ["llama", "lm_head.base_layer", "lm_head.weight"],
    [
      "llava",
      "model.language_model.layers.0.mlp.up_proj",
      "language_model.model.layers.0.mlp.up_proj.weight",
    ],
    [
      "llava",
      "language_model.model.layers.0.mlp.up_proj",
      "model.language_model.layers.0.mlp.up_proj.weight",
    ],
    ["llava", "model.vision_tower.encoder.layers.0.q", "vision_tower.vision_model.encoder.layers.0.q.weight"],
    ["gemma3", "lm_head", "language_model.lm_head.weight"],
    ["qwen2_5_vl", "model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj.weight"],
    ["qwen2_vl", "model.visual.blocks.0.attn.qkv", "visual.blocks.0.attn.qkv.weight"],
    ["gpt_neox", "lm_head", "embed_out.weight"],
    ["mixtral", "model.layers.0.mlp.gate", "model.layers.0.block_sparse_moe.gate.weight"],
    ["vit", "vit.layers.0.attention.q_proj", "vit.encoder.layer.0.attention.attention.query.weight"],
    ["vit", "layers.1.mlp.fc2", "vit.encoder.layer.1.output.dense.weight"],
    ["bert", "bert.encoder.layer.0.output.LayerNorm", "bert.encoder.layer.0.output.LayerNorm.gamma"],
    // As transformers 5.18 names and saves them.
    ["qwen2_audio", "model.language_model.layers.0.q", "language_model.model.model.layers.0.q.weight"],
    ["mllama", "model.vision_model.patch_embedding", "vision_model.patch_embedding.weight"],
    ["video_llava", "model.video_tower.layers.0.q", "video_tower.layers.0.q.weight"],
    ["granite_speech", "model.encoder.input_linear", "encoder.input_linear.weight"],
    ["granitemoe", "layers.0.block_sparse_moe.router", "layers.0.block_sparse_moe.router.layer.weight"],
    ["phimoe", "layers.0.mlp.router", "layers.0.block_sparse_moe.gate.weight"],
    ["dinov2", "encoder.layer.0.attention.q_proj", "encoder.layer.0.attention.attention.query.weight"],
    ["swin", "layers.0.attention.q_proj", "layers.0.attention.self.query.weight"],
    [
      "segformer",
      "segformer.stages.0.blocks.1.layernorm_before",
      "segformer.encoder.block.0.1.layer_norm_1.weight",
    ],
  ])("%s: %s is %s", (modelType, module, stored) => {
    const other = stored.replace(/^(\w+\.).*/, "$1other.thing.weight");
    expect(
      findTensor(inputOf(modelType, [stored, other, other.replace("thing", "more")]), module)?.name,
    ).toBe(stored);
  });

  it("takes a name that the base has before any other reading of it", () => {
    const input = inputOf("llama", ["layers.0.up.weight", "model.layers.0.up.weight"]);
    expect(findTensor(input, "layers.0.up")?.name).toBe("layers.0.up.weight");
  });

  it("takes no prefix off that the base itself uses", () => {
    const input = inputOf("t5", ["encoder.block.0.wi.weight", "block.0.wi.weight"]);
    expect(findTensor(input, "encoder.block.1.wi")).toBeNull();
  });

  it("refuses by name what can mean two tensors", () => {
    const twice = inputOf("mixtral", ["model.block_sparse_moe.gate.weight", "model.mlp.gate.weight"]);
    expect(findTensor(twice, "model.mlp.gate")?.name).toBe("model.mlp.gate.weight");
    expect(findTensor(twice, "mlp.gate")).toBeNull();
    const finding = absent(twice, tensor("base_model.model.mlp.gate.lora_A.weight"), "mlp.gate");
    expect(finding.code).toBe("AMBIGUOUS_NAME");
    expect(finding.message).toContain('"model.block_sparse_moe.gate.weight"');
  });
});

describe("adapter keys are sorted by module", () => {
  it("reads keys without a prefix, with half of it, twice it and with the adapter's name", () => {
    const input = inputOf(
      "llama",
      [
        "model.layers.0.q.weight",
        "model.layers.1.q.weight",
        "model.layers.2.q.weight",
        "model.layers.3.q.weight",
      ],
      [
        "model.layers.0.q.lora_A.weight",
        "base_model.model.layers.1.q.lora_A.weight",
        "base_model.model.base_model.model.model.layers.2.q.lora_A.weight",
        "base_model.model.model.layers.3.q.lora_A.default.weight",
      ],
    );
    const grouped = groupByModule(input, /lora_[AB]\.weight/);
    expect([...grouped.modules.keys()]).toEqual([0, 1, 2, 3].map((i) => `model.layers.${i}.q`));
    expect(grouped.odd).toBe(3);
    expect(oddKeys(grouped).map(({ code }) => code)).toEqual(["ODD_KEYS"]);
    expect(oddKeys({ odd: 0 })).toEqual([]);
  });

  it("keeps the module's own model. where the base has no such module without it", () => {
    expect(moduleOf("base_model.model.layers.0.q", inputOf("llama", ["model.layers.0.q.weight"]))).toBe(
      "model.layers.0.q",
    );
  });
});

describe("the file and the config must name the same modules", () => {
  const check = (input: AdapterInput, config: Record<string, string[] | string>) =>
    targetProblems({
      input,
      targets: readTargets(config, (finding) => {
        throw new Error(finding.message);
      }),
      modules: groupByModule(input, /lora_[AB]\.weight/).modules,
    }).map(({ code, subject }) => `${code} ${subject}`);
  const factors = (...modules: string[]) =>
    modules.map((module) => `base_model.model.${module}.lora_A.weight`);

  it("reports modules that the config does not target", () => {
    const input = inputOf("llama", ["model.q.weight", "model.v.weight"], factors("model.q", "model.v"));
    expect(check(input, { target_modules: ["q"] })).toEqual([
      "ORPHAN_TENSOR base_model.model.model.v.lora_A.weight",
    ]);
  });

  it("reports targeted matrices that the file lacks, and no vectors", () => {
    const input = inputOf(
      "llama",
      ["model.q.weight", "model.v.weight", "model.norm.weight"],
      factors("model.q"),
    );
    expect(check(input, { target_modules: ["q", "v", "norm"] })).toEqual(["MISSING_TENSOR model.v"]);
  });

  it("matches base tensors by their names in memory when the adapter uses those", () => {
    const stored = [0, 1].map((i) => `vit.encoder.layer.${i}.attention.attention.query.weight`);
    const input = inputOf("vit", stored, factors("vit.layers.0.attention.q_proj"));
    expect(check(input, { target_modules: "vit\\.layers\\.\\d\\.attention\\.q_proj" })).toEqual([
      "MISSING_TENSOR vit.layers.1.attention.q_proj",
    ]);
  });

  it("matches base tensors with the prefix that only the adapter has", () => {
    const input = inputOf(
      "gpt2",
      ["h.0.c_attn.weight", "h.1.c_attn.weight"],
      factors("transformer.h.0.c_attn"),
    );
    expect(check(input, { target_modules: "transformer\\..*c_attn" })).toEqual([
      "MISSING_TENSOR transformer.h.1.c_attn",
    ]);
  });

  it("does not miss experts, which are parameters in memory, where the file has none", () => {
    const base = ["model.layers.0.mlp.experts.0.up_proj.weight", "model.layers.1.mlp.up_proj.weight"];
    const input = inputOf("qwen3_moe", base, factors("model.layers.1.mlp.up_proj"));
    expect(check(input, { target_modules: ["up_proj"] })).toEqual([]);
  });

  it("gives one reason where the base has none of the modules", () => {
    const input = inputOf("llama", ["model.q.weight"], factors("decoder.query", "decoder.value"));
    expect(check(input, { target_modules: ["query", "value"] })).toEqual(["NO_TARGET undefined"]);
  });
});
