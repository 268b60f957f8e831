import type { Hash } from "node:crypto";
import {
  DTYPE_BITS,
  type Dtype,
  elementCount,
  isMergeable,
  type MergeableDtype,
  widen,
} from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { leafKey } from "../core/expr.ts";
import { type Float8Dtype, isFloat8, roundToFloat8 } from "../core/float8.ts";
import { arithmeticOf } from "../core/numerics.ts";
import { EXACT_NUMERICS } from "../core/recipe.ts";
import { compile, isNarrow } from "./compile.ts";
import { Graph, type Node } from "./compile-graph.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import type { Step, TileProgram } from "./program.ts";
import { Arena } from "./program-arena.ts";
import { TileKernels } from "./program-kernels.ts";
import { reduce } from "./program-reduce.ts";
import { type Machine, runTiles, type Tile, tallest } from "./program-tiles.ts";
import { type Value, Values } from "./program-values.ts";
import {
  checkBytes,
  checkFactor,
  checkInput,
  emptySum,
  finishHash,
  type Sum,
  startHash,
  type TaskIo,
  TILE_AT,
} from "./task-io.ts";

/** Output elements of a tile, where whole rows fit: its values stay in the second-level cache. */
const TILE_ELEMENTS = 65_536;
/** Stored elements are widened so many bytes at a time. */
const RAW_BYTES = 256 * 1024;

/** What running a task told. */
export interface Done {
  readonly inputDigest: string | null;
  readonly outputDigest: string | null;
  readonly inputSum: Sum | null;
  readonly outputSum: Sum | null;
  readonly changed: number;
}

/** A task's expression as a graph with the storage types of its leaves. */
export function graphOf(task: TensorTask) {
  const stored = new Map(task.program!.leaves.map((leaf) => [leaf.key, leaf]));
  if (task.input) stored.set(task.input.key, task.input);
  for (const leaf of stored.values()) checkBytes(task, leaf);
  const graph = new Graph((leaf) => stored.get(leafKey(leaf))!.shape);
  const dtypes = new Map([...stored].map(([key, { dtype }]) => [key, dtype]));
  return { graph, root: graph.of(task.program!.expr), stored, dtypes };
}

export type TaskGraph = ReturnType<typeof graphOf>;

/** Runs one task's program: tile by tile where its expression allows it, see `compile`. */
export class ProgramRun {
  readonly #io: TaskIo;
  readonly #task: TensorTask;
  /** How values are rounded on the way; 8-bit floats are rounded by their own function at the end. */
  readonly #dtype: MergeableDtype;
  readonly #stored: ReadonlyMap<string, ProgramLeaf>;
  readonly #graph: TaskGraph;
  readonly #machine: Machine;
  readonly #exact: boolean;
  /** Leaves whose digests are known to be right. */
  readonly #checked = new Set<string>();
  readonly #hashes = new Map<Step, Hash | null>();
  /** Where stored elements lie before they are widened. */
  readonly #rawAt: number;
  /** Where the tile's part of the input lies, once it was read. */
  #inputAt: number | null = null;

  /** @param start of the WASM memory that is free for it */
  constructor(io: TaskIo, task: TensorTask, graph: TaskGraph, start: number) {
    this.#io = io;
    this.#task = task;
    this.#dtype = isMergeable(task.dtype) ? task.dtype : "F32";
    this.#graph = graph;
    this.#stored = graph.stored;
    this.#exact = task.program!.numerics === EXACT_NUMERICS;
    const kernels = new TileKernels(io.kernels, { exact: this.#exact, dtype: this.#dtype });
    const arena = new Arena(io.kernels, start);
    const arithmetic = arithmeticOf(task.program!.numerics, this.#dtype);
    const values = new Values({
      kernels,
      arena,
      arithmetic,
      name: task.name,
      load: (key) => this.#load(key),
      reduce: (node) => this.#reduce(node),
    });
    this.#rawAt = arena.take(RAW_BYTES);
    this.#machine = {
      kernels,
      arena,
      arithmetic,
      values,
      tileElements: io.hooks.tileElements ?? TILE_ELEMENTS,
      read: (...args) => this.#read(...args),
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
    this.checkLeaves();
    // Counted beside floats only; of other types it is known whether anything changed at all.
    return main.inputDigest !== null && main.inputDigest === main.outputDigest
      ? { ...main, changed: 0 }
      : main;
  }

  /** Reads what is left of the leaves, for their digests. */
  checkLeaves(): void {
    for (const leaf of this.#task.program!.leaves) if (!this.#checked.has(leaf.key)) this.check(leaf);
  }

  check(leaf: ProgramLeaf): void {
    this.#checked.add(leaf.key);
    if (leaf.digest === undefined || this.#task.digests === "none") return;
    checkFactor(this.#task, leaf, this.#io.readThrough(leaf, this.#task).digest);
  }

  /** A leaf whose bytes were hashed while they were read. */
  checked(leaf: ProgramLeaf, digest: string | null): void {
    checkFactor(this.#task, leaf, digest);
    this.#checked.add(leaf.key);
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
    const state = new Progress(this.#task, input !== null);
    for (const index of new Set(program.segments.flatMap(({ steps }) => steps))) {
      this.#watch(program.steps[index]!, program.elements);
    }
    runTiles(program, this.#machine, {
      begin: (start, stop) => {
        this.#io.hooks.checkStopped();
        if (input) this.#readInput(state, { start, stop, at: inputAt });
      },
      end: ({ start, stop, at }) => {
        const count = stop - start;
        if (isFloat8(dtype)) this.#storeFloat8(dtype, { at, to: outAt, count });
        else kernels.store(at, outAt, count);
        const same = input?.dtype === dtype;
        state.changed += same ? kernels.differing(outAt, inputAt, count) : count;
        if (isMergeable(dtype)) this.#io.count(state.outputSum, dtype, outAt, count);
        this.#io.hash(state.output, outAt, count * width);
        this.#io.write(this.#task, start * width, outAt, count * width);
      },
    });
    for (const [step, hash] of this.#hashes) {
      if (step.op === "read") this.checked(this.#stored.get(step.leaf)!, finishHash(hash));
    }
    return state.done();
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

  /** A leaf that is read from first to last can be hashed on the way. */
  #watch(step: Step, elements: number): void {
    if (step.op !== "read" || step.leaf === this.#task.input?.key) return;
    const { from, length, start, stop } = step.span;
    if (from !== 0 || start !== 0 || length !== elements || stop !== elements) return;
    if ([...this.#hashes.keys()].some((other) => other.op === "read" && other.leaf === step.leaf)) return;
    this.#hashes.set(step, startHash(this.#task));
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
    this.#inputAt = at;
  }

  /** Elements of a leaf for a tile. */
  #read(step: Step & { op: "read" }, first: number, count: number, to: number): void {
    const leaf = this.#stored.get(step.leaf)!;
    const width = DTYPE_BITS[step.dtype] / 8;
    const { kernels } = this.#machine;
    const { from, length } = step.span;
    const isTile = leaf === this.#task.input && from === 0 && length === step.count;
    if (this.#inputAt !== null && isTile) {
      this.#widen(step.dtype, this.#inputAt, to, count);
      return;
    }
    const hash = this.#hashes.get(step) ?? null;
    // Piece by piece: beside one tile of the output there may be more of a leaf than of the output.
    const most = RAW_BYTES / width;
    for (let done = 0; done < count; done += most) {
      const some = Math.min(most, count - done);
      this.#io.read(leaf, (first + done) * width, this.#rawAt, some * width);
      this.#io.hash(hash, this.#rawAt, some * width);
      this.#widen(step.dtype, this.#rawAt, to + done * kernels.width, some);
    }
  }

  #widen(dtype: Dtype, from: number, to: number, count: number): void {
    const { kernels } = this.#machine;
    if (isMergeable(dtype)) kernels.widen(dtype, from, to, count);
    else
      kernels
        .view(to, count)
        .set(widen(dtype, this.#io.kernels.bytes(from, (count * DTYPE_BITS[dtype]) / 8)));
  }

  /** All of a leaf, checked. */
  #load(key: string): Value {
    const leaf = this.#stored.get(key)!;
    const { kernels } = this.#machine;
    const { dtype, shape } = leaf;
    const isInput = leaf === this.#task.input;
    const count = elementCount(shape);
    const fits = isNarrow(dtype) || this.#exact;
    const values = fits ? kernels.array(count) : new Float64Array(count);
    // The input is hashed beside the output.
    const task: Parameters<TaskIo["readThrough"]>[1] = isInput
      ? { name: this.#task.name, input: null, digests: "none" }
      : this.#task;
    const width = DTYPE_BITS[dtype] / 8;
    const { digest } = this.#io.readThrough(leaf, task, (at, bytes) => {
      if (isMergeable(dtype)) this.#widenInto(values, dtype, { at: at / width, count: bytes / width });
      else values.set(widen(dtype, this.#io.kernels.bytes(TILE_AT, bytes)), at / width);
    });
    if (!isInput) this.checked(leaf, digest);
    return { shape, values };
  }

  #widenInto(
    values: Value["values"],
    dtype: MergeableDtype,
    { at, count }: { at: number; count: number },
  ): void {
    const { kernels, arena } = this.#machine;
    arena.scoped(() => {
      const to = arena.take(count * kernels.width);
      kernels.widen(dtype, TILE_AT, to, count);
      values.set(kernels.view(to, count), at);
    });
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
