import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { generateLlama, type LlamaShape } from "./llama.ts";
import { commit, type Machine, machine, median } from "./machine.ts";

/*
 * `merge` against `cp -r` of the same checkpoint: warm, interleaved, medians. fsync and start-up are apart, since cp
 * does neither; every digest (each input tensor, each written tensor) is part of the merge's time.
 */
const ROUNDS = 5;
export const RESULTS = resolve(import.meta.dirname, "results/merge.json");

const CASES: readonly (LlamaShape & { name: string })[] = [
  { name: "1 GB", layers: 10, shards: 3, rank: 16 },
  { name: "2 GB", layers: 22, shards: 5, rank: 16 },
];

/** Seconds. */
interface Times {
  readonly wall: number;
  /** User and system time of all threads. */
  readonly cpu: number;
}

export interface MergeCase {
  readonly name: string;
  readonly base_bytes: number;
  readonly rank: number;
  readonly cp: Times;
  /** Without fsync and start-up. */
  readonly merge: Times;
  readonly ratio: number;
  readonly fsync_s: number;
  readonly start_s: number;
  readonly peak_rss_bytes: number;
  readonly rounds: readonly { cp: Times; merge: Times; fsync_s: number; start_s: number }[];
}

export interface MergeResults {
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly threads: number;
  readonly cases: readonly MergeCase[];
}

/** Runs a command under bash's `time`; the command's stdout is returned as well. */
function timed(command: readonly string[]): Times & { stdout: string } {
  const script = 'TIMEFORMAT="%R %U %S"; time "$@" 2>/dev/null';
  const { status, stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...command], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${command.join(" ")} failed (${status}): ${stdout}${stderr}`);
  const [wall, user, system] = stderr.trim().split(/\s+/).map(Number) as [number, number, number];
  return { wall, cpu: user + system, stdout };
}

/** Dirty pages of one measurement must not be written back during the next. */
const settle = () => execFileSync("sync");

function measureCopy(from: string, to: string): Times {
  settle();
  const { wall, cpu } = timed(["cp", "-r", from, to]);
  rmSync(to, { recursive: true });
  return { wall, cpu };
}

function measureMerge(folder: string, out: string) {
  settle();
  const cli = [
    "src/cli/main.ts",
    "merge",
    "--base",
    join(folder, "base"),
    "--adapter",
    join(folder, "adapter"),
  ];
  const { cpu, stdout } = timed([process.execPath, ...cli, "--out", out, "--json"]);
  rmSync(out, { recursive: true });
  const { timing, peak_rss_bytes, threads } = JSON.parse(stdout);
  return {
    merge: { wall: timing.total_s - timing.sync_s, cpu },
    fsync_s: timing.sync_s as number,
    start_s: timing.start_s as number,
    peak_rss_bytes: peak_rss_bytes as number,
    threads: threads as number,
  };
}

async function runCase({ name, ...shape }: (typeof CASES)[number], folder: string) {
  const base_bytes = await generateLlama(folder, shape);
  const copied = join(folder, "copy");
  const merged = join(folder, "merged");
  // One of each before it counts: page cache, directories, Node's code cache.
  measureCopy(join(folder, "base"), copied);
  measureMerge(folder, merged);
  const rounds = Array.from({ length: ROUNDS }, (_, i) => {
    const round = { cp: measureCopy(join(folder, "base"), copied), ...measureMerge(folder, merged) };
    console.error(
      `${name} round ${i + 1}: cp ${round.cp.wall.toFixed(2)} s, merge ${round.merge.wall.toFixed(2)} s`,
    );
    return round;
  });
  const middle = (pick: (round: (typeof rounds)[number]) => number) => median(rounds.map(pick));
  const cp = { wall: middle((r) => r.cp.wall), cpu: middle((r) => r.cp.cpu) };
  const merge = { wall: middle((r) => r.merge.wall), cpu: middle((r) => r.merge.cpu) };
  const result: MergeCase = {
    name,
    base_bytes,
    rank: shape.rank,
    cp,
    merge,
    ratio: merge.wall / cp.wall,
    fsync_s: middle((r) => r.fsync_s),
    start_s: middle((r) => r.start_s),
    peak_rss_bytes: Math.max(...rounds.map((r) => r.peak_rss_bytes)),
    rounds: rounds.map(({ cp, merge, fsync_s, start_s }) => ({ cp, merge, fsync_s, start_s })),
  };
  return { result, threads: rounds[0]!.threads };
}

/** `npm run bench -- merge [--save]`: without `--save` the results are only printed */
export async function run(args: readonly string[]): Promise<void> {
  const cases: MergeCase[] = [];
  let threads = 0;
  const measured = commit();
  for (const shape of CASES) {
    const folder = mkdtempSync(join(tmpdir(), "graftwork-bench-"));
    try {
      const outcome = await runCase(shape, folder);
      cases.push(outcome.result);
      threads = outcome.threads;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const date = new Date().toISOString().slice(0, 10);
  const results: MergeResults = { date, commit: measured, machine: machine(), threads, cases };
  console.log(mergeTable(results));
  if (args.includes("--save")) writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
}

/** The table of the README, from results alone. */
export function mergeTable({ cases, machine: on, date, commit: at, threads }: MergeResults): string {
  const s = (value: number) => `${value.toFixed(2)} s`;
  const row = (c: MergeCase) =>
    `| ${c.name} (${(c.base_bytes / 1e9).toFixed(2)} GB, rank ${c.rank}) | ${s(c.cp.wall)} | ${s(c.merge.wall)} | ` +
    `**${c.ratio.toFixed(1)}×** | ${s(c.cp.cpu)} / ${s(c.merge.cpu)} | ${s(c.fsync_s)} | ${s(c.start_s)} | ` +
    `${Math.round(c.peak_rss_bytes / 1e6)} MB |`;
  return [
    "| checkpoint | `cp -r` | `merge`, digests included | ratio | CPU: cp / merge | fsync | start-up | peak memory |",
    "|---|---|---|---|---|---|---|---|",
    ...cases.map(row),
    "",
    `Median of ${ROUNDS} interleaved rounds, warm cache; ${threads} threads on ${on.cpu} (${on.cores} cores, ${on.memory_gib} GiB), ` +
      `Node ${on.node}, ${date}, commit ${at}.`,
  ].join("\n");
}
