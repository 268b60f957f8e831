import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES } from "./family.ts";
import { attentionOf, decoderOf, gatedMlp, inputNorms, layerOf, readSizes } from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

/** Llama's layers; where `sliding_window` is a number, every layer sees that many tokens. */
export const mistral: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Mistral"),
  read(source) {
    const { fields } = source;
    const sizes = readSizes(fields, {
      hidden: 4096,
      inner: 14_336,
      layers: 32,
      heads: 32,
      kvHeads: 8,
      headDim: null,
      maxPositions: 131_072,
      epsilon: 1e-6,
    });
    const activation = readActivation(fields, "hidden_act", "silu");
    const window = fields.maybeCount("sliding_window", 4096);
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, { index, choices: { bias: false, window } }),
          mlp: gatedMlp(source, sizes, { index, activation }),
        }),
    });
  },
};
