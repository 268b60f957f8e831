import { fileURLToPath } from "node:url";
import type { MergeableDtype } from "../core/dtype.ts";
import { AppError } from "../core/errors.ts";
import { readSmallFile } from "../storage/tensor-io.ts";
import type { Exports, Merge } from "./kernel-exports.ts";

/** First byte of WASM memory that is free for callers; the kernels keep their own few hundred bytes below it. */
export const HEAP_START = 65_536;
/** Columns of one packed panel of A. */
export const PANEL_COLUMNS = 16;
const PAGE_BYTES = 65_536;
/** Where the statistics kernels put their three doubles: below HEAP_START, above the module's own data. */
const STATS_AT = 32_768;

/** Over the finite elements of a tile; sums of tiles make a tensor's. */
export interface TileStats {
  /** Largest magnitude; 0 where nothing is finite. */
  readonly absmax: number;
  /** Sum of squares, in float64. */
  readonly squares: number;
  /** How many elements are finite. */
  readonly finite: number;
}

/** All positions are byte offsets into WASM memory; 16-byte alignment makes the kernels faster, not righter. */
export interface MergeTileInput {
  readonly dtype: MergeableDtype;
  /** rows × cols elements of W, row-major, contiguous; replaced by the result. */
  readonly weights: number;
  readonly rows: number;
  readonly cols: number;
  /** A (rank × cols) as `packRows` lays it out, starting at the tile's first column. */
  readonly panels: number;
  /** B: rows × rank float32, row-major. */
  readonly factors: number;
  readonly rank: number;
  /** Rounded to float32 before use. */
  readonly scale: number;
  /** The change is rounded to the dtype before it is added. */
  readonly roundFirst?: boolean;
}

let compiled: Promise<WebAssembly.Module> | null = null;

/** Compiles the kernels once a process; the module can be sent to worker threads. @throws KERNELS_MISSING */
export async function compileKernels(): Promise<WebAssembly.Module> {
  // Not kept where it failed: the kernels may be built meanwhile.
  compiled ??= readKernels().catch((error: unknown) => {
    compiled = null;
    throw error;
  });
  return await compiled;
}

async function readKernels(): Promise<WebAssembly.Module> {
  const path = fileURLToPath(new URL("./wasm/build/kernels.wasm", import.meta.url));
  let bytes: Uint8Array;
  try {
    bytes = readSmallFile(path);
  } catch (error) {
    throw new AppError(
      "KERNELS_MISSING",
      `The merge kernels were not built (${path}). Run "npm run setup" in the repository.`,
      {
        cause: error,
      },
    );
  }
  return WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
}

/** The merge kernels with a memory of their own. Not shared between threads. */
export class Kernels {
  /** Whether merges use the processor's fused multiply-add; otherwise the emulation, same bits, slower. */
  readonly fused: boolean;
  readonly #memory = new WebAssembly.Memory({ initial: 2, maximum: 65_536 });
  /** The functions of the module, on positions in this memory. */
  readonly wasm: Exports;
  #view: Uint8Array<ArrayBuffer>;

  /** @param options.emulateFma use the emulation even where the processor fuses (for tests) */
  constructor(module: WebAssembly.Module, options: { emulateFma?: boolean } = {}) {
    const instance = new WebAssembly.Instance(module, { env: { memory: this.#memory } });
    this.wasm = instance.exports as unknown as Exports;
    this.#view = new Uint8Array(this.#memory.buffer);
    this.fused = !options.emulateFma && this.#probeFused();
  }

  /**
   * relaxed_madd may or may not be fused: the specification leaves it to the processor. 1+2⁻¹² squared is
   * 1+2⁻¹¹+2⁻²⁴, whose last term only a fused operation keeps.
   */
  #probeFused(): boolean {
    const x = 1 + 2 ** -12;
    return this.wasm.relaxedMadd(x, x, -(1 + 2 ** -11)) === 2 ** -24;
  }

  /** a·b + c in float32 with one rounding, as the merge kernels compute it. */
  fma(a: number, b: number, c: number): number {
    return this.fused ? this.wasm.relaxedMadd(a, b, c) : this.wasm.emulatedMadd(a, b, c);
  }

  /**
   * Makes sure that memory up to byte `end` exists. Views from `bytes` die when memory grows.
   * @throws OUT_OF_MEMORY beyond what the machine or 32-bit WASM (4 GiB) gives
   */
  reserve(end: number): void {
    const missing = Math.ceil((end - this.#memory.buffer.byteLength) / PAGE_BYTES);
    if (missing <= 0) return;
    try {
      this.#memory.grow(missing);
    } catch (error) {
      throw new AppError(
        "OUT_OF_MEMORY",
        `A tensor needs ${end} bytes of working memory, more than this machine gives (the limit is 4 GiB a thread).`,
        { cause: error },
      );
    }
    this.#view = new Uint8Array(this.#memory.buffer);
  }

  /** Bytes of memory taken so far; it never shrinks. */
  get size(): number {
    return this.#view.byteLength;
  }

  /** A view of memory; valid until the next `reserve` that grows. */
  bytes(offset: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#view.subarray(offset, offset + length);
  }

  /** Stored elements at `source` → float32 at `target`; exact. The two regions do not overlap. */
  widen(dtype: MergeableDtype, source: number, target: number, elements: number): void {
    if (dtype === "BF16") this.wasm.widenBf16(source, target, elements);
    else if (dtype === "F16") this.wasm.widenF16(source, target, elements);
    else this.wasm.widenF32(source, target, elements);
  }

  /** float32 at `source` → stored elements at `target`, to nearest, ties to even; every NaN becomes the one quiet NaN. */
  round(dtype: MergeableDtype, source: number, target: number, elements: number): void {
    if (dtype === "BF16") this.wasm.roundBf16(source, target, elements);
    else if (dtype === "F16") this.wasm.roundF16(source, target, elements);
    else this.wasm.roundF32(source, target, elements);
  }

  stats(dtype: MergeableDtype, at: number, elements: number): TileStats {
    if (dtype === "BF16") this.wasm.statsBf16(at, elements, STATS_AT);
    else if (dtype === "F16") this.wasm.statsF16(at, elements, STATS_AT);
    else this.wasm.statsF32(at, elements, STATS_AT);
    const [absmax, squares, finite] = new Float64Array(this.#memory.buffer, STATS_AT, 3);
    return { absmax: absmax!, squares: squares!, finite: finite! };
  }

  /**
   * Puts `rows` rows of A (float32, row-major, `cols` columns at `source`) into the panels at `target`, as rows k, k+1, …
   * of `rank`. Panels are [ceil(cols/16)][rank][16] float32, the last one padded with zeros.
   */
  packRows(rows: {
    source: number;
    target: number;
    rows: number;
    cols: number;
    k: number;
    rank: number;
  }): void {
    for (let i = 0; i < rows.rows; i++) {
      this.wasm.packRow(rows.source + i * rows.cols * 4, rows.target, rows.cols, rows.k + i, rows.rank);
    }
  }

  /**
   * Merges a tile in place: W := round(f32(W) + fround(B·A) · fround(scale)), B·A summed over the rank in order with
   * fused multiply-add from zero, in K-blocks for ranks over 192 (PEFT's order on a CPU).
   * @returns how many elements have other bits than before
   */
  merge(tile: MergeTileInput): number {
    const { weights, rows, cols, panels, factors, rank, scale } = tile;
    return this.#mergeFor(tile)(weights, rows, cols, panels, factors, rank, scale);
  }

  #mergeFor({ dtype, roundFirst = false }: MergeTileInput): Merge {
    const { wasm, fused } = this;
    if (dtype === "F32") return fused ? wasm.mergeF32 : wasm.mergeF32Emulated;
    if (dtype === "BF16") {
      if (roundFirst) return fused ? wasm.mergeBf16First : wasm.mergeBf16FirstEmulated;
      return fused ? wasm.mergeBf16 : wasm.mergeBf16Emulated;
    }
    if (roundFirst) return fused ? wasm.mergeF16First : wasm.mergeF16FirstEmulated;
    return fused ? wasm.mergeF16 : wasm.mergeF16Emulated;
  }
}

/** Bytes that the packed panels of a rank × cols matrix take. */
export function panelBytes(rank: number, cols: number): number {
  return Math.ceil(cols / PANEL_COLUMNS) * rank * PANEL_COLUMNS * 4;
}
