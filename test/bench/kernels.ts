import { createHash } from "node:crypto";
import { MERGEABLE_DTYPES, type MergeableDtype } from "../../src/core/dtype.ts";
import { compileKernels, HEAP_START, Kernels, panelBytes } from "../../src/engine/kernels.ts";

const ROWS = 32;
const COLS = 4096;
const RANKS = [1, 4, 8, 16, 32, 64, 128, 256];
const ROUNDS = 15;

/** One thread, one tile in the cache: GB/s of stored weights merged, by dtype and rank, beside memcpy and sha256. */
export async function run(args: readonly string[]): Promise<void> {
  const kernels = new Kernels(await compileKernels(), { emulateFma: args.includes("--emulate") });
  console.log(
    `one thread, ${ROWS}×${COLS} tile, fused multiply-add ${kernels.fused ? "by the processor" : "emulated"}`,
  );
  console.log("GB/s of stored weights (GFLOP/s)");
  console.log(
    ["dtype", ...RANKS.map((rank) => `rank ${rank}`), "statistics", "memcpy", "sha256"].map(cell).join(""),
  );
  for (const dtype of MERGEABLE_DTYPES) console.log(row(kernels, dtype).map(cell).join(""));
}

function row(kernels: Kernels, dtype: MergeableDtype): string[] {
  const elements = ROWS * COLS;
  const bytes = elements * (dtype === "F32" ? 4 : 2);
  const merges = RANKS.map((rank) => {
    const ns = mergeTime(kernels, dtype, rank);
    return `${(bytes / ns).toFixed(2)} (${((2 * rank * elements) / ns).toFixed(0)})`;
  });
  const tile = kernels.bytes(HEAP_START, bytes);
  const copy = new Uint8Array(bytes);
  const hash = createHash("sha256");
  const others = [
    () => kernels.stats(dtype, HEAP_START, elements),
    () => copy.set(tile),
    () => hash.update(tile),
  ].map((work) => (bytes / fastest(work)).toFixed(2));
  return [dtype, ...merges, ...others];
}

function mergeTime(kernels: Kernels, dtype: MergeableDtype, rank: number): number {
  const weights = HEAP_START;
  const factors = weights + ROWS * COLS * 4;
  const panels = factors + ROWS * rank * 4;
  const end = panels + panelBytes(rank, COLS);
  kernels.reserve(end);
  kernels.bytes(weights, ROWS * COLS * 4).fill(0);
  const numbers = new Float32Array(
    kernels.bytes(factors, end - factors).buffer,
    factors,
    (end - factors) / 4,
  );
  for (let i = 0; i < numbers.length; i++) numbers[i] = Math.sin(i) * 1e-3;
  const tile = { dtype, weights, rows: ROWS, cols: COLS, panels, factors, rank, scale: 1e-3 };
  return fastest(() => kernels.merge(tile));
}

/** Nanoseconds of one call: the best of several rounds, because what disturbs a measurement only ever adds. */
function fastest(work: () => unknown): number {
  const once = () => {
    const start = performance.now();
    work();
    return performance.now() - start;
  };
  // Until the optimising compiler has replaced the first, quick machine code.
  for (let i = 0; i < 100; i++) work();
  const calls = Math.max(1, Math.ceil(5 / Math.max(once(), 1e-3)));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    for (let i = 0; i < calls; i++) work();
    best = Math.min(best, (performance.now() - start) / calls);
  }
  return best * 1e6;
}

function cell(text: string): string {
  return text.padEnd(13);
}
