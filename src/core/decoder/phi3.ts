import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES, type Source } from "./family.ts";
import {
  attentionShape,
  decoderOf,
  inputNorms,
  layerModule,
  layerOf,
  readSizes,
  type Sizes,
} from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";
import type { AttentionSpec } from "./spec.ts";

/** Llama's layers with q, k and v in one matrix, and gate and up in another. */
export const phi3: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Phi3"),
  read(source) {
    const { fields, tensors } = source;
    const sizes = readSizes(fields, {
      hidden: 3072,
      inner: 8192,
      layers: 32,
      heads: 32,
      kvHeads: null,
      headDim: null,
      maxPositions: 4096,
      epsilon: 1e-5,
    });
    const { hidden, inner } = sizes;
    const activation = readActivation(fields, "hidden_act", "silu");
    const window = fields.maybeCount("sliding_window", null);
    const rope = readRope(fields, {
      ...sizes,
      theta: 10_000,
      partial: 1,
      originalMaxPositions: 4096,
      // Names of its first versions.
      aliases: { su: "longrope", yarn: "longrope" },
    });
    if (rope.type !== "default" && rope.type !== "longrope") {
      throw fields.refused("rope_scaling", "Phi-3 knows default and longrope only");
    }
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [rope],
      layer: (index) =>
        layerOf({
          ...inputNorms(source, sizes, index),
          attention: fusedAttention(source, sizes, { index, window, dims: rope.dims }),
          mlp: {
            form: "gated-fused",
            gateUp: tensors.linear(layerModule(source, index, "mlp.gate_up_proj"), [2 * inner, hidden]),
            down: tensors.linear(layerModule(source, index, "mlp.down_proj"), [hidden, inner]),
            activation,
          },
        }),
    });
  },
};

function fusedAttention(
  source: Source,
  sizes: Sizes,
  { index, window, dims }: { index: number; window: number | null; dims: number },
): AttentionSpec {
  const { hidden, heads, kvHeads, headDim } = sizes;
  const linear = (name: string, shape: readonly [number, number]) =>
    source.tensors.linear(layerModule(source, index, `self_attn.${name}`), shape);
  return {
    ...attentionShape(sizes, { window }, dims),
    qkv: {
      form: "fused",
      linear: linear("qkv_proj", [(heads + 2 * kvHeads) * headDim, hidden]),
      order: "rows",
    },
    out: linear("o_proj", [hidden, heads * headDim]),
    qNorm: null,
    kNorm: null,
  };
}
