import { readActivation } from "./activation.ts";
import type { Family, Source } from "./family.ts";
import { attentionShape, layerOf } from "./llama-parts.ts";
import type { LayerSpec, NormSpec } from "./spec.ts";
import type { Tensors } from "./tensors.ts";

/** An encoder with learned positions, norms on the sums, and a classifier on the first token. */
export const bert: Family = {
  classes: { BertForSequenceClassification: "classes" },
  layer: "encoder.layer.0.",
  prefixes: [["bert.", ""]],
  heads: { classes: "classifier" },
  read(source) {
    const { fields, tensors } = source;
    fields.fixed("position_embedding_type", "absolute", "positions would change the scores of attention");
    fields.fixed("is_decoder", false, "tokens would see their past only");
    fields.fixed("add_cross_attention", false, "there would be attention over another text");
    const hidden = fields.count("hidden_size", 768);
    const heads = fields.count("num_attention_heads", 12);
    if (hidden % heads !== 0) throw fields.bad("hidden_size", `a multiple of ${heads} attention heads`);
    fields.fixed("head_dim", hidden / heads, "a head has hidden_size / num_attention_heads numbers");
    const sizes: BertSizes = {
      hidden,
      heads,
      inner: fields.count("intermediate_size", 3072),
      epsilon: fields.number("layer_norm_eps", 1e-12),
    };
    const positions = fields.count("max_position_embeddings", 512);
    const table = (name: string, rows: number | null) =>
      tensors.take(`${tensors.prefix}embeddings.${name}.weight`, [rows, hidden]);
    return {
      family: fields.family,
      direction: "encoder",
      hidden,
      embedding: {
        tokens: table("word_embeddings", fields.maybeCount("vocab_size", null)),
        positions: { tensor: table("position_embeddings", positions), offset: 0 },
        segments: table("token_type_embeddings", fields.count("type_vocab_size", 2)),
        norm: bertNorm(tensors, `${tensors.prefix}embeddings.LayerNorm`, sizes),
        scale: 1,
      },
      layers: Array.from({ length: fields.pieces("num_hidden_layers", 12) }, (_, index) =>
        layer(source, sizes, index),
      ),
      finalNorm: null,
      head: {
        form: "pooled",
        pooler: tensors.linear(`${tensors.prefix}pooler.dense`, [hidden, hidden], true),
        linear: tensors.linear(`${tensors.headPrefix}classifier`, [null, hidden], true),
      },
      ropes: [],
      maxPositions: positions,
    };
  },
};

interface BertSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly inner: number;
  readonly epsilon: number;
}

function layer(source: Source, sizes: BertSizes, index: number): LayerSpec {
  const { fields, tensors } = source;
  const { hidden, heads, inner } = sizes;
  const module = (name: string) => `${tensors.prefix}encoder.layer.${index}.${name}`;
  const linear = (name: string, out: number, into: number) => tensors.linear(module(name), [out, into], true);
  return layerOf({
    afterAttentionNorm: bertNorm(tensors, module("attention.output.LayerNorm"), sizes),
    afterMlpNorm: bertNorm(tensors, module("output.LayerNorm"), sizes),
    attention: {
      ...attentionShape({ heads, kvHeads: heads, headDim: hidden / heads }, { rope: null }),
      qkv: {
        form: "apart",
        q: linear("attention.self.query", hidden, hidden),
        k: linear("attention.self.key", hidden, hidden),
        v: linear("attention.self.value", hidden, hidden),
      },
      out: linear("attention.output.dense", hidden, hidden),
      qNorm: null,
      kNorm: null,
    },
    mlp: {
      form: "plain",
      up: linear("intermediate.dense", inner, hidden),
      down: linear("output.dense", hidden, inner),
      activation: readActivation(fields, "hidden_act", "gelu"),
    },
  });
}

/** Files of the first years call weight and bias gamma and beta. */
function bertNorm(tensors: Tensors, module: string, { hidden, epsilon }: BertSizes): NormSpec {
  if (tensors.has(`${module}.weight`) || !tensors.has(`${module}.gamma`)) {
    return tensors.layerNorm(module, hidden, epsilon);
  }
  return {
    kind: "layer",
    weight: tensors.take(`${module}.gamma`, [hidden]),
    bias: tensors.take(`${module}.beta`, [hidden]),
    epsilon,
    plusOne: false,
  };
}
