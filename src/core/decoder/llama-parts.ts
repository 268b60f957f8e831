import type { Source } from "./family.ts";
import type { Fields } from "./fields.ts";
import { headOf, tiedTensors } from "./heads.ts";
import type {
  Activation,
  AttentionSpec,
  HeadSpec,
  LayerSpec,
  MlpSpec,
  ModelSpec,
  NormSpec,
  RopeSpec,
} from "./spec.ts";

/** Sizes of a decoder whose config has Llama's field names. */
export interface Sizes {
  readonly hidden: number;
  readonly inner: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly maxPositions: number;
  readonly epsilon: number;
}

/** What a family's config class says where the file says nothing. */
export interface SizeDefaults extends Omit<Sizes, "kvHeads" | "headDim"> {
  /** Null: as many as heads. */
  readonly kvHeads: number | null;
  /** Null: hidden / heads, which a null in the file asks for too. */
  readonly headDim: number | null;
}

/** @throws BAD_CONFIG for a size that is no count, or that does not divide */
export function readSizes(fields: Fields, defaults: SizeDefaults): Sizes {
  const hidden = fields.count("hidden_size", defaults.hidden);
  const heads = fields.count("num_attention_heads", defaults.heads);
  const kvHeads = fields.maybeCount("num_key_value_heads", defaults.kvHeads) ?? heads;
  if (heads % kvHeads !== 0) throw fields.bad("num_key_value_heads", `a divisor of ${heads} attention heads`);
  const stated =
    defaults.headDim === null
      ? fields.maybeCount("head_dim", null)
      : fields.count("head_dim", defaults.headDim);
  if (stated === null && hidden % heads !== 0) {
    throw fields.bad("hidden_size", `a multiple of ${heads} attention heads`);
  }
  return {
    hidden,
    inner: fields.count("intermediate_size", defaults.inner),
    layers: fields.pieces("num_hidden_layers", defaults.layers),
    heads,
    kvHeads,
    headDim: stated ?? hidden / heads,
    maxPositions: fields.count("max_position_embeddings", defaults.maxPositions),
    epsilon: fields.number("rms_norm_eps", defaults.epsilon),
  };
}

/** The name of a module of layer `index`. */
export function layerModule({ tensors }: Source, index: number, module: string): string {
  return `${tensors.prefix}layers.${index}.${module}`;
}

export interface AttentionChoices {
  /** On q, k and v. */
  readonly bias: boolean;
  /** On the output; as `bias` where left out. */
  readonly outBias?: boolean;
  /** Factor on q·kᵀ; 1 / √headDim where left out. */
  readonly scale?: number;
  /** Which of the model's ropes; null: none. 0 where left out. */
  readonly rope?: number | null;
  readonly window?: number | null;
  readonly softcap?: number | null;
  /** Norms of q and k; `plusOne` for Gemma's. */
  readonly norms?: { readonly over: "head" | "whole"; readonly plusOne?: boolean };
}

/** Attention with q_proj, k_proj, v_proj and o_proj. */
export function attentionOf(
  source: Source,
  sizes: Sizes,
  { index, choices }: { index: number; choices: AttentionChoices },
): AttentionSpec {
  const { hidden, heads, kvHeads, headDim } = sizes;
  const module = (name: string) => layerModule(source, index, `self_attn.${name}`);
  const linear = (name: string, rows: number) =>
    source.tensors.linear(module(name), [rows, hidden], choices.bias);
  const norm = (name: string, count: number) => {
    if (!choices.norms) return null;
    const { over, plusOne } = choices.norms;
    const width = over === "head" ? headDim : count * headDim;
    return { norm: source.tensors.rms(module(name), width, sizes.epsilon, plusOne ?? false), over };
  };
  return {
    ...attentionShape(sizes, choices),
    qkv: {
      form: "apart",
      q: linear("q_proj", heads * headDim),
      k: linear("k_proj", kvHeads * headDim),
      v: linear("v_proj", kvHeads * headDim),
    },
    out: source.tensors.linear(module("o_proj"), [hidden, heads * headDim], choices.outBias ?? choices.bias),
    qNorm: norm("q_norm", heads),
    kNorm: norm("k_norm", kvHeads),
  };
}

/** All of an attention that takes no tensors. */
export function attentionShape(
  { heads, kvHeads, headDim }: Pick<Sizes, "heads" | "kvHeads" | "headDim">,
  { scale, rope = 0, window = null, softcap = null }: Omit<AttentionChoices, "bias">,
  dims = headDim,
): Omit<AttentionSpec, "qkv" | "out" | "qNorm" | "kNorm"> {
  return {
    heads,
    kvHeads,
    headDim,
    rope: rope === null ? null : { table: rope, dims },
    scale: scale ?? headDim ** -0.5,
    softcap,
    window,
  };
}

export interface MlpChoices {
  readonly inner: number;
  readonly bias: boolean;
  readonly activation: Activation;
}

/** gate_proj, up_proj and down_proj in `module`. */
export function gatedParts(
  source: Source,
  module: string,
  { hidden, inner, bias }: { hidden: number; inner: number; bias: boolean },
) {
  return {
    gate: source.tensors.linear(`${module}.gate_proj`, [inner, hidden], bias),
    up: source.tensors.linear(`${module}.up_proj`, [inner, hidden], bias),
    down: source.tensors.linear(`${module}.down_proj`, [hidden, inner], bias),
  };
}

export function gatedMlp(
  source: Source,
  sizes: Sizes,
  { index, activation, bias = false }: { index: number; activation: Activation; bias?: boolean },
): MlpSpec {
  const parts = gatedParts(source, layerModule(source, index, "mlp"), {
    hidden: sizes.hidden,
    inner: sizes.inner,
    bias,
  });
  return { form: "gated", ...parts, activation };
}

const NO_NORMS = {
  attentionNorm: null,
  attentionOutNorm: null,
  afterAttentionNorm: null,
  mlpNorm: null,
  mlpOutNorm: null,
  afterMlpNorm: null,
  parallel: false,
  residualScale: 1,
} as const;

/** A layer with the norms it has. */
export function layerOf(parts: Pick<LayerSpec, "attention" | "mlp"> & Partial<LayerSpec>): LayerSpec {
  return { ...NO_NORMS, ...parts };
}

/** Norms on the inputs of attention and MLP, under Llama's names. */
export function inputNorms(source: Source, sizes: Sizes, index: number) {
  const norm = (name: string) =>
    source.tensors.rms(layerModule(source, index, name), sizes.hidden, sizes.epsilon);
  return { attentionNorm: norm("input_layernorm"), mlpNorm: norm("post_attention_layernorm") };
}

export interface ModelParts {
  readonly sizes: Sizes;
  readonly ropes: readonly RopeSpec[];
  readonly layer: (index: number) => LayerSpec;
  /** `tie_word_embeddings` where the file leaves it out. */
  readonly tied: boolean;
  /** Factor on the embedding's rows. */
  readonly embeddingScale?: number;
  /** Gemma's final norm adds 1. */
  readonly plusOne?: boolean;
  readonly head?: Partial<Pick<HeadSpec & { form: "vocabulary" }, "scale" | "softcap">>;
}

/** A decoder with Llama's names for embedding, final norm and head. */
export function decoderOf(source: Source, parts: ModelParts): ModelSpec {
  const { fields, tensors } = source;
  const { sizes } = parts;
  const pair = tiedTensors(source, {
    embedding: `${tensors.prefix}embed_tokens.weight`,
    head: `${tensors.headPrefix}lm_head.weight`,
    hidden: sizes.hidden,
    tied: fields.flag("tie_word_embeddings", parts.tied),
  });
  const finalNorm: NormSpec = tensors.rms(
    `${tensors.prefix}norm`,
    sizes.hidden,
    sizes.epsilon,
    parts.plusOne ?? false,
  );
  return {
    family: fields.family,
    direction: "decoder",
    hidden: sizes.hidden,
    embedding: {
      tokens: pair.embedding,
      positions: null,
      segments: null,
      norm: null,
      scale: parts.embeddingScale ?? 1,
    },
    layers: Array.from({ length: sizes.layers }, (_, index) => parts.layer(index)),
    finalNorm,
    head: headOf(source, { hidden: sizes.hidden, head: pair.head, ...parts.head }),
    ropes: parts.ropes,
    maxPositions: sizes.maxPositions,
  };
}

/** Whether each layer sees a window of its past only; by `layer_types`, or as the family's class would fill it in. */
export function readWindows(
  fields: Fields,
  {
    layers,
    window,
    byDefault,
  }: { layers: number; window: number | null; byDefault: (index: number) => boolean },
): (number | null)[] {
  const types = fields.texts("layer_types");
  if (types && types.length !== layers) throw fields.bad("layer_types", `a list of ${layers} texts`);
  return Array.from({ length: layers }, (_, index) => {
    const type = types?.[index] ?? (byDefault(index) ? "sliding_attention" : "full_attention");
    if (type === "full_attention") return null;
    if (type !== "sliding_attention") {
      throw fields.refused("layer_types", `"${type}" is no kind of attention that is known here`);
    }
    if (window === null) {
      throw fields.refused("layer_types", "it asks for a window, and sliding_window gives none");
    }
    return window;
  });
}
