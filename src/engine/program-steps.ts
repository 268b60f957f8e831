import type { Arithmetic, NdArray } from "../core/evaluate.ts";
import { FUNCTIONS } from "../core/functions.ts";
import { beside, type Form, type Operand, type Step } from "./program.ts";
import type { CallRun } from "./program-calls.ts";
import type { Matrix, Place, TileKernels } from "./program-kernels.ts";

/** A tile of the output, in elements, and where the operands of a step lie for it. */
export interface StepContext {
  readonly kernels: TileKernels;
  readonly arithmetic: Arithmetic;
  readonly start: number;
  readonly stop: number;
  address(operand: Operand): number;
  /** A prepared value for core. */
  array(operand: Operand): NdArray;
  /** How a call is computed where it has a kernel. */
  call(step: Step): CallRun | undefined;
  /** Position of a step's numbers: its factor, or its map of columns. */
  constant(step: Step): number;
  /** Reads elements first … first+count-1 of a stored tensor, widened. */
  read(step: Step & { op: "read" }, first: number, count: number, to: number): void;
}

type Run<Op extends Step["op"]> = (step: Step & { op: Op }, to: Matrix, context: StepContext) => void;

/** Computes a step's value for one tile, at a position in memory. */
export function runStep(step: Step, at: number, context: StepContext): void {
  const count = beside(step, context.stop - context.start);
  const rows = (count * step.rows) / step.count || 0;
  const run = RUNS[step.op] as Run<Step["op"]>;
  run(step, { at, rows, cols: rows === 0 ? 0 : count / rows }, context);
}

const size = ({ rows, cols }: Matrix) => rows * cols;

const RUNS: { readonly [Op in Step["op"]]: Run<Op> } = {
  read: (step, to, context) => context.read(step, firstElement(step, context), size(to), to.at),
  add: runBinary,
  sub: runBinary,
  mul: runBinary,
  div: runBinary,
  scale: runFactor,
  over: runFactor,
  round: ({ of }, to, { kernels, address }) => kernels.through(address(of), to.at, size(to)),
  relu: ({ of }, to, { kernels, address }) => kernels.relu(address(of), to.at, size(to)),
  matmul: (step, to, { kernels, address }) =>
    kernels.multiply(to, address(step.left), address(step.right), step),
  norm: (step, to, { kernels, address }) =>
    kernels.norms({ at: address(step.of), rows: to.rows, cols: step.inner }, to.at, step.order),
  gather: (step, to, { kernels, address, constant }) =>
    kernels.gather({ at: address(step.of), rows: to.rows, cols: step.inner }, to, constant(step)),
  concat: runConcat,
  cycle: runCycle,
  kron(step, to, context) {
    const left = { at: context.address(step.left), rows: 0, cols: step.leftCols };
    const right = { at: context.address(step.right), rows: step.rightRows, cols: step.rightCols };
    context.kernels.kron(to, left, right, firstRow(step, context));
  },
  "set-rows": runSetRows,
  call: runCall,
  select: () => {},
};

function runFactor(step: Step & { op: "scale" | "over" }, to: Matrix, context: StepContext): void {
  const factor: Place = { at: context.constant(step), rowBytes: 0, columns: false };
  const of: Place = { at: context.address(step.of), rowBytes: 0, columns: true };
  const target = { at: to.at, rows: 1, cols: size(to) };
  context.kernels.binary(step.op === "scale" ? "mul" : "div", of, factor, target);
}

function firstElement(step: Step, { start }: StepContext): number {
  return beside(step, start - step.span.from);
}

/** The tile's first row of a step's value. */
export function firstRow(step: Step, { start }: StepContext): number {
  return ((start - step.span.from) * step.rows) / step.span.length;
}

function runBinary(
  step: Step & { op: "add" | "sub" | "mul" | "div" },
  to: Matrix,
  context: StepContext,
): void {
  const place = (operand: Operand, form: Form): Place => {
    const { width } = context.kernels;
    const rowBytes = { tile: to.cols * width, column: width, row: 0, one: 0 }[form];
    return { at: context.address(operand), rowBytes, columns: form === "tile" || form === "row" };
  };
  // Without rows to mind, the whole tile is one row.
  const target = step.rows === step.count ? { at: to.at, rows: 1, cols: to.rows } : to;
  const [left, right] = step.forms;
  context.kernels.binary(step.op, place(step.left, left), place(step.right, right), target);
}

function runConcat(step: Step & { op: "concat" }, to: Matrix, context: StepContext): void {
  let column = 0;
  for (const [i, part] of step.parts.entries()) {
    const cols = step.widths[i]!;
    const source = { at: context.address(part), rows: to.rows, cols };
    context.kernels.copyColumns(source, { ...to, at: to.at + column * context.kernels.width }, cols);
    column += cols;
  }
}

function runCycle(step: Step & { op: "cycle" }, to: Matrix, context: StepContext): void {
  const { kernels } = context;
  const source = context.address(step.of);
  const count = size(to);
  let at = firstElement(step, context) % step.period;
  for (let done = 0; done < count; ) {
    const run = Math.min(count - done, step.period - at);
    kernels.copy(source + at * kernels.width, to.at + done * kernels.width, run);
    done += run;
    at = 0;
  }
}

function runSetRows(step: Step & { op: "set-rows" }, to: Matrix, context: StepContext): void {
  const { kernels } = context;
  kernels.copy(context.address(step.of), to.at, size(to));
  const first = firstRow(step, context);
  const source = context.address(step.to);
  for (const [i, row] of step.targets.entries()) {
    if (row < first || row >= first + to.rows) continue;
    const target = to.at + (row - first) * to.cols * kernels.width;
    kernels.copy(source + i * to.cols * kernels.width, target, to.cols);
  }
}

function runCall(step: Step & { op: "call" }, to: Matrix, context: StepContext): void {
  const { kernels, arithmetic } = context;
  const fast = context.call(step);
  if (fast) {
    fast(to, context);
    return;
  }
  const known = FUNCTIONS[step.name]!;
  const args = step.args.map((operand, i): NdArray => {
    if (operand.kind === "whole") return context.array(operand);
    const shape = [to.rows, ...step.shapes[i]!.slice(1)];
    const count = shape.reduce((product, dim) => product * dim, 1);
    return { shape, values: Float64Array.from(kernels.view(context.address(operand), count)) };
  });
  const first = firstRow(step, context);
  const params = known.cut?.(step.params, first, first + to.rows) ?? step.params;
  const { values } = known.value(args, params, arithmetic);
  const target = kernels.view(to.at, size(to));
  if (values.length !== target.length) throw new Error(`${step.name} made ${values.length} values of a tile`);
  target.set(values);
  if (
    target instanceof Float32Array &&
    values.some((value, i) => value !== target[i] && !Number.isNaN(value))
  ) {
    throw new Error(`${step.name} made values that are no float32 in arithmetic that rounds to them`);
  }
}
