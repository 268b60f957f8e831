import { execFileSync, spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";

/** Seconds. */
export interface Times {
  readonly wall: number;
  /** User and system time of all threads. */
  readonly cpu: number;
}

/** One run of a merge. */
export interface MergeRun extends Times {
  /** Forcing the files to the disk; not part of `wall`. */
  readonly fsync_s: number;
  /** Until the command started; not part of `wall`. */
  readonly start_s: number;
  readonly peak_rss_bytes: number;
  readonly threads: number;
}

/** Runs a command under bash's `time`; the command's stdout is returned as well. */
function timed(command: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const script = 'TIMEFORMAT="%R %U %S"; time "$@" 2>/dev/null';
  const { status, stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...command], {
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  if (status !== 0) throw new Error(`${command.join(" ")} failed (${status}): ${stdout}${stderr}`);
  const [wall, user, system] = stderr.trim().split(/\s+/).map(Number) as [number, number, number];
  return { wall, cpu: user + system, stdout };
}

/** Dirty pages of one measurement must not be written back during the next. */
const settle = () => execFileSync("sync");

export function measureCopy(from: string, to: string): Times {
  settle();
  const { wall, cpu } = timed(["cp", "-r", from, to]);
  rmSync(to, { recursive: true });
  return { wall, cpu };
}

export interface MergeCommand {
  readonly base: string;
  readonly adapter: string;
  readonly out: string;
  /** Folder of what is remembered between runs; `null`: no digest is taken at all. */
  readonly cache: string | null;
}

/** Merges with the command line, or without digests by the engine alone. */
export function measureMerge({ base, adapter, out, cache }: MergeCommand): MergeRun {
  settle();
  const cli = ["src/cli/main.ts", "merge", "--base", base, "--adapter", adapter, "--out", out, "--json"];
  const plain = [join(import.meta.dirname, "plain-process.ts"), base, adapter, out];
  const command = [process.execPath, ...(cache === null ? plain : cli)];
  const { cpu, stdout } = timed(command, cache === null ? {} : { XDG_CACHE_HOME: cache, GRAFTWORK_HOME: "" });
  rmSync(out, { recursive: true });
  const { timing, peak_rss_bytes, threads } = JSON.parse(stdout);
  return {
    wall: timing.total_s - timing.sync_s,
    cpu,
    fsync_s: timing.sync_s,
    start_s: timing.start_s,
    peak_rss_bytes,
    threads,
  };
}

/** PEFT's load, merge and save, without its imports. */
export interface PeftRun {
  readonly wall_s: number;
  readonly load_s: number;
  readonly merge_s: number;
  readonly save_s: number;
  readonly import_s: number;
  readonly peak_rss_bytes: number;
  readonly peft: string;
  readonly torch: string;
  readonly transformers: string;
}

/** A Python that has PEFT: `$GRAFTWORK_BENCH_PYTHON`, or python3; `null` where neither has. */
export function findPeft(): string | null {
  const python = process.env.GRAFTWORK_BENCH_PYTHON ?? "python3";
  return spawnSync(python, ["-c", "import peft, transformers, torch"]).status === 0 ? python : null;
}

export function measurePeft(python: string, paths: Omit<MergeCommand, "cache">): PeftRun {
  settle();
  const script = join(import.meta.dirname, "peft_merge.py");
  const { stdout } = timed([python, script, paths.base, paths.adapter, paths.out], { HF_HUB_OFFLINE: "1" });
  rmSync(paths.out, { recursive: true });
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}
