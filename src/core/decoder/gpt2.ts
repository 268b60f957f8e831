import { readActivation } from "./activation.ts";
import type { Family, Source } from "./family.ts";
import { headOf, tiedTensors } from "./heads.ts";
import { attentionShape, layerOf } from "./llama-parts.ts";
import type { LayerSpec } from "./spec.ts";

/** Learned positions, layer norms, biases everywhere, and matrices stored [in, out] (Conv1D). */
export const gpt2: Family = {
  classes: { GPT2LMHeadModel: "vocabulary", GPT2ForSequenceClassification: "classes" },
  layer: "h.0.",
  prefixes: [
    ["transformer.", ""],
    ["", ""],
  ],
  heads: { vocabulary: "lm_head", classes: "score" },
  read(source) {
    const { fields, tensors } = source;
    fields.fixed("add_cross_attention", false, "there would be attention over another text");
    const hidden = fields.count("n_embd", 768);
    const heads = fields.count("n_head", 12);
    if (hidden % heads !== 0) throw fields.bad("n_embd", `a multiple of ${heads} attention heads`);
    const headDim = hidden / heads;
    fields.fixed("head_dim", headDim, `a head has n_embd / n_head = ${headDim} numbers`);
    const sizes: Gpt2Sizes = {
      hidden,
      heads,
      headDim,
      inner: fields.maybeCount("n_inner", null) ?? 4 * hidden,
      epsilon: fields.number("layer_norm_epsilon", 1e-5),
      scaled: fields.flag("scale_attn_weights", true),
      byLayer: fields.flag("scale_attn_by_inverse_layer_idx", false),
    };
    const positions = fields.count("n_positions", 1024);
    const pair = tiedTensors(source, {
      embedding: `${tensors.prefix}wte.weight`,
      head: `${tensors.headPrefix}lm_head.weight`,
      hidden,
      tied: fields.flag("tie_word_embeddings", true),
    });
    return {
      family: fields.family,
      direction: "decoder",
      hidden,
      embedding: {
        tokens: pair.embedding,
        positions: { tensor: tensors.take(`${tensors.prefix}wpe.weight`, [positions, hidden]), offset: 0 },
        segments: null,
        norm: null,
        scale: 1,
      },
      layers: Array.from({ length: fields.pieces("n_layer", 12) }, (_, index) => layer(source, sizes, index)),
      finalNorm: tensors.layerNorm(`${tensors.prefix}ln_f`, hidden, sizes.epsilon),
      head: headOf(source, { hidden, head: pair.head }),
      ropes: [],
      maxPositions: positions,
    };
  },
};

interface Gpt2Sizes {
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  readonly inner: number;
  readonly epsilon: number;
  /** Scores are divided by √headDim. */
  readonly scaled: boolean;
  /** And by the layer's number, from 1. */
  readonly byLayer: boolean;
}

function layer(source: Source, sizes: Gpt2Sizes, index: number): LayerSpec {
  const { fields, tensors } = source;
  const { hidden, heads, headDim, inner, epsilon } = sizes;
  const module = (name: string) => `${tensors.prefix}h.${index}.${name}`;
  const scale = (sizes.scaled ? headDim ** -0.5 : 1) / (sizes.byLayer ? index + 1 : 1);
  return layerOf({
    attentionNorm: tensors.layerNorm(module("ln_1"), hidden, epsilon),
    mlpNorm: tensors.layerNorm(module("ln_2"), hidden, epsilon),
    attention: {
      ...attentionShape({ heads, kvHeads: heads, headDim }, { scale, rope: null }),
      qkv: {
        form: "fused",
        linear: tensors.conv1d(module("attn.c_attn"), [3 * hidden, hidden]),
        order: "rows",
      },
      out: tensors.conv1d(module("attn.c_proj"), [hidden, hidden]),
      qNorm: null,
      kNorm: null,
    },
    mlp: {
      form: "plain",
      up: tensors.conv1d(module("mlp.c_fc"), [inner, hidden]),
      down: tensors.conv1d(module("mlp.c_proj"), [hidden, inner]),
      activation: readActivation(fields, "activation_function", "gelu_new"),
    },
  });
}
