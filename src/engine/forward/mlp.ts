import type { MlpSpec } from "../../core/decoder/spec.ts";
import type { Linears } from "./linear.ts";
import { columnsOf, type Matrix, matrix } from "./matrix.ts";
import type { Ops } from "./ops.ts";

type Inputs = readonly (Matrix | null)[];
type Experts = Extract<MlpSpec, { form: "experts" }>;

/** The layers between attentions, of all sides. */
export class Mlps {
  readonly #linears: Linears;
  readonly #ops: Ops;

  constructor(linears: Linears, ops: Ops) {
    this.#linears = linears;
    this.#ops = ops;
  }

  async run(spec: MlpSpec, xs: Inputs): Promise<(Matrix | null)[]> {
    if (spec.form === "experts") return await this.#experts(spec, xs as Matrix[]);
    const inner = await this.#inner(spec, xs);
    const made = await this.#linears.apply(spec.down, inner);
    for (const one of inner) if (one) this.#ops.give(one);
    return made;
  }

  async #inner(spec: Exclude<MlpSpec, Experts>, xs: Inputs): Promise<(Matrix | null)[]> {
    const { activation } = spec;
    if (spec.form === "plain") {
      const up = await this.#linears.apply(spec.up, xs);
      return await each(up, async (x) => {
        const made = await this.#ops.activate(x, activation);
        this.#ops.give(x);
        return made;
      });
    }
    const [gates, ups] = spec.form === "gated" ? await this.#apart(spec, xs) : await this.#fused(spec, xs);
    return await each(gates, (gate, i) => this.#ops.gate(gate, ups[i]!, activation));
  }

  async #apart(spec: Extract<MlpSpec, { form: "gated" }>, xs: Inputs) {
    return [await this.#linears.apply(spec.gate, xs), await this.#linears.apply(spec.up, xs)] as const;
  }

  async #fused(spec: Extract<MlpSpec, { form: "gated-fused" }>, xs: Inputs) {
    const both = await this.#linears.apply(spec.gateUp, xs);
    const half = (x: Matrix | null, part: 0 | 1) =>
      x && columnsOf(x, (part * x.cols) / 2, ((part + 1) * x.cols) / 2);
    const parts = [both.map((x) => half(x, 0)), both.map((x) => half(x, 1))] as const;
    for (const x of both) if (x) this.#ops.give(x);
    return parts;
  }

  /** Every expert sees the tokens that chose it; what it gives is added with the token's weight. */
  async #experts(spec: Experts, xs: readonly Matrix[]): Promise<Matrix[]> {
    const routed = await this.#linears.apply(spec.router, xs);
    const choices = routed.map((logits) => choose(logits!, spec));
    const sums = xs.map((x) => matrix(x.rows, x.cols));
    for (const [index, expert] of spec.experts.entries()) {
      const chosen = choices.map((choice) => choice[index]!);
      const parts = xs.map((x, side) => gathered(x, chosen[side]!.tokens));
      const form = { form: "gated", ...expert, activation: spec.activation } as const;
      const made = await this.run(form, parts);
      made.forEach((part, side) => {
        if (!part) return;
        addRows(sums[side]!, part, chosen[side]!);
        if (part.rows > 0) this.#ops.give(part);
      });
    }
    return sums;
  }
}

async function each(
  xs: Inputs,
  make: (x: Matrix, index: number) => Promise<Matrix>,
): Promise<(Matrix | null)[]> {
  const made: (Matrix | null)[] = [];
  for (const [i, x] of xs.entries()) made.push(x && x.rows > 0 ? await make(x, i) : x);
  return made;
}

interface Chosen {
  readonly tokens: number[];
  readonly weights: number[];
}

/** For each expert its tokens: softmax over all experts in float32, the topK largest, the first of equals first. */
function choose({ rows, cols, data }: Matrix, { topK, normalise }: Experts): Chosen[] {
  const chosen = Array.from({ length: cols }, (): Chosen => ({ tokens: [], weights: [] }));
  for (let row = 0; row < rows; row++) {
    const shares = softmax(data.subarray(row * cols, (row + 1) * cols));
    const order = Array.from(shares.keys()).sort((a, b) => shares[b]! - shares[a]! || a - b);
    const best = order.slice(0, topK);
    const sum = best.reduce((total, expert) => Math.fround(total + shares[expert]!), 0);
    for (const expert of best) {
      chosen[expert]!.tokens.push(row);
      chosen[expert]!.weights.push(normalise ? Math.fround(shares[expert]! / sum) : shares[expert]!);
    }
  }
  return chosen;
}

function softmax(logits: Float32Array): Float32Array {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = logits.map((value) => Math.exp(value - max));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

function gathered(x: Matrix, tokens: readonly number[]): Matrix {
  const made = matrix(tokens.length, x.cols);
  tokens.forEach((token, i) => {
    made.data.set(x.data.subarray(token * x.cols, (token + 1) * x.cols), i * x.cols);
  });
  return made;
}

function addRows(to: Matrix, part: Matrix, { tokens, weights }: Chosen): void {
  const { cols } = to;
  tokens.forEach((token, i) => {
    const weight = weights[i]!;
    for (let j = 0; j < cols; j++) {
      to.data[token * cols + j]! += Math.fround(part.data[i * cols + j]! * weight);
    }
  });
}
