import type { NormSpec } from "../../core/decoder/spec.ts";
import { formOf } from "./linear.ts";
import type { Matrix } from "./matrix.ts";
import type { Ops } from "./ops.ts";
import type { Side } from "./side.ts";
import type { Weights } from "./weights.ts";

/** Norms of all sides; their weights are small and may differ from side to side. */
export class Norms {
  readonly #sides: readonly Side[];
  readonly #ops: Ops;
  readonly #weights: Weights;

  constructor(sides: readonly Side[], ops: Ops, weights: Weights) {
    this.#sides = sides;
    this.#ops = ops;
    this.#weights = weights;
  }

  /** New matrices; where there is no norm, copies. */
  async apply(spec: NormSpec, xs: readonly Matrix[]): Promise<Matrix[]> {
    const normed: Matrix[] = [];
    for (const [side, x] of xs.entries()) normed.push(await this.one(spec, x, side));
    return normed;
  }

  async one(spec: NormSpec, x: Matrix, side: number): Promise<Matrix> {
    return await this.#ops.norm(x, spec, this.#values(spec, x.cols, side));
  }

  /** How many numbers a norm takes at a time. */
  width(spec: NormSpec, side: number): number {
    if (spec.weight === null) throw new Error("a norm over heads has a weight");
    return this.#weights.whole(formOf(this.#sides[side]!, spec.weight), this.#sides[side]!.name).length;
  }

  #values({ weight, bias, plusOne }: NormSpec, width: number, index: number) {
    const side = this.#sides[index]!;
    const whole = (role: string) => this.#weights.whole(formOf(side, role), side.name);
    const stored = weight === null ? new Float32Array(width).fill(plusOne ? 0 : 1) : whole(weight);
    return {
      weight: plusOne ? stored.map((value) => 1 + value) : stored,
      bias: bias === null ? new Float32Array(width) : whole(bias),
    };
  }
}
