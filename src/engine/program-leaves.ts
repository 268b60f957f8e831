import type { Hash } from "node:crypto";
import {
  DTYPE_BITS,
  type Dtype,
  elementCount,
  isMergeable,
  type MergeableDtype,
  widen,
} from "../core/dtype.ts";
import { leafKey } from "../core/expr.ts";
import { EXACT_NUMERICS } from "../core/numerics-versions.ts";
import { isNarrow } from "./compile.ts";
import { Graph } from "./compile-graph.ts";
import type { LeafCache } from "./leaf-cache.ts";
import type { ProgramLeaf, TensorTask } from "./pool.ts";
import { needed, type Step, type TileProgram } from "./program.ts";
import type { Arena } from "./program-arena.ts";
import type { TileKernels } from "./program-kernels.ts";
import type { Value } from "./program-values.ts";
import { checkBytes, checkFactor, finishHash, startHash, type TaskIo, TILE_AT } from "./task-io.ts";

/** Stored elements are widened so many bytes at a time. */
const RAW_BYTES = 256 * 1024;
const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, i) => i);

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

interface LeafPlace {
  readonly io: TaskIo;
  readonly cache: LeafCache;
  readonly kernels: TileKernels;
  readonly arena: Arena;
}

/** Reads the stored tensors of one task, as a whole or tile by tile, and sees to it that each is what was imported. */
export class ProgramLeaves {
  readonly #place: LeafPlace;
  readonly #task: TensorTask;
  readonly #stored: ReadonlyMap<string, ProgramLeaf>;
  /** Leaves whose digests are known to be right. */
  readonly #checked = new Set<string>();
  readonly #hashes = new Map<Step, Hash | null>();
  /** Where stored elements lie before they are widened. */
  readonly #rawAt: number;
  /** Where the tile's part of the input lies, once it was read beside the output. */
  inputAt: number | null = null;

  constructor(place: LeafPlace, task: TensorTask, stored: ReadonlyMap<string, ProgramLeaf>) {
    this.#place = place;
    this.#task = task;
    this.#stored = stored;
    this.#rawAt = place.arena.take(RAW_BYTES);
  }

  /** Reads what is left of the leaves, for their digests. */
  checkRest(): void {
    for (const leaf of this.#task.program!.leaves) if (!this.#checked.has(leaf.key)) this.#check(leaf);
  }

  #check(leaf: ProgramLeaf): void {
    this.#checked.add(leaf.key);
    if (leaf.digest === undefined || this.#task.digests === "none") return;
    checkFactor(this.#task, leaf, this.#place.io.readThrough(leaf, this.#task).digest);
  }

  /** A leaf whose bytes were hashed while they were read. */
  checked(leaf: ProgramLeaf, digest: string | null): void {
    checkFactor(this.#task, leaf, digest);
    this.#checked.add(leaf.key);
  }

  /** Leaves that the program reads from first to last, once, are hashed on the way. */
  watch(program: TileProgram): void {
    for (const step of needed(program)) this.#watch(step, program.elements);
  }

  /** The program has run. */
  finishWatch(): void {
    for (const [step, hash] of this.#hashes) {
      if (step.op === "read") this.checked(this.#stored.get(step.leaf)!, finishHash(hash));
    }
  }

  #watch(step: Step, elements: number): void {
    if (step.op !== "read" || step.leaf === this.#task.input?.key) return;
    const { from, length, start, stop } = step.span;
    if (from !== 0 || start !== 0 || length !== elements || stop !== elements) return;
    if ([...this.#hashes.keys()].some((other) => other.op === "read" && other.leaf === step.leaf)) return;
    this.#hashes.set(step, startHash(this.#task));
  }

  /** Elements of a leaf for a tile. */
  read(step: Step & { op: "read" }, first: number, count: number, to: number): void {
    const leaf = this.#stored.get(step.leaf)!;
    const width = DTYPE_BITS[step.dtype] / 8;
    const { kernels } = this.#place;
    const { from, length } = step.span;
    const isTile = leaf === this.#task.input && from === 0 && length === step.count;
    if (this.inputAt !== null && isTile) {
      this.#widen(step.dtype, this.inputAt, to, count);
      return;
    }
    const hash = this.#hashes.get(step) ?? null;
    // Piece by piece: beside one tile of the output there may be more of a leaf than of the output.
    const most = RAW_BYTES / width;
    for (let done = 0; done < count; done += most) {
      const some = Math.min(most, count - done);
      this.#place.io.read(leaf, (first + done) * width, this.#rawAt, some * width);
      this.#place.io.hash(hash, this.#rawAt, some * width);
      this.#widen(step.dtype, this.#rawAt, to + done * kernels.width, some);
    }
  }

  #widen(dtype: Dtype, from: number, to: number, count: number): void {
    const { kernels } = this.#place;
    const bytes = this.#place.io.kernels.bytes(from, (count * DTYPE_BITS[dtype]) / 8);
    if (isMergeable(dtype)) kernels.widen(dtype, from, to, count);
    else if (DTYPE_BITS[dtype] > 8) kernels.view(to, count).set(widen(dtype, bytes));
    else {
      const numbers = widen(dtype, EVERY_BYTE);
      const target = kernels.view(to, count);
      for (let i = 0; i < count; i++) target[i] = numbers[bytes[i]!]!;
    }
  }

  /** All of a leaf, checked. */
  load(key: string): Value {
    const leaf = this.#stored.get(key)!;
    const { kernels } = this.#place;
    const { dtype, shape } = leaf;
    const isInput = leaf === this.#task.input;
    const kept = this.#place.cache.get(leaf, kernels.width);
    if (kept && !isInput) {
      this.#checked.add(leaf.key);
      return { shape, values: kept };
    }
    const count = elementCount(shape);
    const fits = isNarrow(dtype) || this.#task.program!.numerics === EXACT_NUMERICS;
    const values = fits ? kernels.array(count) : new Float64Array(count);
    // The input is hashed beside the output.
    const task: Parameters<TaskIo["readThrough"]>[1] = isInput
      ? { name: this.#task.name, input: null, digests: "none" }
      : this.#task;
    const width = DTYPE_BITS[dtype] / 8;
    const { digest } = this.#place.io.readThrough(leaf, task, (at, bytes) => {
      if (isMergeable(dtype)) this.#widenInto(values, dtype, { at: at / width, count: bytes / width });
      else values.set(widen(dtype, this.#place.io.kernels.bytes(TILE_AT, bytes)), at / width);
    });
    if (!isInput) {
      this.checked(leaf, digest);
      this.#place.cache.put(leaf, kernels.width, values);
    }
    return { shape, values };
  }

  #widenInto(
    values: Value["values"],
    dtype: MergeableDtype,
    { at, count }: { at: number; count: number },
  ): void {
    const { kernels, arena } = this.#place;
    arena.scoped(() => {
      const to = arena.take(count * kernels.width);
      kernels.widen(dtype, TILE_AT, to, count);
      values.set(kernels.view(to, count), at);
    });
  }
}
