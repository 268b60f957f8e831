import { type Dtype, MERGEABLE_DTYPES } from "../core/dtype.ts";
import { leafKey } from "../core/expr.ts";
import { FUNCTIONS } from "../core/functions.ts";
import { gatherOf, isColumnKron, leadingRows } from "./compile-columns.ts";
import { formOf } from "./compile-forms.ts";
import type { Node } from "./compile-graph.ts";
import { segmentsOf } from "./compile-segments.ts";
import type { Form, Operand, Operation, Prepared, Span, Step, TileProgram } from "./program.ts";

/** A value that reads no base tensor is kept whole below this size, whatever the output's. */
const PREPARED_ELEMENTS = 2 ** 22;
/** Stored tensors of an adapter are read tile by tile above this. */
const READ_ELEMENTS = 2 ** 20;

export interface Compilation {
  readonly root: Node;
  /** Storage types of the leaves by `leafKey`. */
  readonly dtypes: ReadonlyMap<string, Dtype>;
  /** float64 on the way: every stored number fits. */
  readonly exact: boolean;
  /** Tiles are multiples of so many elements; default 1. */
  readonly unit?: number;
}

const NARROW: ReadonlySet<Dtype> = new Set([
  ...MERGEABLE_DTYPES,
  ...(["F8_E4M3", "F8_E5M2", "BOOL", "U8", "I8", "I16"] as const),
]);

/** Whether all numbers of a storage type are float32 numbers. */
export function isNarrow(dtype: Dtype): boolean {
  return NARROW.has(dtype);
}

/** Whether a program keeps its result in memory as a whole. */
export function isWhole({ result }: TileProgram): boolean {
  return result.kind !== "step";
}

/**
 * The program that computes a node tile by tile. What cannot be is prepared as a whole: in the worst case all of it.
 */
export function compile(compilation: Compilation): TileProgram {
  const { root } = compilation;
  const span: Span = { from: 0, length: root.count, start: 0, stop: root.count };
  const compiler = new Compiler(compilation);
  const streamed = root.count > 0 ? compiler.step(root, span) : null;
  const program = streamed === null ? null : compiler.program({ kind: "step", step: streamed });
  return program ?? wholeProgram(root);
}

/** The root alone, prepared. */
function wholeProgram(root: Node): TileProgram {
  const span: Span = { from: 0, length: root.count, start: 0, stop: root.count };
  return {
    elements: root.count,
    steps: [],
    prepared: [{ node: root, layout: "values", stretched: null }],
    result: { kind: "part", prepared: 0, span, count: root.count },
    segments: root.count > 0 ? [{ start: 0, stop: root.count, unit: 1, steps: [] }] : [],
  };
}

class Compiler {
  readonly #of: Compilation;
  #steps: Step[] = [];
  #prepared: Prepared[] = [];
  readonly #known = new Map<string, { node: Node; operand: Operand | null }[]>();
  readonly #wide = new Map<Node, boolean>();

  constructor(compilation: Compilation) {
    this.#of = compilation;
  }

  program(result: Operand): TileProgram | null {
    const segments = segmentsOf(this.#steps, result, this.#of.unit ?? 1);
    if (!segments) return null;
    return {
      elements: this.#of.root.count,
      steps: this.#steps,
      prepared: this.#prepared,
      result,
      segments,
    };
  }

  /** A value tile by tile, computed so or as a part of a prepared one; null where neither is possible. */
  #moving(node: Node, span: Span): Operand | null {
    const key = `${span.from} ${span.length} ${span.start} ${span.stop}`;
    const entries = this.#known.get(key) ?? [];
    this.#known.set(key, entries);
    const known = entries.find((entry) => entry.node === node);
    if (known) return known.operand;
    let operand: Operand | null = null;
    if (this.#prefersSteps(node)) {
      const step = this.step(node, span);
      if (step !== null) operand = { kind: "step", step };
    }
    if (!operand && !this.#isWide(node)) {
      operand = { kind: "part", prepared: this.#prepare(node, "values"), span, count: node.count };
    }
    entries.push({ node, operand });
    return operand;
  }

  #prefersSteps(node: Node): boolean {
    if (node.readsBase) return true;
    if (node.expr.op === "source") return node.count > READ_ELEMENTS;
    return node.count * 4 > this.#of.root.count || node.count > PREPARED_ELEMENTS;
  }

  /** Position of the step that computes a value tile by tile; null where there is none, and nothing is left behind. */
  step(node: Node, span: Span): number | null {
    const before = { steps: this.#steps.length, prepared: this.#prepared.length };
    const made = this.#operation(node, span);
    if (made === null) {
      this.#forget(before);
      return null;
    }
    if (typeof made === "number") return made;
    this.#steps.push({ ...made.operation, span, count: node.count, rows: made.rows } as Step);
    return this.#steps.length - 1;
  }

  /** Drops what a failed attempt added; what refers to it is dropped too. */
  #forget(before: { steps: number; prepared: number }): void {
    this.#steps = this.#steps.slice(0, before.steps);
    this.#prepared = this.#prepared.slice(0, before.prepared);
    for (const [key, entries] of this.#known) {
      const kept = entries.filter(({ operand }) => operand && refersBelow(operand, before));
      this.#known.set(key, kept);
    }
  }

  #operation(node: Node, span: Span): { operation: Operation; rows: number } | number | null {
    const { expr, args, shape, count } = node;
    const flat = (operation: Operation) => ({ operation, rows: count });
    switch (expr.op) {
      case "base":
      case "source": {
        const key = leafKey(expr);
        const dtype = this.#of.dtypes.get(key)!;
        return isNarrow(dtype) ? flat({ op: "read", leaf: key, dtype }) : null;
      }
      case "add":
      case "sub":
      case "mul":
      case "div":
        return this.#binary(node, span);
      case "scale":
      case "over": {
        const of = this.#moving(args[0]!, span);
        return of && flat({ op: expr.op, of, by: expr.by });
      }
      case "round":
      case "relu": {
        const of = this.#moving(args[0]!, span);
        return of && flat({ op: expr.op, of });
      }
      case "reshape": {
        const of = this.#moving(args[0]!, span);
        if (!of) return null;
        return of.kind === "step"
          ? of.step
          : this.#select(node, [{ operand: of, start: span.start, stop: span.stop }]);
      }
      case "matmul":
        return this.#matmul(node, span);
      case "norm": {
        const inner = args[0]!.shape[1]!;
        const of = expr.axis === 1 ? this.#moving(args[0]!, span) : null;
        return of && { operation: { op: "norm", of, inner, order: expr.order }, rows: shape[0]! };
      }
      case "kron":
        return this.#kron(node);
      case "set-rows": {
        const of = this.#moving(args[0]!, span);
        const to = this.#whole(args[1]!, "values");
        return of && to && { operation: { op: "set-rows", of, to, targets: expr.rows }, rows: shape[0]! };
      }
      case "call":
        return this.#call(node, span);
      case "concat":
        return leadingRows(shape, expr.axis) === 1 ? this.#below(node, span) : this.#beside(node, span);
      case "slice":
        if (leadingRows(shape, expr.axis) === 1) return this.#sliceRows(node, span);
        return this.#gather(node, span);
      case "repeat": {
        if (leadingRows(shape, expr.axis) > 1) return this.#gather(node, span);
        const of = this.#whole(args[0]!, "values");
        return of && flat({ op: "cycle", of, period: args[0]!.count });
      }
      case "permute":
        return this.#gather(node, span);
    }
  }

  #select(node: Node, parts: readonly { operand: Operand; start: number; stop: number }[]) {
    return { operation: { op: "select", parts } as const, rows: node.count };
  }

  #binary(node: Node, span: Span) {
    const { expr, args, shape, count } = node;
    let [left, right] = args.map((arg) => formOf(arg, shape)) as [
      ReturnType<typeof formOf>,
      ReturnType<typeof formOf>,
    ];
    const column = [left, right].find(({ form }) => form === "column");
    // A row vector beside a column needs as many columns as the column leaves room for.
    const fits = (of: typeof left) => of.form !== "row" || !column || of.length * column.length === count;
    if (!fits(left)) left = { form: "tile", length: count, stretched: shape };
    if (!fits(right)) right = { form: "tile", length: count, stretched: shape };
    const row = [left, right].find(({ form }) => form === "row");
    const operands = [left, right].map(({ form, stretched }, i) => {
      const arg = args[i]!;
      if (stretched === null && (form === "tile" || form === "column")) return this.#moving(arg, span);
      const prepared = this.#whole(arg, "values", stretched);
      return prepared && form === "tile" ? { ...prepared, kind: "part" as const, span, count } : prepared;
    });
    const [l, r] = operands as [Operand | null, Operand | null];
    if (!l || !r) return null;
    const op = expr.op as "add" | "sub" | "mul" | "div";
    const forms: [Form, Form] = [left.form, right.form];
    const rows = column ? column.length : row ? count / row.length : count;
    return { operation: { op, left: l, right: r, forms }, rows };
  }

  #matmul({ expr, args, shape }: Node, span: Span) {
    const [left, right] = args as [Node, Node];
    if (expr.op !== "matmul") return null;
    const l = this.#moving(left, span);
    const r = l && this.#whole(right, "panels");
    if (!l || !r) return null;
    const operation: Operation = {
      op: "matmul",
      left: l,
      right: r,
      inner: right.shape[0]!,
      order: expr.order ?? "fused",
    };
    return { operation, rows: shape[0]! };
  }

  #kron({ args, shape }: Node) {
    const [left, right] = args as [Node, Node];
    if (!isColumnKron(left.shape, right.shape)) return null;
    const [l, r] = [this.#whole(left, "values"), this.#whole(right, "values")];
    if (!l || !r) return null;
    const rightRows = right.shape[0]!;
    const leftCols = left.count / left.shape[0]!;
    const operation: Operation = {
      op: "kron",
      left: l,
      right: r,
      leftCols,
      rightRows,
      rightCols: right.count / rightRows,
    };
    return { operation, rows: shape[0]! };
  }

  #call({ expr, args, shape }: Node, span: Span) {
    if (expr.op !== "call" || shape.length === 0) return null;
    const { rowwise = false, alongside = [], cut } = FUNCTIONS[expr.name] ?? {};
    if (!rowwise && !cut) return null;
    const operands = args.map((arg, i) => {
      const moves = rowwise && (i === 0 || alongside.includes(i));
      if (!moves) return this.#whole(arg, "array");
      return arg.shape[0] === shape[0] ? this.#moving(arg, span) : null;
    });
    if (operands.includes(null)) return null;
    const operation: Operation = {
      op: "call",
      name: expr.name,
      args: operands as Operand[],
      shapes: args.map((arg) => arg.shape),
      params: expr.params,
    };
    return { operation, rows: shape[0]! };
  }

  /** Parts one below the other: each lies beside its own range of the output. */
  #below(node: Node, span: Span) {
    const { expr, args, shape } = node;
    const axis = expr.op === "concat" ? expr.axis : 0;
    const each = span.length / shape[axis]!;
    const parts: { operand: Operand; start: number; stop: number }[] = [];
    let from = span.from;
    for (const arg of args) {
      const length = each * arg.shape[axis]!;
      const [start, stop] = [Math.max(span.start, from), Math.min(span.stop, from + length)];
      if (start < stop) {
        const operand = Number.isInteger(each) ? this.#moving(arg, { from, length, start, stop }) : null;
        if (!operand) return null;
        parts.push({ operand, start, stop });
      }
      from += length;
    }
    return this.#select(node, parts);
  }

  #beside({ expr, args, shape }: Node, span: Span) {
    const rows = leadingRows(shape, expr.op === "concat" ? expr.axis : 0);
    const parts = args.map((arg) => this.#moving(arg, span));
    if (parts.includes(null)) return null;
    const operation: Operation = {
      op: "concat",
      parts: parts as Operand[],
      widths: args.map((arg) => arg.count / rows),
    };
    return { operation, rows };
  }

  /** Some of the rows: the whole lies beside more than the output. */
  #sliceRows(node: Node, span: Span) {
    const { expr, args, shape } = node;
    if (expr.op !== "slice" || expr.step !== 1) return null;
    const of = args[0]!;
    const each = span.length / shape[expr.axis]!;
    if (!Number.isInteger(each)) return null;
    const from = span.from - expr.start * each;
    const operand = this.#moving(of, { ...span, from, length: each * of.shape[expr.axis]! });
    if (!operand) return null;
    // A step of its own: the value below counts elements that lie outside.
    return this.#select(node, [{ operand, start: span.start, stop: span.stop }]);
  }

  #gather(node: Node, span: Span) {
    const gather = gatherOf(node);
    const of = gather && this.#moving(node.args[0]!, span);
    if (!gather || !of) return null;
    const { rows, inner, map } = gather;
    return { operation: { op: "gather", of, inner, map } as const, rows };
  }

  #whole(node: Node, layout: Prepared["layout"], stretched: readonly number[] | null = null) {
    if (layout !== "array" && this.#isWide(node)) return null;
    return { kind: "whole" as const, prepared: this.#prepare(node, layout, stretched) };
  }

  #prepare(node: Node, layout: Prepared["layout"], stretched: readonly number[] | null = null): number {
    const known = this.#prepared.findIndex(
      (p) => p.node === node && p.layout === layout && String(p.stretched) === String(stretched),
    );
    if (known >= 0) return known;
    this.#prepared.push({ node, layout, stretched });
    return this.#prepared.length - 1;
  }

  /** Whether a value may hold numbers that are no float32: stored as integers or float64, and only moved since. */
  #isWide(node: Node): boolean {
    if (this.#of.exact) return false;
    const known = this.#wide.get(node);
    if (known !== undefined) return known;
    const wide = this.#computeWide(node);
    this.#wide.set(node, wide);
    return wide;
  }

  #computeWide({ expr, args }: Node): boolean {
    if (expr.op === "base" || expr.op === "source") return !isNarrow(this.#of.dtypes.get(leafKey(expr))!);
    return MOVES.has(expr.op) && args.some((arg) => this.#isWide(arg));
  }
}

/** Operations whose values are those of their operands. */
const MOVES: ReadonlySet<string> = new Set([
  "relu",
  "reshape",
  "permute",
  "slice",
  "concat",
  "repeat",
  "set-rows",
]);

function refersBelow(operand: Operand, limit: { steps: number; prepared: number }): boolean {
  return operand.kind === "step" ? operand.step < limit.steps : operand.prepared < limit.prepared;
}
