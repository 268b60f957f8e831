import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES } from "./family.ts";
import { attentionOf, decoderOf, gatedMlp, inputNorms, layerOf, readSizes } from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

/** Llama 1 to 3, and the many models that were trained in its shape. */
export const llama: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Llama"),
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
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, { index, choices: { bias: attentionBias } }),
          mlp: gatedMlp(source, sizes, { index, activation, bias: mlpBias }),
        }),
    });
  },
};
