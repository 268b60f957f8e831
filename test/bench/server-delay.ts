import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { ended, importModel, readJob, startMerge, startServerProcess } from "../jobs/server-process.ts";

/** How long the API's event loop was held up while a merge ran in the same process, in milliseconds. */
export interface LoopDelay {
  readonly max_ms: number;
  readonly p99_ms: number;
  readonly mean_ms: number;
  readonly looks: number;
  /** Time of the slowest of the queries that a client sent meanwhile. */
  readonly slowest_query_ms: number;
  readonly queries: number;
}

/** Merges on a real server with the embedded database, from the request to the end of the job. */
export async function measureLoopDelay(base: string, adapter: string): Promise<LoopDelay> {
  const folder = mkdtempSync(join(tmpdir(), "graftwork-bench-server-"));
  const file = join(folder, "delay.json");
  const server = await startServerProcess({
    GRAFTWORK_HOME: join(folder, "home"),
    GRAFTWORK_IMPORT_ROOTS: `${base}:${adapter}`,
    GRAFTWORK_LOG: "warn",
    NODE_OPTIONS: `--import=${pathToFileURL(join(import.meta.dirname, "loop-delay.ts")).href}`,
    BENCH_LOOP_DELAY: file,
  });
  try {
    const imports = [
      await importModel(server.client, "bench/base", base),
      await importModel(server.client, "bench/adapter", adapter),
    ];
    for (const id of imports) await succeeded(server, id);
    server.child.kill("SIGUSR2");
    await sleep(200);
    const merge = { base: "bench/base", adapter: "bench/adapter", output: "bench/merged" };
    const job = await startMerge(server.client, merge);
    const asked = await queryUntilEnd(server, job);
    await succeeded(server, job);
    server.child.kill("SIGUSR2");
    for (let waited = 0; !existsSync(file) && waited < 10_000; waited += 50) await sleep(50);
    return { ...JSON.parse(readFileSync(file, "utf8")), ...asked };
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

type Server = Awaited<ReturnType<typeof startServerProcess>>;

async function succeeded({ client }: Server, id: string): Promise<void> {
  const { state, error } = await ended(client, id, 600_000);
  if (state !== "SUCCEEDED") throw new Error(`a job ended ${state}: ${JSON.stringify(error)}`);
}

async function queryUntilEnd({ client }: Server, job: string) {
  let slowest_query_ms = 0;
  for (let queries = 1; ; queries++) {
    const asked = performance.now();
    const { state } = await readJob(client, job);
    slowest_query_ms = Math.max(slowest_query_ms, performance.now() - asked);
    if (state !== "QUEUED" && state !== "RUNNING") return { slowest_query_ms, queries };
    await sleep(20);
  }
}
