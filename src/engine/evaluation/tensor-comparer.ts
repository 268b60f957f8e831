import { createHash } from "node:crypto";
import { DTYPE_BITS, elementCount, isMergeable, type MergeableDtype } from "../../core/dtype.ts";
import type { TensorDistance, WeightSums } from "../../core/evaluation/retention.ts";
import { OpenFiles, readExact } from "../../storage/tensor-io.ts";
import { Kernels } from "../kernels.ts";
import type { ProgramLeaf, StoredTensor, TensorTask } from "../pool.ts";
import { checkInput, type RunnerHooks, TILE_BYTES } from "../task-io.ts";
import { TensorRunner } from "../tensor-runner.ts";
import { CHUNK, WeightMeter } from "./weight-meter.ts";

/** A stored tensor and what it should be. */
export interface CompareTask {
  /** Unique among the tasks of a run. */
  readonly name: string;
  /** How its value comes about, in the candidate's dtype; without an output. Without a program: the input, byte for byte. */
  readonly expected: TensorTask;
  /** The exact change, in float32: to be measured as well. */
  readonly delta: TensorTask | null;
  /** The value sums elements of the base's tensor: float32 sums then err by the size of its elements, not the change's. */
  readonly summed: boolean;
  /** Null: what a merge would write, computed in memory; nothing can differ, and its change is measured. */
  readonly candidate: StoredTensor | null;
}

/** Beyond this many bytes a computed tensor is not kept: the exact change, rounded once, is measured in its place. */
const MAX_KEPT = 128 * 2 ** 20;

export interface ComparedTensor {
  readonly name: string;
  /** `sha256:…` of the base's tensor; null where the value starts from none. */
  readonly inputDigest: string | null;
  /** Null where it was computed. */
  readonly candidateDigest: string | null;
  readonly elements: number;
  /** Every byte is the expected one. */
  readonly identical: boolean;
  readonly distance: TensorDistance;
  /** NaN and infinite elements of the candidate; 0 for other types than floats. */
  readonly nonFinite: number;
  readonly sums: WeightSums | null;
  /** The change is added to a base tensor of the same size. */
  readonly hasBase: boolean;
}

/** Compares stored tensors with what base and adapter give, tile by tile: memory is that of one tile and the factors. */
export class TensorComparer {
  readonly #runner: TensorRunner;
  readonly #meter: WeightMeter;
  readonly #files = new OpenFiles();
  readonly #hooks: Pick<RunnerHooks, "checkStopped" | "advance">;
  #take: (at: number, bytes: Uint8Array) => void = () => {};

  constructor(
    module: WebAssembly.Module,
    {
      checkStopped,
      advance,
      emulateFma,
    }: Pick<RunnerHooks, "checkStopped" | "advance"> & { emulateFma: boolean },
  ) {
    this.#hooks = { checkStopped, advance };
    this.#meter = new WeightMeter(module);
    this.#runner = new TensorRunner(new Kernels(module, { emulateFma }), {
      checkStopped,
      advance: () => {},
      wrote: () => {},
      computed: (at, bytes) => this.#take(at, bytes),
    });
  }

  close(): void {
    this.#runner.close();
    this.#files.closeAll();
  }

  /** @throws INPUT_CHANGED, BAD_FILE, OUT_OF_MEMORY, TENSOR_TOO_LARGE */
  run(task: CompareTask): ComparedTensor {
    this.#meter.start();
    const { expected, delta } = task;
    const run = new Comparison(task, {
      meter: this.#meter,
      files: this.#files,
      advance: this.#hooks.advance,
    });
    // How large the change is tells how near its parts allow; what is computed must be there before it is measured.
    if (task.candidate && delta) this.#measure(run, delta);
    this.#compare(run, expected);
    if (!run.beside && expected.input) run.readInput(expected.input, this.#hooks.checkStopped);
    if (!task.candidate && delta) this.#measure(run, delta);
    const found = run.finish();
    checkInput(expected, found.inputDigest);
    return found;
  }

  #measure(run: Comparison, delta: TensorTask): void {
    this.#take = (at, bytes) => run.measure(at, bytes);
    this.#runner.run({ ...delta, digests: "none" });
  }

  #compare(run: Comparison, expected: TensorTask): void {
    if (expected.program) {
      this.#take = (at, bytes) => run.compare(at, bytes);
      this.#runner.run({ ...expected, digests: "none" });
      return;
    }
    const { bytes } = expected.input!;
    for (let at = 0; at < bytes; at += TILE_BYTES) {
      this.#hooks.checkStopped();
      run.compare(at, null, Math.min(TILE_BYTES, bytes - at));
    }
  }
}

interface Place {
  readonly meter: WeightMeter;
  readonly files: OpenFiles;
  readonly advance: (bytes: number) => void;
}

/** One tensor at work. */
class Comparison {
  readonly #task: CompareTask;
  readonly #place: Place;
  readonly #dtype: MergeableDtype | null;
  /** Bytes of an element of the candidate; less than 1 for packed types, which are never computed. */
  readonly #width: number;
  readonly #input: ProgramLeaf | null;
  readonly #found = createHash("sha256");
  /** The computed candidate; null where it is stored, or too large to be kept. */
  readonly #kept: Uint8Array | null;
  readonly #before = createHash("sha256");
  readonly #buffers = [new Uint8Array(TILE_BYTES), new Uint8Array(TILE_BYTES)] as const;
  /** The input has the candidate's elements, one for one, and is read along with them. */
  readonly beside: boolean;
  #identical = true;
  #finite = 0;
  #squares = 0;

  constructor(task: CompareTask, place: Place) {
    this.#task = task;
    this.#place = place;
    const { dtype, shape, input } = task.expected;
    this.#dtype = isMergeable(dtype) ? dtype : null;
    this.#width = DTYPE_BITS[dtype] / 8;
    this.#input = input;
    this.beside = input !== null && elementCount(input.shape) === elementCount(shape);
    const bytes = task.candidate || !task.delta ? 0 : elementCount(shape) * this.#width;
    this.#kept = bytes > 0 && bytes <= MAX_KEPT ? new Uint8Array(bytes) : null;
  }

  /** The expected bytes from byte `at` on; null: those of the input. */
  compare(at: number, expected: Uint8Array | null, length = expected!.byteLength): void {
    const most = CHUNK * this.#width;
    for (let done = 0; done < length; done += most) {
      const bytes = Math.min(most, length - done);
      this.#compare(at + done, expected?.subarray(done, done + bytes) ?? null, bytes);
    }
  }

  #compare(at: number, expected: Uint8Array | null, bytes: number): void {
    const { meter, advance } = this.#place;
    const before = this.#readBeside(at, bytes);
    if (before) this.#before.update(before);
    const right = expected ?? before!;
    this.#kept?.set(right, at);
    const { candidate } = this.#task;
    const found = candidate ? this.#read(candidate, 0, at, bytes) : right;
    if (candidate) this.#found.update(found);
    const same = Buffer.compare(found, right) === 0;
    this.#identical &&= same;
    if (this.#dtype) {
      if (!this.#task.delta) this.#finite += meter.finite(this.#dtype, found).finite;
      if (!same) {
        this.#putInput(before);
        meter.put(1, this.#dtype, found);
        meter.put(2, this.#dtype, right);
        meter.addDistances(this.#dtype, bytes / this.#width, this.#sumsRms);
      }
    } else if (!same) this.#differingBytes += differing(found, right);
    advance((candidate ? bytes : 0) + (before?.byteLength ?? 0));
  }

  #differingBytes = 0;

  /** The exact change from byte `at` on. */
  measure(at: number, change: Uint8Array): void {
    const most = CHUNK * 4;
    for (let done = 0; done < change.byteLength; done += most) {
      this.#measure((at + done) / 4, change.subarray(done, done + most));
    }
  }

  #measure(first: number, change: Uint8Array): void {
    const { meter } = this.#place;
    const dtype = this.#dtype!;
    const elements = change.byteLength / 4;
    const [at, bytes] = [first * this.#width, elements * this.#width];
    this.#putInput(this.#readBeside(at, bytes));
    meter.put(2, "F32", change);
    const { candidate } = this.#task;
    if (candidate) meter.put(1, dtype, this.#read(candidate, 0, at, bytes));
    else if (this.#kept) meter.put(1, dtype, this.#kept.subarray(at, at + bytes));
    else meter.roundSum(dtype, elements);
    meter.addSums(dtype, elements);
  }

  /** Of the exact change, once it was measured, and of the base where that is summed. */
  get #sumsRms(): number {
    const { delta, summed, expected } = this.#task;
    if (!delta) return 0;
    const { sums } = this.#place.meter;
    const squares = sums.delta + (summed ? sums.weight + this.#squares : 0);
    return Math.sqrt(squares / elementCount(expected.shape));
  }

  /** Reads an input of another shape for its digest and its size. */
  readInput(input: ProgramLeaf, checkStopped: () => void): void {
    const most = Math.floor(CHUNK * Math.min(4, DTYPE_BITS[input.dtype] / 8));
    for (let at = 0; at < input.bytes; at += most) {
      checkStopped();
      const bytes = this.#read(input, 1, at, Math.min(most, input.bytes - at));
      this.#before.update(bytes);
      if (isMergeable(input.dtype)) this.#squares += this.#place.meter.finite(input.dtype, bytes).squares;
      this.#place.advance(bytes.byteLength);
    }
  }

  finish(): ComparedTensor {
    const { name, candidate, delta, expected } = this.#task;
    const elements = elementCount(expected.shape);
    const { meter } = this.#place;
    const sums = delta && meter.sums;
    const finite = sums ? sums.finite : this.#finite;
    const bytes = this.#differingBytes;
    return {
      name,
      inputDigest: this.#input && `sha256:${this.#before.digest("hex")}`,
      candidateDigest: candidate && `sha256:${this.#found.digest("hex")}`,
      elements,
      identical: this.#identical,
      distance: this.#dtype ? meter.distance : { differing: bytes, far: bytes, maxUlp: null },
      nonFinite: this.#dtype ? elements - finite : 0,
      sums: sums && { ...sums, weight: sums.weight + this.#squares },
      hasBase: this.beside && isMergeable(this.#input!.dtype),
    };
  }

  #putInput(before: Uint8Array | null): void {
    const { meter } = this.#place;
    const dtype = this.#input?.dtype;
    if (before && dtype && isMergeable(dtype)) meter.put(0, dtype, before);
    else meter.clear(0);
  }

  /** The input's bytes beside the candidate's `bytes` from `at` on. */
  #readBeside(at: number, bytes: number): Uint8Array | null {
    if (!this.beside) return null;
    const input = this.#input!;
    const factor = DTYPE_BITS[input.dtype] / 8 / this.#width;
    return this.#read(input, 1, at * factor, bytes * factor);
  }

  #read(tensor: StoredTensor, buffer: 0 | 1, at: number, bytes: number): Uint8Array {
    const into = this.#buffers[buffer].subarray(0, bytes);
    readExact(this.#place.files.reading(tensor.path), tensor.path, into, tensor.offset + at);
    return into;
  }
}

function differing(found: Uint8Array, right: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < found.length; i++) if (found[i] !== right[i]) count++;
  return count;
}
