import type { Activation, NormSpec } from "../../core/decoder/spec.ts";
import type { Fed, Sessions } from "../onnx-session.ts";
import {
  type AttentionShape,
  activationGraph,
  addProductGraph,
  attentionGraph,
  halvesGraph,
  type Layout,
  layerNormGraph,
  linearGraph,
  logitsGraph,
  rmsNormGraph,
  ropeGraph,
} from "./graphs.ts";
import { type Matrix, matrix } from "./matrix.ts";
import type { Scratch } from "./scratch.ts";

const fed = ({ rows, cols, data }: Matrix): Fed => ({ values: data, shape: [rows, cols] });
const row = (values: Float32Array): Fed => ({ values, shape: [values.length] });

/** cos and sin of every token's angles, [tokens, dims/2]. */
export interface Angles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** The operations of a forward pass on one device. Results lie in scratch memory; whoever is done with one gives it back. */
export class Ops {
  readonly #sessions: Sessions;
  readonly scratch: Scratch;

  constructor(sessions: Sessions, scratch: Scratch) {
    this.#sessions = sessions;
    this.scratch = scratch;
  }

  /** x·Wᵀ ("out-in") or x·W ("in-out"). `halves`: summed in two halves. */
  async linear(
    x: Matrix,
    weight: Matrix,
    { layout, halves }: { layout: Layout; halves: boolean },
  ): Promise<Matrix> {
    const graph = halves && x.cols > 1 ? halvesGraph(layout, x.cols) : linearGraph(layout);
    const out = layout === "out-in" ? weight.rows : weight.cols;
    return await this.#run(graph, [fed(x), fed(weight)], x.rows, out);
  }

  /** y + z·Wᵀ or y + z·W, in a new matrix; y is given back. */
  async addProduct(y: Matrix, z: Matrix, weight: Matrix, layout: Layout): Promise<Matrix> {
    const sum = await this.#run(addProductGraph(layout), [fed(y), fed(z), fed(weight)], y.rows, y.cols);
    this.give(y);
    return sum;
  }

  async norm(
    x: Matrix,
    spec: NormSpec,
    values: { weight: Float32Array; bias: Float32Array },
  ): Promise<Matrix> {
    const { weight, bias } = values;
    if (spec.kind === "rms")
      return await this.#run(rmsNormGraph(spec.epsilon), [fed(x), row(weight)], x.rows, x.cols);
    return await this.#run(layerNormGraph(spec.epsilon), [fed(x), row(weight), row(bias)], x.rows, x.cols);
  }

  async rope(
    x: Matrix,
    { cos, sin }: Angles,
    { heads, dims }: { heads: number; dims: number },
  ): Promise<Matrix> {
    const width = x.cols / heads;
    const shape = [x.rows, 1, dims / 2];
    const feeds = [
      { values: x.data, shape: [x.rows, heads, width] },
      { values: cos, shape },
      { values: sin, shape },
    ];
    const data = this.scratch.take(x.data.length);
    await this.#sessions.run(ropeGraph(heads, width, dims), feeds, {
      values: data,
      shape: [x.rows, heads, width],
    });
    return matrix(x.rows, x.cols, data);
  }

  async attend(
    shape: AttentionShape,
    { q, k, v, mask }: Record<"q" | "k" | "v" | "mask", Matrix>,
  ): Promise<Matrix> {
    return await this.#run(attentionGraph(shape), [fed(q), fed(k), fed(v), fed(mask)], q.rows, q.cols);
  }

  async activate(x: Matrix, activation: Activation): Promise<Matrix> {
    return await this.#run(activationGraph(activation, false), [fed(x)], x.rows, x.cols);
  }

  /** act(gate) · up; both are given back. */
  async gate(gate: Matrix, up: Matrix, activation: Activation): Promise<Matrix> {
    const made = await this.#run(
      activationGraph(activation, true),
      [fed(gate), fed(up)],
      gate.rows,
      gate.cols,
    );
    this.give(gate);
    this.give(up);
    return made;
  }

  /** scale · x, softly capped; x itself where nothing is to be done, else x is given back. */
  async logits(x: Matrix, { scale, softcap }: { scale: number; softcap: number | null }): Promise<Matrix> {
    if (scale === 1 && softcap === null) return x;
    const made = await this.#run(logitsGraph(scale, softcap), [fed(x)], x.rows, x.cols);
    this.give(x);
    return made;
  }

  give({ data }: Matrix): void {
    this.scratch.give(data);
  }

  async #run(
    model: Uint8Array<ArrayBuffer>,
    feeds: readonly Fed[],
    rows: number,
    cols: number,
  ): Promise<Matrix> {
    const data = this.scratch.take(rows * cols);
    await this.#sessions.run(model, feeds, { values: data, shape: [rows, cols] });
    return matrix(rows, cols, data);
  }
}
