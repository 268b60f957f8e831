import { describe, expect, it } from "vitest";
import { foreignConfig, foreignFormat, foreignKeys } from "../../src/core/foreign.ts";

describe("whose file this is, by its keys,", () => {
  it.each([
    ["kohya", ["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "lora_te1_x.alpha"]],
    ["kohya", ["diffusion_model.blocks.0.attn.qkv.lora_down.weight"]],
    ["lycoris", ["lycoris_blocks_0_attn.lokr_w1", "lycoris_blocks_0_attn.lokr_w2_a", "lycoris_x.alpha"]],
    ["lycoris", ["lora_unet_x.oft_blocks"]],
    ["diffusers", ["unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "text_encoder_2.x.lora_A.weight"]],
    ["diffusers", ["down_blocks.0.attn1.processor.to_q_lora.down.weight"]],
    ["torchtune", ["layers.0.attn.q_proj.lora_a.weight", "layers.0.attn.q_proj.lora_b.weight"]],
    ["torchtune", ["decoder.layers.3.mlp.w1.magnitude", "output.lora_a.weight"]],
    ["mlx", ["model.layers.0.self_attn.q_proj.lora_a", "model.layers.0.self_attn.q_proj.lora_b"]],
  ])("is told: %s", (format, names) => {
    expect(foreignKeys(names)).toBe(format);
  });

  it.each([
    ["PEFT's LoRA", ["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]],
    ["PEFT's LoRA without prefix on GPT-2", ["transformer.h.0.attn.c_attn.lora_A.weight"]],
    ["PEFT's LoHa", ["base_model.model.model.layers.0.mlp.up_proj.hada_w1_a"]],
    ["PEFT's LoKr", ["base_model.model.model.layers.0.mlp.up_proj.lokr_w2_a"]],
    ["PEFT's embedding factors", ["base_model.model.model.embed_tokens.lora_embedding_A"]],
    ["AdaLoRA", ["base_model.model.model.layers.0.self_attn.q_proj.lora_A"]],
    [
      "PEFT with one stray key of kohya's",
      ["base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight", "lora_unet_x.alpha"],
    ],
    ["nothing", []],
  ])("is not claimed for another: %s", (_, names) => {
    expect(foreignKeys(names)).toBeNull();
  });
});

describe("whose config this is", () => {
  it("is told for MLX and AdapterHub, and never where PEFT's own field is there", () => {
    expect(foreignConfig({ lora_parameters: { rank: 8 } })).toBe("mlx");
    expect(foreignConfig({ fine_tune_type: "full" })).toBe("mlx");
    expect(foreignConfig({ config: {}, model_class: "BertModel" })).toBe("adapterHub");
    expect(foreignConfig({ peft_type: "LORA", lora_parameters: {} })).toBeNull();
    expect(foreignConfig({ r: 8 })).toBeNull();
  });

  it("is in the refusal as people call it", () => {
    expect(foreignFormat("gguf", "x.gguf")).toMatchObject({
      code: "FOREIGN_FORMAT",
      details: { ecosystem: "GGUF (llama.cpp)" },
    });
  });
});
