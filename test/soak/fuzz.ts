import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import type { CaseEnd, FuzzSetup } from "./fuzz-worker.ts";

/** No case of these sizes takes as long; one that does hangs. */
const CASE_MS = 60_000;
/** Peak of the whole process, Node itself included. */
const MAX_RSS_MB = 500;
const MAX_SHOWN = 20;

interface Failure {
  readonly index: number;
  readonly what: string;
}

export interface FuzzReport {
  readonly cases: number;
  readonly seed: number;
  /** How many cases ended how: `merged`, `planned`, or the code of the first reason. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly slowestCaseMs: number;
  readonly peakMb: number;
  readonly failures: readonly Failure[];
}

/**
 * Hostile input, thousands of times: files of adapters and bases are damaged, and reading, planning and merging them may
 * neither crash nor hang nor take memory, and must fail with an AppError where it fails.
 *
 *   npm run soak -- fuzz [--cases 10000] [--seed N] [--from 0] [--merges 500] [--json]
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      cases: { type: "string", default: "10000" },
      seed: { type: "string", default: "1" },
      from: { type: "string", default: "0" },
      merges: { type: "string", default: "500" },
      json: { type: "boolean", default: false },
    },
  });
  const [cases, seed, from, merges] = [values.cases, values.seed, values.from, values.merges].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  const report = await fuzz({ cases, seed, from, merges, tell: !values.json });
  if (values.json) console.log(JSON.stringify(report));
  else print(report);
  if (report.failures.length > 0 || report.peakMb > MAX_RSS_MB) process.exitCode = 1;
}

interface FuzzRequest {
  readonly cases: number;
  readonly seed: number;
  readonly from: number;
  readonly merges: number;
  readonly tell: boolean;
}

async function fuzz({ cases, seed, from, merges, tell }: FuzzRequest): Promise<FuzzReport> {
  const scratch = await mkdtemp(join(tmpdir(), "graftwork-fuzz-"));
  const outcomes: Record<string, number> = {};
  const failures: Failure[] = [];
  let slowestCaseMs = 0;
  let runner: Runner | null = null;
  try {
    for (let index = from; index < from + cases && failures.length < MAX_SHOWN; index++) {
      runner ??= await Runner.start({ seed, scratch: join(scratch, "case"), maxMerges: merges });
      const start = performance.now();
      const end = await runner.run(index);
      slowestCaseMs = Math.max(slowestCaseMs, performance.now() - start);
      if (end.failure !== null) failures.push({ index, what: end.failure });
      if (end.ended) runner = null;
      const name =
        end.outcome === null ? "FAILED" : "code" in end.outcome ? end.outcome.code : end.outcome.kind;
      outcomes[name] = (outcomes[name] ?? 0) + 1;
      if (tell && (index + 1 - from) % 500 === 0)
        console.log(`${index + 1 - from} cases, peak ${peakMb()} MB`);
    }
  } finally {
    await runner?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
  return { cases, seed, outcomes, slowestCaseMs: Math.round(slowestCaseMs), peakMb: peakMb(), failures };
}

const peakMb = () => Math.round(process.resourceUsage().maxRSS / 1024);

/** A thread that runs one case after another, watched from outside: what never returns cannot watch itself. */
class Runner {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(setup: FuzzSetup): Promise<Runner> {
    const worker = new Worker(new URL("./fuzz-worker.ts", import.meta.url), {
      workerData: setup,
      // Beyond this the thread ends with an error that names its case, not the process.
      resourceLimits: { maxOldGenerationSizeMb: MAX_RSS_MB },
    });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    worker.removeAllListeners("error");
    return new Runner(worker);
  }

  async run(index: number): Promise<CaseEnd & { readonly ended: boolean }> {
    const { promise, resolve } = Promise.withResolvers<CaseEnd & { readonly ended: boolean }>();
    const fail = (failure: string) => resolve({ index, outcome: null, failure, ended: true });
    const timer = setTimeout(() => fail(`it did not end in ${CASE_MS} ms`), CASE_MS);
    const onMessage = (end: CaseEnd) => resolve({ ...end, ended: false });
    const onError = (error: Error) => fail(`the thread ended: ${error.stack ?? error.message}`);
    this.#worker.once("message", onMessage).once("error", onError);
    this.#worker.postMessage(index);
    const end = await promise;
    clearTimeout(timer);
    this.#worker.off("message", onMessage).off("error", onError);
    if (end.ended) await this.stop();
    return end;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

function print({ cases, seed, outcomes, slowestCaseMs, peakMb: peak, failures }: FuzzReport): void {
  for (const [name, count] of Object.entries(outcomes).sort((a, b) => b[1] - a[1])) {
    console.log(`${String(count).padStart(7)}  ${name}`);
  }
  console.log(
    `${cases} cases of seed ${seed}, slowest ${slowestCaseMs} ms, peak ${peak} MB (limit ${MAX_RSS_MB} MB)`,
  );
  for (const { index, what } of failures)
    console.log(`\ncase ${index} (--seed ${seed} --from ${index} --cases 1):\n${what}`);
  console.log(failures.length === 0 ? "no failure other than an AppError" : `${failures.length} failures`);
}
