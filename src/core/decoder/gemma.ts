import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES, type Source } from "./family.ts";
import type { Fields } from "./fields.ts";
import {
  attentionOf,
  decoderOf,
  gatedMlp,
  layerModule,
  layerOf,
  readSizes,
  readWindows,
  type Sizes,
} from "./llama-parts.ts";
import { type RopeDefaults, readRope, readRopeTable, ropeObject } from "./rope-config.ts";
import type { ModelSpec, RopeSpec } from "./spec.ts";

const SIZES = {
  hidden: 2304,
  inner: 9216,
  layers: 26,
  heads: 8,
  kvHeads: 4,
  headDim: 256,
  epsilon: 1e-6,
} as const;

/** Norms before and after attention and MLP, weights stored minus 1, an embedding times √hidden. */
export const gemma2: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Gemma2"),
  read(source) {
    const { fields } = source;
    refuseBidirectional(fields);
    const sizes = readSizes(fields, { ...SIZES, maxPositions: 8192 });
    const windows = readWindows(fields, {
      layers: sizes.layers,
      window: fields.maybeCount("sliding_window", 4096),
      byDefault: (index) => index % 2 === 0,
    });
    return gemma(source, sizes, {
      windows,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      ropeOf: () => 0,
      softcaps: { attention: 50, head: 30 },
      qkNorms: false,
    });
  },
};

/** Gemma 2's layers with norms on q and k, and another base of positions in layers with a window. */
export const gemma3Text: Family = {
  ...LLAMA_NAMES,
  classes: {
    Gemma3ForCausalLM: "vocabulary",
    Gemma3TextForSequenceClassification: "classes",
    // With images; its text part alone is read, as it runs on text without images.
    Gemma3ForConditionalGeneration: "vocabulary",
  },
  read(source) {
    const { fields } = source;
    refuseBidirectional(fields);
    const sizes = readSizes(fields, { ...SIZES, maxPositions: 131_072 });
    const pattern = fields.count("sliding_window_pattern", 6);
    if (fields.texts("layer_types") === null) {
      fields.fixed("_sliding_window_pattern", pattern, "transformers reads sliding_window_pattern instead");
    }
    const windows = readWindows(fields, {
      layers: sizes.layers,
      window: fields.maybeCount("sliding_window", 4096),
      byDefault: (index) => (index + 1) % pattern !== 0,
    });
    return gemma(source, sizes, {
      windows,
      ropes: gemma3Ropes(fields, sizes),
      ropeOf: (window) => (window === null ? 0 : 1),
      softcaps: { attention: null, head: null },
      qkNorms: true,
    });
  },
};

function refuseBidirectional(fields: Fields): void {
  fields.fixed("use_bidirectional_attention", false, "every token would see the whole text");
}

interface GemmaChoices {
  readonly windows: readonly (number | null)[];
  readonly ropes: readonly RopeSpec[];
  readonly ropeOf: (window: number | null) => number;
  /** Where the file says nothing. */
  readonly softcaps: { readonly attention: number | null; readonly head: number | null };
  readonly qkNorms: boolean;
}

function gemma(source: Source, sizes: Sizes, choices: GemmaChoices): ModelSpec {
  const { fields, tensors } = source;
  const activation = readActivation(fields, "hidden_activation", "gelu_pytorch_tanh");
  const bias = fields.flag("attention_bias", false);
  const scale = fields.number("query_pre_attn_scalar", 256) ** -0.5;
  const softcap = fields.maybeNumber("attn_logit_softcapping", choices.softcaps.attention);
  if (choices.softcaps.attention === null && softcap !== null) {
    throw fields.refused("attn_logit_softcapping", "transformers does not apply it to Gemma 3, others may");
  }
  const headCap = fields.maybeNumber("final_logit_softcapping", choices.softcaps.head);
  return decoderOf(source, {
    sizes,
    tied: true,
    ropes: choices.ropes,
    embeddingScale: Math.sqrt(sizes.hidden),
    plusOne: true,
    head: { softcap: headCap },
    layer: (index) => {
      const norm = (name: string) =>
        tensors.rms(layerModule(source, index, name), sizes.hidden, sizes.epsilon, true);
      const window = choices.windows[index]!;
      return layerOf({
        attentionNorm: norm("input_layernorm"),
        attentionOutNorm: norm("post_attention_layernorm"),
        mlpNorm: norm("pre_feedforward_layernorm"),
        mlpOutNorm: norm("post_feedforward_layernorm"),
        attention: attentionOf(source, sizes, {
          index,
          choices: {
            bias,
            scale,
            softcap,
            window,
            rope: choices.ropeOf(window),
            ...(choices.qkNorms ? { norms: { over: "head", plusOne: true } } : {}),
          },
        }),
        mlp: gatedMlp(source, sizes, { index, activation }),
      });
    },
  });
}

/** [of layers that see everything, of layers with a window] */
function gemma3Ropes(fields: Fields, sizes: Sizes): RopeSpec[] {
  const nested = fields.object("rope_parameters");
  const full: RopeDefaults = { ...sizes, theta: 1_000_000, partial: null };
  const local: RopeDefaults = { ...full, theta: 10_000, thetaField: "rope_local_base_freq" };
  if (!nested) return [readRopeTable(fields, ropeObject(fields), full), readRopeTable(fields, null, local)];
  if (fields.object("rope_scaling")) {
    throw fields.refused("rope_scaling", "rope_parameters is there too, and only one of them can be meant");
  }
  const tables = [nested.object("full_attention"), nested.object("sliding_attention")] as const;
  nested.refuseUnknown();
  for (const table of tables) {
    // transformers looks for it one level further out, where it cannot be.
    if (table?.has("truncate")) throw table.refused("truncate", "transformers does not read it there");
  }
  return [readRopeTable(fields, tables[0], full), readRopeTable(fields, tables[1], local)];
}
