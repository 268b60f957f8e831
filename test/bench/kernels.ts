import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { MERGEABLE_DTYPES, type MergeableDtype } from "../../src/core/dtype.ts";
import { compileKernels, HEAP_START, Kernels, panelBytes } from "../../src/engine/kernels.ts";
import { type KindSpeed, measureKinds } from "./kinds-run.ts";
import { commit, type Machine, machine } from "./machine.ts";

/*
 * What one thread computes, by kind, rank and type, beside memcpy and sha256: gigabytes of stored weights in a second of
 * the thread's own processor time, which a busy machine disturbs less than the clock on the wall.
 */
const ROWS = 32;
const COLS = 4096;
const RANKS = [1, 4, 8, 16, 32, 64, 128, 256];
const ROUNDS = 5;
/** Microseconds that a round takes at least. */
const ROUND_US = 60_000;
export const RESULTS = resolve(import.meta.dirname, "results/kernels.json");

/** GB/s of one type. */
export interface TypeSpeeds {
  readonly dtype: MergeableDtype;
  /** Low-rank updates of a tile in the cache, by rank. */
  readonly ranks: Readonly<Record<string, number>>;
  readonly statistics: number;
  readonly memcpy: number;
  readonly sha256: number;
}

export interface KernelResults {
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  /** By the processor, or emulated. */
  readonly fused: boolean;
  readonly types: readonly TypeSpeeds[];
  readonly kinds: readonly KindSpeed[];
}

export async function run(args: readonly string[]): Promise<void> {
  const module = await compileKernels();
  const emulateFma = args.includes("--emulate");
  const kernels = new Kernels(module, { emulateFma });
  const results: KernelResults = {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    machine: machine(),
    fused: kernels.fused,
    types: MERGEABLE_DTYPES.map((dtype) => speedsOf(kernels, dtype)),
    kinds: measureKinds(new Kernels(module, { emulateFma })),
  };
  console.log(`fused multiply-add ${results.fused ? "by the processor" : "emulated"}\n`);
  console.log(`${typeTable(results)}\n\n${kernelTable(results)}`);
  if (!emulateFma) writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
}

const figure = (gbps: number) => gbps.toFixed(gbps < 10 ? 2 : 0);

function typeTable({ types }: KernelResults): string {
  const head = ["GB/s", ...RANKS.map((rank) => `rank ${rank}`), "statistics", "memcpy", "sha256"];
  const rows = types.map(({ dtype, ranks, statistics, memcpy, sha256 }) => [
    dtype,
    ...RANKS.map((rank) => figure(ranks[rank]!)),
    ...[statistics, memcpy, sha256].map(figure),
  ]);
  return [head, ...rows].map((row) => row.map((cell) => cell.padEnd(11)).join("")).join("\n");
}

/** The table of README.md. */
export function kernelTable({ types, kinds, machine: { cpu } }: KernelResults): string {
  const bf16 = types.find(({ dtype }) => dtype === "BF16")!;
  const lines = kinds.map(({ kind, gbps }) => `| ${kind} | ${figure(gbps)} |`);
  return [
    `One thread of ${cpu}, GB/s of BF16 weights read from the page cache, computed and counted, but neither hashed nor written; sha256 alone takes ${figure(bf16.sha256)} GB/s.`,
    "",
    "| change to a 4096×4096 weight | GB/s |",
    "|---|---|",
    ...lines,
  ].join("\n");
}

function speedsOf(kernels: Kernels, dtype: MergeableDtype): TypeSpeeds {
  const elements = ROWS * COLS;
  const bytes = elements * (dtype === "F32" ? 4 : 2);
  const ranks = RANKS.map((rank) => [rank, bytes / mergeTime(kernels, dtype, rank)]);
  const tile = kernels.bytes(HEAP_START, bytes);
  const copy = new Uint8Array(bytes);
  const hash = createHash("sha256");
  return {
    dtype,
    ranks: Object.fromEntries(ranks),
    statistics: bytes / fastest(() => kernels.stats(dtype, HEAP_START, elements)),
    memcpy: bytes / fastest(() => copy.set(tile)),
    sha256: bytes / fastest(() => hash.update(tile)),
  };
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
  const total = (calls: number) => {
    const start = process.threadCpuUsage();
    for (let i = 0; i < calls; i++) work();
    const { user, system } = process.threadCpuUsage(start);
    return user + system;
  };
  // The system counts processor time in ticks of up to four milliseconds; and by the time a round is long enough, the
  // optimising compiler has replaced the first, quick machine code.
  let calls = 1;
  while (total(calls) < ROUND_US) calls *= 2;
  const rounds = Array.from({ length: ROUNDS }, () => total(calls));
  return (Math.min(...rounds) * 1000) / calls;
}
