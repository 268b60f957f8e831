import type { Arithmetic, NdArray } from "../core/evaluate.ts";
import {
  beside,
  needed,
  type Operand,
  operandsOf,
  type Segment,
  type Step,
  type TileProgram,
} from "./program.ts";
import type { Arena } from "./program-arena.ts";
import { type CallRun, type CallStep, FAST_CALLS } from "./program-calls.ts";
import type { TileKernels } from "./program-kernels.ts";
import { type Layout, layOut, resolve } from "./program-memory.ts";
import { firstRow, runStep, type StepContext } from "./program-steps.ts";
import { packPanels, stretch, type Values, wide } from "./program-values.ts";

/** What running a program takes beside it. */
export interface Machine {
  readonly kernels: TileKernels;
  readonly arena: Arena;
  readonly arithmetic: Arithmetic;
  readonly values: Values;
  /** Output elements of a tile, where whole rows fit. */
  readonly tileElements: number;
  read(step: Step & { op: "read" }, first: number, count: number, to: number): void;
}

/** A tile of the result: elements start … stop-1, computed at a position in memory. */
export interface Tile {
  readonly start: number;
  readonly stop: number;
  readonly at: number;
}

export interface TileUser {
  /** Before a tile is computed. */
  begin(start: number, stop: number): void;
  end(tile: Tile): void;
}

/** Most output elements that a tile of a program has. */
export function tallest(program: TileProgram, { tileElements }: Machine): number {
  return Math.max(0, ...program.segments.map((segment) => layOut(program, segment, tileElements).height));
}

/** Computes all tiles of a program, in order. */
export function runTiles(program: TileProgram, machine: Machine, user: TileUser): void {
  machine.arena.scoped(() => {
    const run = new TileRun(program, machine);
    for (const segment of program.segments) machine.arena.scoped(() => run.segment(segment, user));
  });
}

class TileRun {
  readonly #program: TileProgram;
  readonly #machine: Machine;
  /** Positions of prepared values, and those that are for core. */
  readonly #places = new Map<number, number>();
  readonly #arrays = new Map<number, NdArray>();
  readonly #constants = new Map<Step, number>();
  readonly #calls = new Map<Step, CallRun>();

  constructor(program: TileProgram, machine: Machine) {
    this.#program = program;
    this.#machine = machine;
    for (const step of needed(program)) {
      for (const operand of operandsOf(step)) this.#prepare(operand);
      if (step.op === "call") this.#prepareCall(step);
      this.#placeConstant(step);
    }
    this.#prepare(program.result);
  }

  #prepare(operand: Operand): void {
    if (operand.kind === "step") return;
    const index = operand.prepared;
    const { kernels, arena, values } = this.#machine;
    const { node, layout, stretched } = this.#program.prepared[index]!;
    if (this.#places.has(index) || layout === "array") return;
    const value = values.of(node);
    if (layout === "panels") this.#places.set(index, packPanels(value, kernels, arena));
    else {
      const all = stretched ? stretch(value, stretched) : value.values;
      const at = arena.take(all.length * kernels.width);
      kernels.view(at, all.length).set(all);
      this.#places.set(index, at);
    }
  }

  /** A prepared value for core. */
  #array(operand: Operand): NdArray {
    const index = operand.kind === "step" ? -1 : operand.prepared;
    const known =
      this.#arrays.get(index) ?? wide(this.#machine.values.of(this.#program.prepared[index]!.node));
    this.#arrays.set(index, known);
    return known;
  }

  #prepareCall(step: CallStep): void {
    const { kernels, arena, values } = this.#machine;
    const run = FAST_CALLS[step.name]?.({
      step,
      kernels,
      arena,
      whole: (arg) => {
        const operand = step.args[arg]!;
        return values.of(this.#program.prepared[operand.kind === "whole" ? operand.prepared : -1]!.node);
      },
      firstRow: (context) => firstRow(step, context),
    });
    if (run) this.#calls.set(step, run);
  }

  #placeConstant(step: Step): void {
    const { kernels, arena } = this.#machine;
    if (step.op === "scale" || step.op === "over") {
      const at = arena.take(kernels.width);
      kernels.view(at, 1)[0] = step.by;
      this.#constants.set(step, at);
    } else if (step.op === "gather") {
      const bytes = step.map.byteLength;
      const at = arena.take(bytes);
      kernels.kernels.bytes(at, bytes).set(new Uint8Array(step.map.buffer, step.map.byteOffset, bytes));
      this.#constants.set(step, at);
    }
  }

  segment(segment: Segment, user: TileUser): void {
    const { kernels, arena, tileElements } = this.#machine;
    const layout = layOut(this.#program, segment, tileElements);
    const buffers = layout.sizes.map((elements) => arena.take(elements * kernels.width));
    for (let start = segment.start; start < segment.stop; start += layout.height) {
      const stop = Math.min(segment.stop, start + layout.height);
      user.begin(start, stop);
      this.#tile(segment, { layout, buffers, start, stop }, user);
    }
  }

  #tile(
    segment: Segment,
    tile: { layout: Layout; buffers: readonly number[]; start: number; stop: number },
    user: TileUser,
  ): void {
    const { layout, buffers, start, stop } = tile;
    const position = (step: number) => buffers[layout.buffers.get(step)!]!;
    const address = (operand: Operand): number => {
      const source = resolve(this.#program, segment, operand);
      if (source.kind === "step") return position(source.step);
      const at = this.#places.get(source.prepared)!;
      if (source.kind === "whole") return at;
      return at + beside(source, start - source.span.from) * this.#machine.kernels.width;
    };
    const context: StepContext = {
      kernels: this.#machine.kernels,
      arithmetic: this.#machine.arithmetic,
      start,
      stop,
      address,
      array: (operand) => this.#array(operand),
      call: (step) => this.#calls.get(step),
      constant: (step) => this.#constants.get(step)!,
      read: (step, first, count, to) => this.#machine.read(step, first, count, to),
    };
    for (const index of segment.steps) {
      const step = this.#program.steps[index]!;
      if (step.op !== "select") runStep(step, position(index), context);
    }
    user.end({ start, stop, at: address(this.#program.result) });
  }
}
