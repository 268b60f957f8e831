import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES } from "./family.ts";
import { attentionOf, decoderOf, gatedMlp, layerModule, layerOf, readSizes } from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

/** Norms on the outputs of attention and MLP, not on their inputs, and over all heads of q and of k. */
export const olmo2: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Olmo2"),
  read(source) {
    const { fields, tensors } = source;
    const sizes = readSizes(fields, {
      hidden: 4096,
      inner: 11_008,
      layers: 32,
      heads: 32,
      kvHeads: null,
      headDim: null,
      maxPositions: 2048,
      epsilon: 1e-5,
    });
    const activation = readActivation(fields, "hidden_act", "silu");
    const bias = fields.flag("attention_bias", false);
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) => {
        const norm = (name: string) =>
          tensors.rms(layerModule(source, index, name), sizes.hidden, sizes.epsilon);
        return layerOf({
          attentionOutNorm: norm("post_attention_layernorm"),
          mlpOutNorm: norm("post_feedforward_layernorm"),
          attention: attentionOf(source, sizes, { index, choices: { bias, norms: { over: "whole" } } }),
          mlp: gatedMlp(source, sizes, { index, activation }),
        });
      },
    });
  },
};
