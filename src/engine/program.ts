import type { Dtype } from "../core/dtype.ts";
import type { NormOrder, SumOrder } from "../core/expr.ts";
import type { Node } from "./compile-graph.ts";

/*
 * A tile program: what is done for each tile of an output tensor, a run of its elements in row-major order. Whole values
 * are never in memory, but for those that are prepared once a tensor. Plain data, but for the nodes of prepared values.
 */

/**
 * Where a value lies beside the output. All its `count` elements stand for the output's elements from … from+length-1,
 * evenly (a column of m numbers beside an m×n output: each for n elements); of those it is needed for start … stop-1.
 */
export interface Span {
  readonly from: number;
  readonly length: number;
  readonly start: number;
  readonly stop: number;
}

/** What a step reads: the same tile of an earlier step, or the part of a prepared value that lies beside the tile. */
export type Operand =
  | { readonly kind: "step"; readonly step: number }
  | { readonly kind: "part"; readonly prepared: number; readonly span: Span; readonly count: number }
  | { readonly kind: "whole"; readonly prepared: number };

/** How an operand meets rows and columns: all elements, one a row, one a column (`whole`), or one in all (`whole`). */
export type Form = "tile" | "column" | "row" | "one";

/** A value that is computed once a tensor. */
export interface Prepared {
  readonly node: Node;
  /** `panels`: the right side of a product, packed for the kernels; `array`: for functions of core, as it is. */
  readonly layout: "values" | "panels" | "array";
  /** Stretched to this shape first. */
  readonly stretched: readonly number[] | null;
}

export type Operation =
  /** Elements of a stored tensor, widened. */
  | { readonly op: "read"; readonly leaf: string; readonly dtype: Dtype }
  | {
      readonly op: "add" | "sub" | "mul" | "div";
      readonly left: Operand;
      readonly right: Operand;
      readonly forms: readonly [Form, Form];
    }
  /** Times, or divided by, one number. */
  | { readonly op: "scale" | "over"; readonly of: Operand; readonly by: number }
  | { readonly op: "round" | "relu"; readonly of: Operand }
  /** rows × inner times panels. */
  | {
      readonly op: "matmul";
      readonly left: Operand;
      readonly right: Operand;
      readonly inner: number;
      readonly order: SumOrder;
    }
  /** Lengths of rows of `inner` elements. */
  | { readonly op: "norm"; readonly of: Operand; readonly inner: number; readonly order: NormOrder }
  /** Column j is column map[j] of a matrix with `inner` columns. */
  | { readonly op: "gather"; readonly of: Operand; readonly inner: number; readonly map: Uint32Array }
  /** Side by side; each with so many columns. */
  | { readonly op: "concat"; readonly parts: readonly Operand[]; readonly widths: readonly number[] }
  /** One below the other: the part whose range the tile lies in. */
  | { readonly op: "select"; readonly parts: readonly { operand: Operand; start: number; stop: number }[] }
  /** All elements of a prepared value over and over. */
  | { readonly op: "cycle"; readonly of: Operand; readonly period: number }
  | {
      readonly op: "kron";
      readonly left: Operand;
      readonly right: Operand;
      readonly leftCols: number;
      readonly rightRows: number;
      readonly rightCols: number;
    }
  | {
      readonly op: "set-rows";
      readonly of: Operand;
      readonly to: Operand;
      readonly targets: readonly number[];
    }
  /** A function of core; `shapes`: of the whole arguments. */
  | {
      readonly op: "call";
      readonly name: string;
      readonly args: readonly Operand[];
      readonly shapes: readonly (readonly number[])[];
      readonly params: Readonly<Record<string, number>>;
    };

/** One value of the program; every tile holds whole rows of it. */
export type Step = Operation & {
  readonly span: Span;
  /** Elements of the whole value. */
  readonly count: number;
  /** Rows of the whole value, each count/rows elements; as many as elements where rows do not matter. */
  readonly rows: number;
};

/** A run of output elements for which the same steps are done. */
export interface Segment {
  readonly start: number;
  readonly stop: number;
  /** Tiles are multiples of so many output elements. */
  readonly unit: number;
  /** Positions of the steps, in order. */
  readonly steps: readonly number[];
}

export interface TileProgram {
  /** Elements of the output. */
  readonly elements: number;
  readonly steps: readonly Step[];
  readonly prepared: readonly Prepared[];
  readonly result: Operand;
  readonly segments: readonly Segment[];
}

/** How many elements of a value lie beside so many output elements. */
export function beside(value: { readonly span: Span; readonly count: number }, elements: number): number {
  return value.span.length === 0 ? 0 : (elements * value.count) / value.span.length;
}

/** The operands of a step, in order. */
export function operandsOf(step: Operation): readonly Operand[] {
  switch (step.op) {
    case "read":
      return [];
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "matmul":
    case "kron":
      return [step.left, step.right];
    case "concat":
      return step.parts;
    case "select":
      return step.parts.map(({ operand }) => operand);
    case "set-rows":
      return [step.of, step.to];
    case "call":
      return step.args;
    default:
      return [step.of];
  }
}

/** The steps that are done for some tile. */
export function needed(program: TileProgram): Step[] {
  const positions = new Set(program.segments.flatMap(({ steps }) => steps));
  return [...positions].map((position) => program.steps[position]!);
}
