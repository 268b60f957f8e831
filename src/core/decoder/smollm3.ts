import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES } from "./family.ts";
import type { Fields } from "./fields.ts";
import {
  attentionOf,
  decoderOf,
  gatedMlp,
  inputNorms,
  layerOf,
  readSizes,
  readWindows,
} from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

/** Llama's layers, of which some know no positions. */
export const smollm3: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("SmolLM3"),
  read(source) {
    const { fields } = source;
    const sizes = readSizes(fields, {
      hidden: 2048,
      inner: 11_008,
      layers: 36,
      heads: 16,
      kvHeads: 4,
      headDim: null,
      maxPositions: 32_768,
      epsilon: 1e-6,
    });
    const activation = readActivation(fields, "hidden_act", "silu");
    const attentionBias = fields.flag("attention_bias", false);
    const mlpBias = fields.flag("mlp_bias", false);
    const turns = layersThatTurn(fields, sizes.layers);
    const stated = fields.maybeCount("sliding_window", null);
    const window = fields.flag("use_sliding_window", false) ? stated : null;
    const windows = readWindows(fields, {
      layers: sizes.layers,
      window,
      byDefault: (index) => window !== null && !turns[index],
    });
    return decoderOf(source, {
      sizes,
      tied: true,
      ropes: [readRope(fields, { ...sizes, theta: 2_000_000, partial: null })],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, {
            index,
            choices: { bias: attentionBias, rope: turns[index] ? 0 : null, window: windows[index]! },
          }),
          mlp: gatedMlp(source, sizes, { index, activation, bias: mlpBias }),
        }),
    });
  },
};

/** `no_rope_layers` holds 1 for a layer with positions, in spite of its name. */
function layersThatTurn(fields: Fields, layers: number): boolean[] {
  const stated = fields.numbers("no_rope_layers");
  const interval = fields.count("no_rope_layer_interval", 4);
  if (stated && stated.length < layers) throw fields.bad("no_rope_layers", `a list of ${layers} numbers`);
  return Array.from({ length: layers }, (_, index) =>
    stated ? stated[index] !== 0 : (index + 1) % interval !== 0,
  );
}
