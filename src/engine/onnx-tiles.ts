import { elementCount } from "../core/dtype.ts";
import { children, type Expr, leafKey } from "../core/expr.ts";
import { rowsOf } from "../core/rows.ts";
import { type ShapeLookup, shapeOf } from "../core/shapes.ts";
import { workOf } from "./onnx-graph.ts";
import { type Compilation, compileProgram, type DeviceProgram, isLeaf, NotOnDevice } from "./onnx-program.ts";
import type { TensorTask } from "./pool.ts";

/** Elements of a tile: 4 MB of float32, small enough to stay in flight several times, large enough to pay for a call. */
const TILE_ELEMENTS = 2 ** 20;
/** What is fed with every tile costs as much as the tile: tiles grow with it, up to this. */
const MAX_TILE_ELEMENTS = 2 ** 24;
/** A stored tensor that is needed as a whole, as float32: half a gigabyte. */
const MAX_WHOLE_ELEMENTS = 2 ** 27;
/** Up to this many multiplications core's interpreter is quicker than a graph of their own. */
const MAX_INTERPRETED = 2 ** 22;

/** Rows (axis 0) of an output tensor that are computed together. */
export interface DeviceTile {
  readonly start: number;
  readonly stop: number;
  /** Rows at the start that the tile before has written: tiles of one tensor all have the same size. */
  readonly skip: number;
  readonly program: DeviceProgram;
}

/**
 * Who computes a tensor. `moved`: its values are only copied and rounded, which the kernels do exactly. `float32`: a
 * device sums in float32 and in an order of its own, and only rounding into fewer bits hides the difference.
 */
export type Placement =
  | { readonly on: "device" }
  | { readonly on: "cpu"; readonly why: "moved" | "float32" }
  /** `what`: that no device computes. */
  | { readonly on: "cpu"; readonly why: "lacking"; readonly what: string };

/** Where a touched tensor is computed; only headers are looked at. */
export function placementOf(task: TensorTask): Placement {
  const { program } = task;
  if (!program || !computes(program.expr) || elementCount(task.shape) === 0)
    return { on: "cpu", why: "moved" };
  if (task.dtype === "F32") return { on: "cpu", why: "float32" };
  try {
    for (const tile of deviceTiles(task)) requireWhole(tile.program, shapesOf(task));
    return { on: "device" };
  } catch (error) {
    if (error instanceof NotOnDevice) return { on: "cpu", why: "lacking", what: error.message };
    throw error;
  }
}

function requireWhole({ values }: DeviceProgram, shapes: ShapeLookup): void {
  for (const value of values) {
    if (value.kind !== "whole") continue;
    for (const leaf of leavesBelow(value.expr)) {
      if (elementCount(shapes(leaf)) > MAX_WHOLE_ELEMENTS)
        throw new NotOnDevice("so large a tensor as a whole");
    }
  }
}

function* leavesBelow(expr: Expr): Generator<Extract<Expr, { op: "base" | "source" }>> {
  if (isLeaf(expr)) yield expr;
  else for (const child of children(expr)) yield* leavesBelow(child);
}

/** Whether it has any arithmetic: what is only moved is the same on every device. */
function computes(expr: Expr): boolean {
  return !isLeaf(expr) && (workOf(expr, [1], [[1, 1]]) > 0 || children(expr).some(computes));
}

/** The tiles of a tensor, in order, each with its program. @throws NotOnDevice */
export function* deviceTiles(task: TensorTask): Generator<DeviceTile> {
  const { expr } = task.program!;
  const shapes = shapesOf(task);
  if (task.shape.length === 0) {
    yield { start: 0, stop: 1, skip: 0, program: compileProgram({ expr, whole: new Set(), shapes }) };
    return;
  }
  const whole = new Set(nodesOf(expr));
  const count = task.shape[0]!;
  const program = (start: number, stop: number) =>
    compileProgram({ expr: rowsOf(expr, start, stop, shapes), whole, shapes });
  const rows = tileRows(task, program(0, 1));
  for (let start = 0; start < count; start += rows) {
    const stop = Math.min(count, start + rows);
    const skip = rows - (stop - start);
    yield { start: start - skip, stop, skip, program: program(start - skip, stop) };
  }
}

function tileRows({ shape }: TensorTask, first: DeviceProgram): number {
  const fed = first.values.reduce(
    (sum, value) => sum + (value.kind === "whole" && value.cut === null ? elementCount(value.shape) : 0),
    0,
  );
  const columns = elementCount(shape.slice(1));
  const wanted = Math.min(Math.max(TILE_ELEMENTS, fed), MAX_TILE_ELEMENTS);
  const tiles = Math.ceil(shape[0]! / Math.max(1, Math.floor(wanted / columns)));
  return Math.ceil(shape[0]! / tiles);
}

function* nodesOf(expr: Expr): Generator<Expr> {
  yield expr;
  for (const child of children(expr)) yield* nodesOf(child);
}

/** How a value that serves all tiles comes about: by core's interpreter, or by a program of its own. */
export function wholeProgram(expr: Expr, shapes: ShapeLookup): DeviceProgram | null {
  if (work(expr, shapes) <= MAX_INTERPRETED || [...nodesOf(expr)].some(({ op }) => op === "call"))
    return null;
  const compilation: Compilation = { expr, whole: new Set(), shapes };
  return compileProgram(compilation);
}

function work(expr: Expr, shapes: ShapeLookup): number {
  if (isLeaf(expr)) return 0;
  const below = children(expr);
  const own = workOf(
    expr,
    shapeOf(expr, shapes),
    below.map((child) => shapeOf(child, shapes)),
  );
  return below.reduce((sum, child) => sum + work(child, shapes), own);
}

/** Shapes of a task's leaves. */
export function shapesOf({ input, program }: TensorTask): ShapeLookup {
  const known = new Map(
    [...program!.leaves, ...(input ? [input] : [])].map((leaf) => [leaf.key, leaf.shape]),
  );
  return (leaf) => known.get(leafKey(leaf))!;
}
