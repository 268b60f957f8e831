import { readActivation } from "./activation.ts";
import { bothHeads, type Family, LLAMA_NAMES, type Source } from "./family.ts";
import type { Fields } from "./fields.ts";
import { unsupported } from "./fields.ts";
import {
  attentionOf,
  decoderOf,
  gatedMlp,
  gatedParts,
  inputNorms,
  layerModule,
  layerOf,
  readSizes,
} from "./llama-parts.ts";
import { readRope } from "./rope-config.ts";
import type { LinearSpec } from "./spec.ts";

/** Mistral's attention, and in place of the MLP the best of several experts (w1 gate, w3 up, w2 down). */
export const mixtral: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Mixtral"),
  read(source) {
    const { fields, tensors } = source;
    const sizes = readSizes(fields, {
      hidden: 4096,
      inner: 14_336,
      layers: 32,
      heads: 32,
      kvHeads: 8,
      headDim: null,
      maxPositions: 131_072,
      epsilon: 1e-5,
    });
    const { hidden, inner } = sizes;
    const activation = readActivation(fields, "hidden_act", "silu");
    const window = fields.maybeCount("sliding_window", null);
    const choice = { ...readExperts(fields, { topK: 2, count: 8 }), normalise: true, activation };
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 1_000_000, partial: null })],
      layer: (index) => {
        const module = layerModule(source, index, "block_sparse_moe");
        return layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, { index, choices: { bias: false, window } }),
          mlp: expertsOf(source, {
            ...choice,
            module,
            router: tensors.linear(`${module}.gate`, [choice.count, hidden]),
            expert: (expert) => ({
              gate: tensors.linear(`${expert}.w1`, [inner, hidden]),
              up: tensors.linear(`${expert}.w3`, [inner, hidden]),
              down: tensors.linear(`${expert}.w2`, [hidden, inner]),
            }),
          }),
        });
      },
    });
  },
};

/** Qwen3's attention; some layers have experts in place of the MLP. */
export const qwen3Moe: Family = {
  ...LLAMA_NAMES,
  classes: bothHeads("Qwen3Moe"),
  read(source) {
    const { fields, tensors } = source;
    const sizes = readSizes(fields, {
      hidden: 2048,
      inner: 6144,
      layers: 24,
      heads: 32,
      kvHeads: 4,
      headDim: null,
      maxPositions: 32_768,
      epsilon: 1e-6,
    });
    const { hidden } = sizes;
    const activation = readActivation(fields, "hidden_act", "silu");
    const bias = fields.flag("attention_bias", false);
    const inner = fields.count("moe_intermediate_size", 768);
    const normalise = fields.flag("norm_topk_prob", false);
    const choice = { ...readExperts(fields, { topK: 8, count: 128 }), normalise, activation };
    const sparse = sparseLayers(fields);
    const window = everyWindow(fields);
    return decoderOf(source, {
      sizes,
      tied: false,
      ropes: [readRope(fields, { ...sizes, theta: 10_000, partial: null })],
      layer: (index) => {
        const module = layerModule(source, index, "mlp");
        return layerOf({
          ...inputNorms(source, sizes, index),
          attention: attentionOf(source, sizes, {
            index,
            choices: { bias, window, norms: { over: "head" } },
          }),
          mlp: !sparse(index)
            ? gatedMlp(source, sizes, { index, activation })
            : expertsOf(source, {
                ...choice,
                module,
                router: tensors.linear(`${module}.gate`, [choice.count, hidden]),
                expert: (expert) => gatedParts(source, expert, { hidden, inner, bias: false }),
              }),
        });
      },
    });
  },
};

/** `num_local_experts` is stored by transformers 5, `num_experts` by files of Qwen; both mean the same. */
function readExperts(
  fields: Fields,
  absent: { topK: number; count: number },
): { topK: number; count: number } {
  const count = fields.pieces("num_local_experts", fields.pieces("num_experts", absent.count));
  if (fields.has("num_experts") && fields.pieces("num_experts", count) !== count) {
    throw fields.refused("num_experts", `num_local_experts says ${count}`);
  }
  const topK = fields.count("num_experts_per_tok", absent.topK);
  if (topK > count) throw fields.bad("num_experts_per_tok", `at most ${count}, the number of experts`);
  return { topK, count };
}

/** Experts are in every `decoder_sparse_step`-th layer that `mlp_only_layers` does not list. */
function sparseLayers(fields: Fields): (index: number) => boolean {
  const dense = fields.numbers("mlp_only_layers") ?? [];
  const step = fields.count("decoder_sparse_step", 1);
  return (index) => !dense.includes(index) && (index + 1) % step === 0;
}

/** Qwen3-MoE's window is on every layer; a list of layers with one is not read by transformers. */
function everyWindow(fields: Fields): number | null {
  const stated = fields.maybeCount("sliding_window", 4096);
  if (!fields.flag("use_sliding_window", false)) return null;
  if (fields.has("max_window_layers")) {
    throw fields.refused(
      "max_window_layers",
      "with use_sliding_window, transformers puts a window on every layer",
    );
  }
  return stated;
}

interface Experts {
  readonly module: string;
  readonly router: LinearSpec;
  readonly expert: (module: string) => { gate: LinearSpec; up: LinearSpec; down: LinearSpec };
  readonly count: number;
  readonly topK: number;
  readonly normalise: boolean;
  readonly activation: ReturnType<typeof readActivation>;
}

function expertsOf(
  { fields, tensors }: Source,
  { module, router, expert, count, topK, normalise, activation }: Experts,
) {
  for (const stacked of [`${module}.experts.gate_up_proj`, `${module}.experts.down_proj`]) {
    if (tensors.has(stacked)) {
      throw unsupported(
        fields.family,
        stacked,
        `${stacked} holds all experts in one tensor; experts are read from one tensor each.`,
      );
    }
  }
  return {
    form: "experts" as const,
    router,
    experts: Array.from({ length: count }, (_, index) => expert(`${module}.experts.${index}`)),
    topK,
    normalise,
    activation,
  };
}
