import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ALL_LINEAR, generateAdapter, generateBase, LLAMA_1B, LLAMA_8B_SPARSE } from "./llama.ts";
import { commit, type Machine, machine, median } from "./machine.ts";
import { findPeft } from "./merge-run.ts";

/*
 * Level 2 of an evaluation against transformers' two float32 forward passes over the same 2,048 tokens, in turns on the
 * same processor; what the noise floor adds; and the memory of a model of 8 billion parameters.
 */
const ROUNDS = 3;
const TOKENS = 2_048;
const LARGE_TOKENS = 128;
export const RESULTS = resolve(import.meta.dirname, "results/parity.json");

interface SidesRun {
  readonly wall_s: number;
  readonly peak_rss_bytes: number;
  readonly mean_kld: number;
  readonly runtime: string;
  readonly threads: number;
}

interface TransformersRun {
  readonly load_s: number;
  readonly adapter_s: number;
  readonly merged_s: number;
  readonly peak_rss_bytes: number;
  readonly threads: number;
  readonly torch: string;
  readonly transformers: string;
}

export interface ParityResults {
  readonly date: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly tokens: number;
  readonly sides: SidesRun;
  /** Tokens through both sides, in a second. */
  readonly tokens_per_s: number;
  readonly with_floor: SidesRun;
  /** Null: no Python with transformers and PEFT. `faster`: its two passes, without loading, over ours with reading. */
  readonly transformers: (TransformersRun & { readonly faster: number }) | null;
  readonly large: SidesRun & { readonly tokens: number };
}

interface Paths {
  readonly base: string;
  readonly adapter: string;
  /** Empty: the recipe's result, computed on the fly. */
  readonly merged: string;
}

function runSides(
  { base, adapter, merged }: Paths,
  tokens: number,
  { vocabulary, floor = false }: { vocabulary: number; floor?: boolean },
): SidesRun {
  const script = join(import.meta.dirname, "parity-process.ts");
  const args = [script, base, adapter, merged, String(tokens), String(vocabulary), floor ? "floor" : ""];
  return JSON.parse(
    execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }),
  );
}

function runTransformers(python: string, { base, adapter, merged }: Paths): TransformersRun {
  const script = join(import.meta.dirname, "transformers_forward.py");
  const args = [script, base, adapter, merged, String(TOKENS), String(LLAMA_1B.vocabulary)];
  const { status, stdout, stderr } = spawnSync(python, args, {
    encoding: "utf8",
    env: { ...process.env, HF_HUB_OFFLINE: "1" },
  });
  if (status !== 0) throw new Error(stderr.slice(-2000));
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

async function generate(folder: string): Promise<Paths> {
  const paths = {
    base: join(folder, "base"),
    adapter: join(folder, "adapter"),
    merged: join(folder, "merged"),
  };
  await generateBase(paths.base, LLAMA_1B);
  await generateAdapter(paths.adapter, LLAMA_1B, { rank: 16, modules: ALL_LINEAR });
  const { base, adapter, merged } = paths;
  const command = [
    "src/cli/main.ts",
    "merge",
    "--base",
    base,
    "--adapter",
    adapter,
    "--out",
    merged,
    "--json",
  ];
  execFileSync(process.execPath, command, { stdio: ["ignore", "ignore", "inherit"] });
  return paths;
}

async function measureLarge(folder: string): Promise<ParityResults["large"]> {
  const [base, adapter] = [join(folder, "large"), join(folder, "large-adapter")];
  await generateBase(base, LLAMA_8B_SPARSE);
  await generateAdapter(adapter, LLAMA_8B_SPARSE, { rank: 16, modules: ALL_LINEAR });
  const { vocabulary } = LLAMA_8B_SPARSE;
  return { ...runSides({ base, adapter, merged: "" }, LARGE_TOKENS, { vocabulary }), tokens: LARGE_TOKENS };
}

const byWall = <T>(runs: readonly T[], wall: (run: T) => number): T => {
  const middle = median(runs.map(wall));
  return [...runs].sort((a, b) => Math.abs(wall(a) - middle) - Math.abs(wall(b) - middle))[0]!;
};

/** `npm run bench -- parity [--save]`: without `--save` the results are only printed. */
export async function run(args: readonly string[]): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "graftwork-bench-"));
  try {
    const results = await measure(folder);
    console.log(parityTable(results));
    if (args.includes("--save")) writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(folder: string): Promise<ParityResults> {
  const paths = await generate(folder);
  const { vocabulary } = LLAMA_1B;
  const python = findPeft();
  const ours: SidesRun[] = [];
  const theirs: TransformersRun[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(runSides(paths, TOKENS, { vocabulary }));
    if (python) theirs.push(runTransformers(python, paths));
    const other = theirs.at(-1);
    const passes = other ? `, transformers ${(other.adapter_s + other.merged_s).toFixed(1)} s` : "";
    console.error(`round ${round + 1}: both sides ${ours.at(-1)!.wall_s.toFixed(1)} s${passes}`);
  }
  const sides = byWall(ours, (one) => one.wall_s);
  const passes = (one: TransformersRun) => one.adapter_s + one.merged_s;
  const other = theirs.length > 0 ? byWall(theirs, passes) : null;
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: commit(),
    machine: machine(),
    tokens: TOKENS,
    sides,
    tokens_per_s: TOKENS / sides.wall_s,
    with_floor: runSides(paths, TOKENS, { vocabulary, floor: true }),
    transformers: other && { ...other, faster: passes(other) / sides.wall_s },
    large: await measureLarge(folder),
  };
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;

/** The results as a table for README. */
export function parityTable({
  tokens,
  sides,
  with_floor,
  transformers,
  large,
  machine: { cpu, cores },
}: ParityResults): string {
  const line = (what: string, seconds: number, count: number, bytes: number) =>
    `| ${what} | ${seconds.toFixed(1)} s | ${(count / seconds).toFixed(0)} | ${gigabytes(bytes)} |`;
  return [
    `| 1.1 billion parameters in BF16, ${tokens.toLocaleString("en")} tokens, ${cores} cores of ${cpu} | time | tokens/s through both sides | peak memory |`,
    "|---|---|---|---|",
    line("both sides, reading the weights included", sides.wall_s, tokens, sides.peak_rss_bytes),
    line(
      "the same with the noise floor over all tokens",
      with_floor.wall_s,
      tokens,
      with_floor.peak_rss_bytes,
    ),
    ...(transformers
      ? [
          line(
            `transformers ${transformers.transformers}, two float32 passes, loading left out (${transformers.faster.toFixed(1)}× as long)`,
            transformers.adapter_s + transformers.merged_s,
            tokens,
            transformers.peak_rss_bytes,
          ),
        ]
      : []),
    line(
      `8 billion parameters, ${large.tokens} tokens, merged on the fly`,
      large.wall_s,
      large.tokens,
      large.peak_rss_bytes,
    ),
  ].join("\n");
}
