import type { LayerSpec, ModelSpec, NormSpec } from "../../core/decoder/spec.ts";
import { Attention } from "./attention.ts";
import type { Batch } from "./batch.ts";
import type { KeyValueCache } from "./cache.ts";
import { embed } from "./embedding.ts";
import { Linears } from "./linear.ts";
import { addScaled, type Matrix, matrix } from "./matrix.ts";
import { Mlps } from "./mlp.ts";
import { Norms } from "./norms.ts";
import type { Ops } from "./ops.ts";
import type { Side } from "./side.ts";
import type { Weights } from "./weights.ts";

export interface ForwardParts {
  /** With tensors named by their roles. */
  readonly model: ModelSpec;
  readonly sides: readonly Side[];
  readonly ops: Ops;
  readonly weights: Weights;
}

export interface ForwardRun {
  readonly batch: Batch;
  /** How many of the batch's documents each side runs, from the first on. */
  readonly documents: readonly number[];
  readonly cache?: KeyValueCache;
  /** Sees the hidden states of all sides: "embedding", "layer 0", …, "final norm". Must not keep them. */
  readonly seen?: (name: string, hidden: readonly Matrix[]) => void;
  /** Called between layers; throws when the work is no longer wanted. */
  readonly between?: (layer: number) => Promise<void> | void;
}

/** Runs all sides through the model together, layer by layer. */
export class Forward {
  readonly model: ModelSpec;
  readonly linears: Linears;
  readonly norms: Norms;
  readonly ops: Ops;
  readonly #parts: ForwardParts;
  readonly #attention: Attention;
  readonly #mlps: Mlps;

  constructor(parts: ForwardParts) {
    const { model, sides, ops, weights } = parts;
    this.#parts = parts;
    this.model = model;
    this.ops = ops;
    this.linears = new Linears(sides, ops, weights);
    this.norms = new Norms(sides, ops, weights);
    this.#attention = new Attention({ model, linears: this.linears, norms: this.norms, ops });
    this.#mlps = new Mlps(this.linears, ops);
  }

  /** How many sides run. */
  get sides(): number {
    return this.#parts.sides.length;
  }

  /** The hidden states after the last norm, one matrix [tokens, hidden] a side. */
  async run({ batch, documents, cache, seen, between }: ForwardRun): Promise<Matrix[]> {
    const { sides, weights } = this.#parts;
    const rows = documents.map((count) => batch.rows(count));
    const parts = { sides, weights, norms: this.norms, ops: this.ops };
    let hidden = await embed(this.model.embedding, { batch, rows, parts });
    seen?.("embedding", hidden);
    for (const [index, layer] of this.model.layers.entries()) {
      await between?.(index);
      hidden = await this.#layer(layer, hidden, { batch, layer: index, cache: cache ?? null });
      seen?.(`layer ${index}`, hidden);
    }
    if (this.model.finalNorm) {
      hidden = await this.#replaced(this.model.finalNorm, hidden);
      seen?.("final norm", hidden);
    }
    return hidden;
  }

  async #layer(
    spec: LayerSpec,
    hidden: Matrix[],
    at: { batch: Batch; layer: number; cache: KeyValueCache | null },
  ): Promise<Matrix[]> {
    const { residualScale, parallel } = spec;
    const normed = await this.#normed(spec.attentionNorm, hidden);
    let attended = await this.#attention.run(spec.attention, normed, at);
    this.#giveAll(normed);
    attended = await this.#replaced(spec.attentionOutNorm, attended);
    // In parallel layers the MLP reads what attention read.
    const before = parallel ? hidden.map((x) => matrix(x.rows, x.cols, x.data.slice())) : null;
    this.#added(hidden, attended, residualScale);
    const between = await this.#replaced(spec.afterAttentionNorm, hidden);
    const inputs = await this.#normed(spec.mlpNorm, before ?? between);
    let made = (await this.#mlps.run(spec.mlp, inputs)) as Matrix[];
    this.#giveAll(inputs);
    made = await this.#replaced(spec.mlpOutNorm, made);
    this.#added(between, made, residualScale);
    return await this.#replaced(spec.afterMlpNorm, between);
  }

  /** New matrices: of a layer without a norm, copies. */
  async #normed(norm: NormSpec | null, xs: readonly Matrix[]): Promise<Matrix[]> {
    return norm ? await this.norms.apply(norm, xs) : xs.map((x) => matrix(x.rows, x.cols, x.data.slice()));
  }

  async #replaced(norm: NormSpec | null, xs: Matrix[]): Promise<Matrix[]> {
    if (!norm) return xs;
    const normed = await this.norms.apply(norm, xs);
    this.#giveAll(xs);
    return normed;
  }

  #added(to: readonly Matrix[], parts: readonly Matrix[], scale: number): void {
    to.forEach((x, i) => {
      addScaled(x, parts[i]!, scale);
    });
    this.#giveAll(parts);
  }

  #giveAll(xs: readonly Matrix[]): void {
    for (const x of xs) this.ops.give(x);
  }
}
