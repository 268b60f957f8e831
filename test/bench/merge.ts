import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import {
  ALL_LINEAR,
  generateAdapter,
  generateBase,
  LLAMA_1B,
  LLAMA_8B_SPARSE,
  type LoraShape,
} from "./llama.ts";
import { commit, type Machine, machine, median } from "./machine.ts";
import {
  findPeft,
  type MergeRun,
  measureCopy,
  measureMerge,
  measurePeft,
  type PeftRun,
  type Times,
} from "./merge-run.ts";
import { type LoopDelay, measureLoopDelay } from "./server-delay.ts";

/*
 * `merge` against `cp -r` of the same checkpoint: warm, interleaved, medians. fsync and start-up are apart, since cp
 * does neither. Beside it PEFT, the memory at 16 GB, and how long the API was held up while a merge ran.
 */
const ROUNDS = 5;
export const RESULTS = resolve(import.meta.dirname, "results/merge.json");

interface Line extends LoraShape {
  readonly name: string;
  /** What is hashed: nothing, what is written (the base's digests being known), or the base as well. */
  readonly digests: "none" | "written" | "all";
  /** Times cp that it may take. */
  readonly limit: number | null;
}

const QV = ["q_proj", "v_proj"];
const LINES: readonly Line[] = [
  { name: "all linear layers, rank 16", rank: 16, modules: ALL_LINEAR, digests: "none", limit: 3 },
  { name: "all linear layers, rank 16", rank: 16, modules: ALL_LINEAR, digests: "written", limit: 4 },
  { name: "all linear layers, rank 16", rank: 16, modules: ALL_LINEAR, digests: "all", limit: null },
  { name: "all linear layers, rank 64", rank: 64, modules: ALL_LINEAR, digests: "none", limit: 5 },
  { name: "all linear layers, rank 64", rank: 64, modules: ALL_LINEAR, digests: "written", limit: 5 },
  { name: "q and v, rank 16", rank: 16, modules: QV, digests: "written", limit: 1.5 },
];

export interface LineResult extends Pick<Line, "name" | "digests" | "limit"> {
  readonly merge: Times;
  readonly ratio: number;
  readonly fsync_s: number;
  readonly start_s: number;
  readonly peak_rss_bytes: number;
  readonly rounds: readonly MergeRun[];
}

export interface MergeResults {
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly threads: number;
  readonly base_bytes: number;
  readonly cp: Times;
  readonly cp_rounds: readonly Times[];
  readonly lines: readonly LineResult[];
  /** `null`: not enough room on the disk. */
  readonly large: { readonly base_bytes: number; readonly peak_rss_bytes: number } | null;
  readonly loop: LoopDelay;
  /** `null`: no Python with PEFT. `faster`: how many times the merge with digests of what is written takes. */
  readonly peft: (PeftRun & { readonly faster: number }) | null;
}

const adapterOf = ({ rank, modules }: LoraShape) => `adapter-${rank}-${modules.length}`;

async function generate(folder: string): Promise<number> {
  for (const line of LINES) await generateAdapter(join(folder, adapterOf(line)), LLAMA_1B, line);
  return generateBase(join(folder, "base"), LLAMA_1B);
}

function measureLines(folder: string) {
  const base = join(folder, "base");
  const copied = join(folder, "copy");
  const cacheOf = ({ digests }: Line, round: number) =>
    digests === "none" ? null : join(folder, digests === "written" ? "cache" : `cache-${round}`);
  const once = (line: Line, round: number) =>
    measureMerge({
      base,
      adapter: join(folder, adapterOf(line)),
      out: join(folder, "out"),
      cache: cacheOf(line, round),
    });
  // One of each before it counts: page cache, directories, Node's code cache, digests.
  measureCopy(base, copied);
  for (const line of LINES) once(line, -1);
  const copies: Times[] = [];
  const runs = LINES.map((): MergeRun[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, line] of LINES.entries()) {
      copies.push(measureCopy(base, copied));
      runs[i]!.push(once(line, round));
      const [cp, merge] = [copies.at(-1)!, runs[i]!.at(-1)!];
      console.error(
        `round ${round + 1}, ${line.name}, digests ${line.digests}: cp ${cp.wall.toFixed(2)} s, merge ${merge.wall.toFixed(2)} s`,
      );
    }
  }
  return { copies, runs };
}

const middle = <T>(of: readonly T[], pick: (one: T) => number) => median(of.map(pick));
const times = (of: readonly Times[]): Times => ({
  wall: middle(of, (t) => t.wall),
  cpu: middle(of, (t) => t.cpu),
});

function lineResult({ name, digests, limit }: Line, rounds: readonly MergeRun[], cp: Times): LineResult {
  const merge = times(rounds);
  return {
    name,
    digests,
    limit,
    merge,
    ratio: merge.wall / cp.wall,
    fsync_s: middle(rounds, (r) => r.fsync_s),
    start_s: middle(rounds, (r) => r.start_s),
    peak_rss_bytes: Math.max(...rounds.map((r) => r.peak_rss_bytes)),
    rounds,
  };
}

/** Peak memory of a merge into a model of 16 GB, whose files hold nothing: the output is as large as it says. */
async function measureLarge(folder: string): Promise<MergeResults["large"]> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < 20e9) return null;
  const [base, adapter] = [join(folder, "large"), join(folder, "large-adapter")];
  const base_bytes = await generateBase(base, LLAMA_8B_SPARSE);
  await generateAdapter(adapter, LLAMA_8B_SPARSE, { rank: 16, modules: ALL_LINEAR });
  const { peak_rss_bytes } = measureMerge({
    base,
    adapter,
    out: join(folder, "large-out"),
    cache: join(folder, "cache-large"),
  });
  return { base_bytes, peak_rss_bytes };
}

/** `npm run bench -- merge [--save]`: without `--save` the results are only printed. */
export async function run(args: readonly string[]): Promise<void> {
  const measured = commit();
  const folder = mkdtempSync(join(tmpdir(), "graftwork-bench-"));
  try {
    const base_bytes = await generate(folder);
    const { copies, runs } = measureLines(folder);
    const cp = times(copies);
    const lines = LINES.map((line, i) => lineResult(line, runs[i]!, cp));
    const [base, adapter] = [join(folder, "base"), join(folder, adapterOf(LINES[0]!))];
    console.error("the API's event loop during a merge");
    const loop = await measureLoopDelay(base, adapter);
    console.error("PEFT");
    const python = findPeft();
    const peft =
      python === null ? null : measurePeft(python, { base, adapter, out: join(folder, "peft-out") });
    console.error("memory at 16 GB");
    const large = await measureLarge(folder);
    const written = lines.find((line) => line.digests === "written")!;
    const results: MergeResults = {
      date: new Date().toISOString().slice(0, 10),
      commit: measured,
      machine: machine(),
      threads: runs[0]![0]!.threads,
      base_bytes,
      cp,
      cp_rounds: copies,
      lines,
      large,
      loop,
      peft: peft && { ...peft, faster: peft.wall_s / written.merge.wall },
    };
    console.log(mergeTable(results));
    if (args.includes("--save")) writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const HASHED = { none: "none", written: "all that is written", all: "base and output" } as const;
const s = (value: number) => `${value.toFixed(2)} s`;
const mb = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
const gb = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;

/** The table of the README, from results alone. */
export function mergeTable(results: MergeResults): string {
  const { cp, lines, machine: on, base_bytes, threads, date, commit: at } = results;
  const row = (line: LineResult) =>
    `| ${line.name} | ${HASHED[line.digests]} | ${s(line.merge.wall)} | **${line.ratio.toFixed(1)}×** | ` +
    `${line.limit === null ? "" : `≤ ${line.limit}×`} | ${s(line.merge.cpu)} | ${mb(line.peak_rss_bytes)} |`;
  return [
    "| adapter | digests | `merge` | of `cp -r` | goal | CPU | peak memory |",
    "|---|---|---|---|---|---|---|",
    ...lines.map(row),
    "",
    ...notes(results),
    "",
    `A Llama-shaped checkpoint of ${gb(base_bytes)} in ${LLAMA_1B.shards} shards, BF16; \`cp -r\` takes ${s(cp.wall)}. Median of ${ROUNDS} interleaved rounds, ` +
      `warm cache, without fsync (${s(middle(lines, (line) => line.fsync_s))}) and start-up (${s(middle(lines, (line) => line.start_s))}); ` +
      `${threads} threads on ${on.cpu} (${on.cores} cores, ${on.memory_gib} GiB), Node ${on.node}, ${date}, commit ${at}.`,
  ].join("\n");
}

function notes({ large, loop, peft, lines, cp }: MergeResults): string[] {
  const peak = Math.max(...lines.map((line) => line.peak_rss_bytes));
  return [
    ...(large
      ? [
          `- Peak memory: ${mb(peak)} at most here, ${mb(large.peak_rss_bytes)} at ${gb(large.base_bytes)} (goal: ≤ 250 MB).`,
        ]
      : []),
    `- The API's event loop while a merge runs in the server: at most ${loop.max_ms.toFixed(0)} ms late, 99 % of the time less than ${loop.p99_ms.toFixed(0)} ms (goals: ≤ 50 ms, ≤ 20 ms); slowest of ${loop.queries} queries ${loop.slowest_query_ms.toFixed(0)} ms.`,
    ...(peft
      ? [
          `- PEFT ${peft.peft} (load, merge_and_unload, save_pretrained; imports apart): ${s(peft.wall_s)} and ${mb(peft.peak_rss_bytes)}, **${peft.faster.toFixed(0)}×** the time of \`merge\` with digests of all that it writes (\`cp -r\` alone would be ${(peft.wall_s / cp.wall).toFixed(0)}× as fast).`,
        ]
      : []),
  ];
}
