import type { LinearSpec } from "../../core/decoder/spec.ts";
import type { Layout } from "./graphs.ts";
import { addRow, type Matrix, matrix, multiplyRow, putColumns, rowsOf } from "./matrix.ts";
import type { Ops } from "./ops.ts";
import type { Side, WeightForm } from "./side.ts";
import type { LoadedTerm, Source, Weights } from "./weights.ts";

/** Elements of a weight that are in memory at once, as float32: 64 MB. */
const TILE_ELEMENTS = 16 * 2 ** 20;

/** One side's part in a product. */
interface Run {
  readonly index: number;
  readonly side: Side;
  readonly source: Source;
  /** Its input, DoRA's factor on the inputs included. */
  readonly x: Matrix;
  readonly terms: readonly (LoadedTerm & { readonly z: Matrix })[];
  /** DoRA's factor on the outputs. */
  readonly factor: Float32Array | null;
}

/** Some columns of the products of all sides; null where a side has no input. */
export type Slice = (start: number, parts: readonly (Matrix | null)[]) => Promise<void> | void;

/**
 * Linear layers of all sides in lockstep: a block of a weight is read once, multiplied with every side's input, and
 * dropped. The un-merged side adds its branches to the same product.
 */
export class Linears {
  readonly #sides: readonly Side[];
  readonly #ops: Ops;
  readonly #weights: Weights;

  constructor(sides: readonly Side[], ops: Ops, weights: Weights) {
    this.#sides = sides;
    this.#ops = ops;
    this.#weights = weights;
  }

  /** @param xs one input a side [tokens, in]; null or missing: the side takes no part */
  async apply(spec: LinearSpec, xs: readonly (Matrix | null)[]): Promise<(Matrix | null)[]> {
    const whole: (Matrix | null)[] = xs.map(() => null);
    const { slices, columns } = await this.#begin(spec, xs);
    await slices(columns, (start, parts) => {
      parts.forEach((part, i) => {
        if (part === null) return;
        if (part.cols === columns) whole[i] = part;
        else {
          whole[i] ??= matrix(part.rows, columns, this.#ops.scratch.take(part.rows * columns));
          putColumns(whole[i]!, start, part);
          this.#ops.give(part);
        }
      });
    });
    return whole;
  }

  /** The same in slices of at most so many columns, for products that are too large to exist whole. */
  async slices(
    spec: LinearSpec,
    xs: readonly (Matrix | null)[],
    { width, each }: { width: number; each: Slice },
  ) {
    const { slices } = await this.#begin(spec, xs);
    await slices(width, each);
  }

  /** How many columns the product has. */
  columns(spec: LinearSpec): number {
    const [side] = this.#sides;
    const { rows, cols } = this.#weights.source(formOf(side!, spec.weight), side!.name);
    return spec.layout === "out-in" ? rows : cols;
  }

  async #begin(spec: LinearSpec, xs: readonly (Matrix | null)[]) {
    const runs: Run[] = [];
    for (const [index, x] of xs.entries()) {
      if (x && x.rows > 0) runs.push(await this.#prepare(spec, index, x));
    }
    const empty = xs.map((x) => (x?.rows === 0 ? x : null));
    const [first] = runs;
    const columns = !first ? 0 : spec.layout === "out-in" ? first.source.rows : first.source.cols;
    const slices = async (width: number, each: Slice) => {
      const deepest = Math.max(1, Math.floor(TILE_ELEMENTS / (first?.x.cols ?? 1)));
      // A weight that is stored [in, out] has its columns everywhere: it is read whole.
      const step = spec.layout === "out-in" ? Math.min(width, deepest) : columns;
      for (let start = 0; start < columns; start += step) {
        const stop = Math.min(columns, start + step);
        const parts: (Matrix | null)[] = [...empty];
        for (const group of groupsOf(runs)) await this.#block(spec, group, { start, stop, parts });
        await each(start, parts);
      }
      for (const { terms } of runs) for (const { z } of terms) this.#ops.give(z);
    };
    return { slices, columns };
  }

  async #prepare(spec: LinearSpec, index: number, x: Matrix): Promise<Run> {
    const side = this.#sides[index]!;
    const form = formOf(side, spec.weight);
    const source = this.#weights.source(form, side.name);
    const outAlong = spec.layout === "out-in" ? "rows" : "columns";
    const branches = form.kind === "branches" ? form : null;
    const values = branches?.factor
      ? this.#weights.whole({ kind: "computed", task: branches.factor.task }, side.name)
      : null;
    const onInput = values !== null && branches!.factor!.along !== outAlong;
    const input = onInput ? matrix(x.rows, x.cols, x.data.slice()) : x;
    if (onInput) multiplyRow(input, values);
    const terms = [];
    for (const term of this.#weights.terms(branches?.terms ?? [], side.name)) {
      terms.push({ ...term, z: await this.#inner(spec.layout, input, { term, source }) });
    }
    return { index, side, source, x: input, terms, factor: onInput ? null : values };
  }

  /** The first product of a branch, [tokens, rank]. */
  async #inner(layout: Layout, x: Matrix, of: { term: LoadedTerm; source: Source }): Promise<Matrix> {
    const { term, source } = of;
    const weight =
      layout === "out-in"
        ? matrix(term.rank, source.cols, term.right)
        : matrix(source.rows, term.rank, term.left);
    return await this.#ops.linear(x, weight, { layout, halves: false });
  }

  /** One block of a weight, for the sides that share it. */
  async #block(
    spec: LinearSpec,
    group: readonly Run[],
    { start, stop, parts }: { start: number; stop: number; parts: (Matrix | null)[] },
  ): Promise<void> {
    const { source } = group[0]!;
    const { layout } = spec;
    const rows = layout === "out-in" ? stop - start : source.rows;
    const first = layout === "out-in" ? start : 0;
    const data = source.read(first, first + rows);
    for (const run of group) {
      const { side, x, terms, factor } = run;
      let y = await this.#ops.linear(x, matrix(rows, source.cols, data), {
        layout,
        halves: side.halves === true,
      });
      for (const { z, rank, left, right } of terms) {
        const outer =
          layout === "out-in"
            ? rowsOf(matrix(source.rows, rank, left), start, stop)
            : matrix(rank, source.cols, right);
        y = await this.#ops.addProduct(y, z, outer, layout);
      }
      if (factor) multiplyRow(y, factor.subarray(start, stop));
      if (spec.bias !== null)
        addRow(y, this.#weights.whole(formOf(side, spec.bias), side.name).subarray(start, stop));
      parts[run.index] = y;
    }
    source.done(data);
  }
}

function groupsOf(runs: readonly Run[]): Run[][] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const group = groups.get(run.source.key);
    if (group) group.push(run);
    else groups.set(run.source.key, [run]);
  }
  return [...groups.values()];
}

export function formOf(side: Side, role: string): WeightForm {
  const form = side.weights[role];
  if (!form) throw new Error(`${side.name} has no tensor for ${role}`);
  return form;
}
