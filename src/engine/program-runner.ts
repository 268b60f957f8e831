import type { Hash } from "node:crypto";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { type Float8Dtype, isFloat8, roundToFloat8 } from "../core/float8.ts";
import { arithmeticOf } from "../core/numerics.ts";
import { EXACT_NUMERICS } from "../core/numerics-versions.ts";
import { compile } from "./compile.ts";
import type { Node } from "./compile-graph.ts";
import type { LeafCache } from "./leaf-cache.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import type { TileProgram } from "./program.ts";
import { Arena } from "./program-arena.ts";
import { TileKernels } from "./program-kernels.ts";
import { ProgramLeaves, type TaskGraph } from "./program-leaves.ts";
import { reduce } from "./program-reduce.ts";
import { type Machine, runTiles, type Tile, tallest } from "./program-tiles.ts";
import { type Value, Values } from "./program-values.ts";
import { checkInput, emptySum, finishHash, type Sum, startHash, type TaskIo } from "./task-io.ts";

/** Output elements of a tile, where whole rows fit: its values stay in the second-level cache. */
const TILE_ELEMENTS = 65_536;

/** What running a task told. */
export interface Done {
  readonly inputDigest: string | null;
  readonly outputDigest: string | null;
  readonly inputSum: Sum | null;
  readonly outputSum: Sum | null;
  readonly changed: number;
}

/** What tasks share on one thread. */
export interface ProgramPlace {
  readonly io: TaskIo;
  readonly cache: LeafCache;
  /** Of the WASM memory that is free. */
  readonly start: number;
}

/** Runs one task's program: tile by tile where its expression allows it, see `compile`. */
export class ProgramRun {
  readonly #io: TaskIo;
  readonly #task: TensorTask;
  /** How values are rounded on the way; 8-bit floats are rounded by their own function at the end. */
  readonly #dtype: MergeableDtype;
  readonly #graph: TaskGraph;
  readonly #machine: Machine;
  readonly #exact: boolean;
  readonly leaves: ProgramLeaves;

  constructor({ io, cache, start }: ProgramPlace, task: TensorTask, graph: TaskGraph) {
    this.#io = io;
    this.#task = task;
    this.#dtype = isMergeable(task.dtype) ? task.dtype : "F32";
    this.#graph = graph;
    this.#exact = task.program!.numerics === EXACT_NUMERICS;
    const kernels = new TileKernels(io.kernels, { exact: this.#exact, dtype: this.#dtype });
    const arena = new Arena(io.kernels, start);
    const leaves = new ProgramLeaves({ io, cache, kernels, arena }, task, graph.stored);
    this.leaves = leaves;
    const arithmetic = arithmeticOf(task.program!.numerics, this.#dtype);
    const values = new Values({
      kernels,
      arena,
      arithmetic,
      name: task.name,
      load: (key) => leaves.load(key),
      reduce: (node) => this.#reduce(node),
    });
    this.#machine = {
      kernels,
      arena,
      arithmetic,
      values,
      tileElements: io.hooks.tileElements ?? TILE_ELEMENTS,
      read: (...args) => leaves.read(...args),
    };
  }

  /** A prepared value. */
  value(node: Node): Value {
    return this.#machine.values.of(node);
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** @throws INPUT_CHANGED, BAD_FILE, DISK_FULL, OUT_OF_MEMORY, TENSOR_TOO_LARGE */
  run(): Done {
    const { input } = this.#task;
    const { root } = this.#graph;
    const count = elementCount(this.#task.shape);
    if (root.count !== count) {
      throw new Error(`${this.#task.name}: [${root.shape}] instead of [${this.#task.shape}]`);
    }
    const program = this.#compile(root);
    const beside = input !== null && elementCount(input.shape) === count && isMergeable(input.dtype);
    const main = this.#io.computing(() => this.#output(program, beside ? input : null));
    if (input && !beside) {
      const { digest, sum } = this.#io.readThrough(input, this.#task);
      Object.assign(main, { inputDigest: digest, inputSum: sum });
    }
    checkInput(this.#task, main.inputDigest);
    this.leaves.checkRest();
    // Counted beside floats only; of other types it is known whether anything changed at all.
    return main.inputDigest !== null && main.inputDigest === main.outputDigest
      ? { ...main, changed: 0 }
      : main;
  }

  #compile(root: Node): TileProgram {
    return compile({ root, dtypes: this.#graph.dtypes, exact: this.#exact });
  }

  #output(program: TileProgram, input: ProgramLeaf | null): Done {
    const { kernels, arena } = this.#machine;
    const { dtype } = this.#task;
    const width = DTYPE_BITS[dtype] / 8;
    const height = tallest(program, this.#machine);
    const outAt = arena.take(height * width);
    const inputAt = arena.take(height * 4);
    const cast = input && isMergeable(dtype) && input.dtype !== dtype ? this.#castOf(input, height) : null;
    const state = new Progress(this.#task, input !== null);
    this.leaves.watch(program);
    runTiles(program, this.#machine, {
      begin: (start, stop) => {
        this.#io.hooks.checkStopped();
        if (input) this.#readInput(state, { start, stop, at: inputAt });
      },
      end: ({ start, stop, at }) => {
        const count = stop - start;
        if (isFloat8(dtype)) this.#storeFloat8(dtype, { at, to: outAt, count });
        else kernels.store(at, outAt, count);
        // Beside the input in the output's own type: a cast alone changes nothing.
        const before = input?.dtype === dtype ? inputAt : (cast?.(inputAt, count) ?? null);
        state.changed += before === null ? count : kernels.differing(outAt, before, count);
        if (isMergeable(dtype)) this.#io.count(state.outputSum, dtype, outAt, count);
        this.#io.hash(state.output, outAt, count * width);
        this.#io.write(this.#task, start * width, outAt, count * width);
      },
    });
    this.leaves.finishWatch();
    return state.done();
  }

  /** Rounds stored elements of the input into the output's type, for `height` elements at most; says where they lie. */
  #castOf(input: ProgramLeaf, height: number): (at: number, count: number) => number {
    const { arena } = this.#machine;
    const [from, to] = [input.dtype as MergeableDtype, this.#task.dtype as MergeableDtype];
    const wideAt = arena.take(height * 4);
    const storedAt = arena.take(height * 4);
    return (at, count) => {
      this.#io.kernels.widen(from, at, wideAt, count);
      this.#io.kernels.round(to, wideAt, storedAt, count);
      return storedAt;
    };
  }

  /** Values on the grid of an 8-bit type, as its bits. @throws NOT_FINITE: its NaN would be taken for a number */
  #storeFloat8(dtype: Float8Dtype, { at, to, count }: { at: number; to: number; count: number }): void {
    const values = this.#machine.kernels.view(at, count);
    const bytes = this.#io.kernels.bytes(to, count);
    for (let i = 0; i < count; i++) {
      const value = values[i]!;
      if (Number.isNaN(value)) {
        throw new AppError(
          "NOT_FINITE",
          `tensor "${this.#task.name}" would hold NaN after the merge: the change leaves the range of numbers. Check alpha and the adapter.`,
        );
      }
      bytes[i] = roundToFloat8(dtype, value);
    }
  }

  #readInput(state: Progress, { start, stop, at }: Tile): void {
    const { input, known } = this.#task;
    const dtype = input!.dtype as MergeableDtype;
    const width = DTYPE_BITS[dtype] / 8;
    const bytes = (stop - start) * width;
    this.#io.read(input!, start * width, at, bytes);
    this.#io.hash(state.input, at, bytes);
    if (!known) this.#io.count(state.inputSum, dtype, at, stop - start);
    this.#io.hooks.advance(bytes);
    this.leaves.inputAt = at;
  }

  #reduce(node: Node): Value | null {
    const rows = (root: Node) =>
      compile({
        root,
        dtypes: this.#graph.dtypes,
        exact: this.#exact,
        unit: root.count / root.shape[0]! || 1,
      });
    return reduce(node, this.#machine, { compile: rows, exact: this.#exact, ...this.#io.hooks });
  }
}

/** What the tiles of an output add up to. */
class Progress {
  readonly input: Hash | null;
  readonly output: Hash | null;
  readonly inputSum = emptySum();
  readonly outputSum = emptySum();
  changed = 0;
  readonly #task: TensorTask;
  readonly #beside: boolean;

  constructor(task: TensorTask, beside: boolean) {
    this.#task = task;
    this.#beside = beside;
    this.input = beside && !task.known ? startHash(task) : null;
    this.output = startHash(task);
  }

  done(): Done {
    return {
      inputDigest: this.#beside ? (this.#task.known?.digest ?? finishHash(this.input)) : null,
      outputDigest: finishHash(this.output),
      inputSum: this.#beside ? this.inputSum : null,
      outputSum: isMergeable(this.#task.dtype) ? this.outputSum : null,
      changed: this.changed,
    };
  }
}
