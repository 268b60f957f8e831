import { readActivation } from "./activation.ts";
import { type Family, LLAMA_NAMES } from "./family.ts";
import { attentionOf, decoderOf, gatedMlp, inputNorms, layerOf, readSizes } from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

/** Llama's layers with four constant factors. */
export const granite: Family = {
  ...LLAMA_NAMES,
  classes: { GraniteForCausalLM: "vocabulary" },
  read(source) {
    const { fields } = source;
    const sizes = readSizes(fields, {
      hidden: 4096,
      inner: 11_008,
      layers: 32,
      heads: 32,
      kvHeads: null,
      headDim: null,
      maxPositions: 2048,
      epsilon: 1e-6,
    });
    const activation = readActivation(fields, "hidden_act", "silu");
    const attentionBias = fields.flag("attention_bias", false);
    const mlpBias = fields.flag("mlp_bias", false);
    const scale = fields.number("attention_multiplier", 1);
    const residualScale = fields.number("residual_multiplier", 1);
    const divisor = fields.number("logits_scaling", 1);
    if (divisor === 0) throw fields.bad("logits_scaling", "a number other than 0");
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      embeddingScale: fields.number("embedding_multiplier", 1),
      head: { scale: 1 / divisor },
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, { index, choices: { bias: attentionBias, scale } }),
          mlp: gatedMlp(source, sizes, { index, activation, bias: mlpBias }),
          residualScale,
        }),
    });
  },
};
