/**
 * A language model's forward pass as data: what each layer computes, and the names of the tensors it takes. Read from a
 * config.json and the names in a checkpoint by `read.ts`; run by `engine/forward`. Plain data: it travels to another
 * process. Names are those of the checkpoint's files.
 */
export interface ModelSpec {
  /** `model_type`, for people. */
  readonly family: string;
  /** Decoders see the past only; encoders see the whole text. */
  readonly direction: "decoder" | "encoder";
  /** Width of the hidden state. */
  readonly hidden: number;
  readonly embedding: EmbeddingSpec;
  readonly layers: readonly LayerSpec[];
  readonly finalNorm: NormSpec | null;
  readonly head: HeadSpec;
  /** What the layers' `rope.table` points at. */
  readonly ropes: readonly RopeSpec[];
  /** The longest sequence that the model is made for, in tokens; null where the config says nothing. */
  readonly maxPositions: number | null;
}

export interface EmbeddingSpec {
  /** [vocabulary, hidden] */
  readonly tokens: string;
  /** Learned positions [positions, hidden], added; row `position + offset`. */
  readonly positions: { readonly tensor: string; readonly offset: number } | null;
  /** BERT's segments [types, hidden]: row 0 is added, as for texts without a second part. */
  readonly segments: string | null;
  readonly norm: NormSpec | null;
  /** Factor on the token rows, in float32. */
  readonly scale: number;
}

/** "rms": x / √(mean(x²) + ε) · w; "layer": (x − mean) / √(var + ε) · w + b. */
export interface NormSpec {
  readonly kind: "rms" | "layer";
  /** Null: no weight. */
  readonly weight: string | null;
  readonly bias: string | null;
  readonly epsilon: number;
  /** Gemma stores w − 1. */
  readonly plusOne: boolean;
}

/** y = x·Wᵀ + b. */
export interface LinearSpec {
  readonly weight: string;
  readonly bias: string | null;
  /** "out-in": W is stored [out, in]; "in-out": transformers' Conv1D, stored [in, out]. */
  readonly layout: "out-in" | "in-out";
}

export interface LayerSpec {
  readonly attention: AttentionSpec;
  readonly mlp: MlpSpec;
  /** On the input of attention. */
  readonly attentionNorm: NormSpec | null;
  /** On the output of attention, before it is added. */
  readonly attentionOutNorm: NormSpec | null;
  /** On the sum after attention (BERT). */
  readonly afterAttentionNorm: NormSpec | null;
  readonly mlpNorm: NormSpec | null;
  readonly mlpOutNorm: NormSpec | null;
  /** On the sum after the MLP (BERT). */
  readonly afterMlpNorm: NormSpec | null;
  /** GPT-NeoX: the MLP reads the layer's input beside attention, and both are added. */
  readonly parallel: boolean;
  /** Factor on what is added to the residual. */
  readonly residualScale: number;
}

export interface AttentionSpec {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly qkv:
    | { readonly form: "apart"; readonly q: LinearSpec; readonly k: LinearSpec; readonly v: LinearSpec }
    /** "rows": all q, then all k, then all v; "heads": q, k and v of each head in turn (GPT-NeoX). */
    | { readonly form: "fused"; readonly linear: LinearSpec; readonly order: "rows" | "heads" };
  readonly out: LinearSpec;
  /** "head": over each head's own width; "whole": over all heads together (OLMo 2). */
  readonly qNorm: { readonly norm: NormSpec; readonly over: "head" | "whole" } | null;
  readonly kNorm: { readonly norm: NormSpec; readonly over: "head" | "whole" } | null;
  /** Rotates the first `dims` of each head, halves apart. Null: no rotation. */
  readonly rope: { readonly table: number; readonly dims: number } | null;
  /** Factor on q·kᵀ. */
  readonly scale: number;
  /** c·tanh(score / c). */
  readonly softcap: number | null;
  /** Keys that a query sees, itself included; null: all before it. */
  readonly window: number | null;
}

export type Activation = "silu" | "gelu" | "gelu_tanh" | "relu" | "tanh" | "relu2";

export type MlpSpec =
  /** down(act(gate(x)) · up(x)) */
  | {
      readonly form: "gated";
      readonly gate: LinearSpec;
      readonly up: LinearSpec;
      readonly down: LinearSpec;
      readonly activation: Activation;
    }
  /** As gated, with gate over up in one matrix. */
  | {
      readonly form: "gated-fused";
      readonly gateUp: LinearSpec;
      readonly down: LinearSpec;
      readonly activation: Activation;
    }
  /** down(act(up(x))) */
  | {
      readonly form: "plain";
      readonly up: LinearSpec;
      readonly down: LinearSpec;
      readonly activation: Activation;
    }
  /** Σ over the topK largest of softmax(router(x)) of weight · expert(x). */
  | {
      readonly form: "experts";
      readonly router: LinearSpec;
      readonly experts: readonly {
        readonly gate: LinearSpec;
        readonly up: LinearSpec;
        readonly down: LinearSpec;
      }[];
      readonly topK: number;
      /** The topK weights are divided by their sum. */
      readonly normalise: boolean;
      readonly activation: Activation;
    };

export type HeadSpec =
  /** Logits over the vocabulary at every position: x·Wᵀ + b, times `scale`, then c·tanh(l / c). */
  | {
      readonly form: "vocabulary";
      readonly linear: LinearSpec;
      readonly scale: number;
      readonly softcap: number | null;
    }
  /**
   * One row of logits for each sequence: the score head at the last position that is no padding. transformers takes the
   * last token that is not `padToken`, so a text that ends in it is read one earlier; null: the last token.
   */
  | { readonly form: "last-token"; readonly linear: LinearSpec; readonly padToken: number | null }
  /** One row for each sequence: tanh(pooler(x at position 0)), then the classifier. */
  | { readonly form: "pooled"; readonly pooler: LinearSpec; readonly linear: LinearSpec };

/**
 * How positions become angles; see `rope.ts`. All inverse frequencies are float32, as transformers computes them.
 */
export interface RopeSpec {
  readonly type: "default" | "linear" | "dynamic" | "yarn" | "llama3" | "longrope";
  readonly theta: number;
  /** Width of a head that is rotated. */
  readonly dims: number;
  readonly maxPositions: number;
  /** The other fields of `rope_parameters`, checked for the type. */
  readonly factor: number | null;
  readonly originalMaxPositions: number | null;
  readonly attentionFactor: number | null;
  readonly betaFast: number | null;
  readonly betaSlow: number | null;
  readonly mscale: number | null;
  readonly mscaleAllDim: number | null;
  readonly truncate: boolean | null;
  readonly lowFreqFactor: number | null;
  readonly highFreqFactor: number | null;
  readonly shortFactor: readonly number[] | null;
  readonly longFactor: readonly number[] | null;
}
