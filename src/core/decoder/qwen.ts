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
  type SizeDefaults,
} from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";

const DEFAULTS: SizeDefaults = {
  hidden: 4096,
  inner: 22_016,
  layers: 32,
  heads: 32,
  kvHeads: 32,
  headDim: null,
  maxPositions: 32_768,
  epsilon: 1e-6,
};

/** A window on layers from `max_window_layers` on, once `use_sliding_window` is true. */
function qwenWindows(fields: Fields, layers: number): (number | null)[] {
  const first = fields.number("max_window_layers", 28);
  const stated = fields.maybeCount("sliding_window", 4096);
  const window = fields.flag("use_sliding_window", false) ? stated : null;
  return readWindows(fields, {
    layers,
    window,
    byDefault: (index) => window !== null && index >= first,
  });
}

/** Llama's layers with a bias on q, k and v. */
export const qwen2: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Qwen2"),
  unread: ["attention_bias"],
  read(source) {
    const { fields } = source;
    const sizes = readSizes(fields, DEFAULTS);
    const activation = readActivation(fields, "hidden_act", "silu");
    const windows = qwenWindows(fields, sizes.layers);
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, {
            index,
            choices: { bias: true, outBias: false, window: windows[index]! },
          }),
          mlp: gatedMlp(source, sizes, { index, activation }),
        }),
    });
  },
};

/** Llama's layers with norms on q and k of each head. */
export const qwen3: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Qwen3"),
  read(source) {
    const { fields } = source;
    const sizes = readSizes(fields, { ...DEFAULTS, headDim: 128 });
    const activation = readActivation(fields, "hidden_act", "silu");
    const bias = fields.flag("attention_bias", false);
    const windows = qwenWindows(fields, sizes.layers);
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, {
            index,
            choices: { bias, window: windows[index]!, norms: { over: "head" } },
          }),
          mlp: gatedMlp(source, sizes, { index, activation }),
        }),
    });
  },
};
