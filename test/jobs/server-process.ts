import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type JobFacts,
  jobQuery,
  mergeStartMutation,
  modelImportMutation,
  type Started,
} from "../../src/client/documents.ts";
import { type Client, createClient } from "../../src/client/index.ts";

const ROOT = join(import.meta.dirname, "../..");

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A program of ours as a process of its own. */
export interface Running {
  readonly child: ChildProcess;
  /** Everything printed so far, on both streams. */
  output(): string;
  readonly exited: Promise<Exit>;
}

/** Starts `src/<file>` with nothing of our own environment but what it needs to run. */
export function startProcess(file: string, env: Record<string, string>, args: string[] = []): Running {
  const child = spawn(process.execPath, [join(ROOT, "src", file), ...args], {
    cwd: ROOT,
    env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  const collect = (chunk: Buffer) => {
    text += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const exited = new Promise<Exit>((resolve) =>
    child.once("exit", (code, signal) => resolve({ code, signal })),
  );
  return { child, output: () => text, exited };
}

/** Waits until the process printed what `pattern` matches. */
export async function printed(running: Running, pattern: RegExp, ms = 60_000): Promise<RegExpMatchArray> {
  let ended = false;
  void running.exited.then(() => {
    ended = true;
  });
  for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(20)) {
    const match = running.output().match(pattern);
    if (match) return match;
    if (ended) throw new Error(`the process ended:\n${running.output()}`);
  }
  throw new Error(`nothing like ${pattern} was printed:\n${running.output()}`);
}

export interface RunningServer extends Running {
  readonly url: string;
  readonly client: Client;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<Exit>;
}

/** The real server on a free port, ready, with a client that holds its admin token. */
export async function startServerProcess(
  env: Record<string, string> & { GRAFTWORK_HOME: string },
  args: string[] = [],
): Promise<RunningServer> {
  const running = startProcess("server.ts", { PORT: "0", ...env }, args);
  const [, url] = await printed(running, /is ready: (\S+)/);
  const token = (await readFile(join(env.GRAFTWORK_HOME, "admin-token"), "utf8")).trim();
  const client = createClient({ url: url!, token });
  const stop = async () => {
    await client.close();
    running.child.kill("SIGTERM");
    return await running.exited;
  };
  return { ...running, url: url!, client, stop };
}

export function importModel(client: Client, model: string, folder: string): Promise<string> {
  const input = { source: { local: folder }, model, idempotencyKey: randomUUID() };
  return started(client.request(modelImportMutation, { input }).then((answer) => answer.modelImport));
}

export function startMerge(
  client: Client,
  merge: {
    readonly base: string;
    readonly adapter: string;
    readonly output: string;
    readonly force?: boolean;
  },
): Promise<string> {
  const input = {
    base: { version: { ref: merge.base } },
    sources: [{ version: { ref: merge.adapter } }],
    output: { model: merge.output },
    force: merge.force ?? false,
    idempotencyKey: randomUUID(),
  };
  return started(client.request(mergeStartMutation, { input }).then((answer) => answer.mergeStart));
}

async function started(answer: Promise<Started>): Promise<string> {
  const { job, userErrors } = await answer;
  if (!job) throw new Error(JSON.stringify(userErrors));
  return job.id;
}

/** Waits for a job to end, also while the server is away for a moment. */
export async function ended(client: Client, id: string, ms = 30_000): Promise<JobFacts> {
  let last: JobFacts | null = null;
  for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(50)) {
    last = await readJob(client, id).catch(() => last);
    if (last && last.state !== "QUEUED" && last.state !== "RUNNING") return last;
  }
  throw new Error(`job ${id} did not end within ${ms} ms: ${JSON.stringify(last)}`);
}

export async function readJob(client: Client, id: string): Promise<JobFacts> {
  const { job } = await client.request(jobQuery, { id });
  if (!job) throw new Error(`job ${id} is not there`);
  return job;
}
