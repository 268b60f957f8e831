import { readActivation } from "./activation.ts";
import { bothHeads, type Family, type Source } from "./family.ts";
import { headOf, tiedTensors } from "./heads.ts";
import { attentionShape, layerOf } from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";
import type { LayerSpec } from "./spec.ts";

/** Layer norms, attention and MLP side by side, and a part of each head that turns (Pythia). */
export const gptNeox: Family = {
  classes: bothHeads("GPTNeoX"),
  layer: "layers.0.",
  prefixes: [
    ["gpt_neox.", ""],
    ["", ""],
  ],
  heads: { vocabulary: "embed_out", classes: "score" },
  read(source) {
    const { fields, tensors } = source;
    const hidden = fields.count("hidden_size", 6144);
    const heads = fields.count("num_attention_heads", 64);
    if (hidden % heads !== 0) throw fields.bad("hidden_size", `a multiple of ${heads} attention heads`);
    const headDim = hidden / heads;
    fields.fixed("head_dim", headDim, `a head has hidden_size / num_attention_heads = ${headDim} numbers`);
    const maxPositions = fields.count("max_position_embeddings", 2048);
    const rope = readRope(fields, {
      headDim,
      maxPositions,
      theta: 10_000,
      partial: 0.25,
      thetaField: "rotary_emb_base",
      partialField: "rotary_pct",
    });
    fields.fixed("rope_theta", rope.theta, "transformers reads rotary_emb_base instead");
    fields.fixed("partial_rotary_factor", rope.dims / headDim, "transformers reads rotary_pct instead");
    const sizes: NeoxSizes = {
      hidden,
      heads,
      headDim,
      dims: rope.dims,
      inner: fields.count("intermediate_size", 24_576),
      epsilon: fields.number("layer_norm_eps", 1e-5),
      bias: fields.flag("attention_bias", true),
      parallel: fields.flag("use_parallel_residual", true),
    };
    // Its name in memory since transformers 5, where a file was written without renaming.
    const renamed = !tensors.has("embed_out.weight") && tensors.has("lm_head.weight");
    const pair = tiedTensors(source, {
      embedding: `${tensors.prefix}embed_in.weight`,
      head: renamed ? "lm_head.weight" : "embed_out.weight",
      hidden,
      tied: fields.flag("tie_word_embeddings", false),
    });
    return {
      family: fields.family,
      direction: "decoder",
      hidden,
      embedding: { tokens: pair.embedding, positions: null, segments: null, norm: null, scale: 1 },
      layers: Array.from({ length: fields.pieces("num_hidden_layers", 44) }, (_, index) =>
        layer(source, sizes, index),
      ),
      finalNorm: tensors.layerNorm(`${tensors.prefix}final_layer_norm`, hidden, sizes.epsilon),
      head: headOf(source, { hidden, head: pair.head }),
      ropes: [rope],
      maxPositions,
    };
  },
};

interface NeoxSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  /** Numbers of a head that turn. */
  readonly dims: number;
  readonly inner: number;
  readonly epsilon: number;
  readonly bias: boolean;
  readonly parallel: boolean;
}

function layer(source: Source, sizes: NeoxSizes, index: number): LayerSpec {
  const { fields, tensors } = source;
  const { hidden, heads, headDim, inner, epsilon, bias } = sizes;
  const module = (name: string) => `${tensors.prefix}layers.${index}.${name}`;
  return layerOf({
    parallel: sizes.parallel,
    attentionNorm: tensors.layerNorm(module("input_layernorm"), hidden, epsilon),
    mlpNorm: tensors.layerNorm(module("post_attention_layernorm"), hidden, epsilon),
    attention: {
      ...attentionShape({ heads, kvHeads: heads, headDim }, {}, sizes.dims),
      qkv: {
        form: "fused",
        linear: tensors.linear(module("attention.query_key_value"), [3 * hidden, hidden], bias),
        order: "heads",
      },
      out: tensors.linear(module("attention.dense"), [hidden, hidden], bias),
      qNorm: null,
      kNorm: null,
    },
    mlp: {
      form: "plain",
      up: tensors.linear(module("mlp.dense_h_to_4h"), [inner, hidden], true),
      down: tensors.linear(module("mlp.dense_4h_to_h"), [hidden, inner], true),
      activation: readActivation(fields, "hidden_act", "gelu"),
    },
  });
}
