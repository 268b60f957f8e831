import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { evaluationQuery, evaluationStartMutation, jobCancelMutation } from "../../src/client/documents.ts";
import {
  ended,
  importModel,
  type RunningServer,
  readJob,
  startMerge,
  startServerProcess,
} from "./server-process.ts";

const DEMO = join(import.meta.dirname, "../fixtures/demo");

let home: string;
let jsonl: string;
let server: RunningServer;

beforeAll(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "graftwork-evaluation-")));
  const lines = (await readFile(join(DEMO, "eval.jsonl"), "utf8")).trim().split("\n");
  // Long enough to be in the middle of it for a while.
  jsonl = Array.from({ length: 6 }, (_, i) => lines.map((line) => line.replace('": "', `": "${i} `)))
    .flat()
    .join("\n");
  server = await start();
  const imported = [
    await importModel(server.client, "demo/base", join(DEMO, "base")),
    await importModel(server.client, "demo/sentiment", join(DEMO, "adapters/sentiment")),
  ];
  for (const job of imported) expect(await ended(server.client, job)).toMatchObject({ state: "SUCCEEDED" });
  const merge = { base: "demo/base", adapter: "demo/sentiment", output: "demo/merged" };
  expect(await ended(server.client, await startMerge(server.client, merge))).toMatchObject({
    state: "SUCCEEDED",
  });
});

afterAll(async () => {
  await server.stop();
  await rm(home, { recursive: true, force: true });
});

async function start(): Promise<RunningServer> {
  return await startServerProcess({
    GRAFTWORK_HOME: home,
    GRAFTWORK_IMPORT_ROOTS: DEMO,
    GRAFTWORK_THREADS: "1",
    GRAFTWORK_MEMORY: "2000",
  });
}

async function evaluation(): Promise<{ job: string; id: string }> {
  const input = {
    reference: { base: { ref: "demo/base" }, sources: [{ version: { ref: "demo/sentiment" } }] },
    candidate: { version: { ref: "demo/merged" } },
    texts: { jsonl: { name: "many", jsonl } },
    prompts: [],
    floorTokens: 64,
    idempotencyKey: randomUUID(),
  };
  const { evaluationStart } = await server.client.request(evaluationStartMutation, { input });
  if (!evaluationStart.job) throw new Error(JSON.stringify(evaluationStart.userErrors));
  return { job: evaluationStart.job.id, id: evaluationStart.evaluation!.id };
}

/** Waits until level 2 is under way; returns the processes that the server has for it. */
async function midway(job: string): Promise<number[]> {
  for (;;) {
    const { state, progress, error } = await readJob(server.client, job);
    if (state !== "QUEUED" && state !== "RUNNING") throw new Error(`too late: ${state} ${error?.message}`);
    if (progress?.stage === "logits" && Number(progress.done) > 0) return await childrenOf(server.child.pid!);
    await sleep(10);
  }
}

/** Running processes that compute forward passes for this one. */
async function childrenOf(pid: number): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ");
  const found: number[] = [];
  for (const child of children.filter(Boolean)) {
    const command = await readFile(`/proc/${child}/cmdline`, "utf8").catch(() => "");
    if (command.includes("forward")) found.push(Number(child));
  }
  return found;
}

async function gone(pids: readonly number[], ms = 10_000): Promise<boolean> {
  for (const deadline = Date.now() + ms; Date.now() < deadline; await sleep(50)) {
    if (pids.every((pid) => !existsSync(`/proc/${pid}`))) return true;
  }
  return false;
}

const facts = async (id: string) => (await server.client.request(evaluationQuery, { id })).evaluation!;

async function reports(id: string): Promise<number> {
  const place = JSON.parse(await readFile(join(home, "postgres.json"), "utf8"));
  const { user, password, port } = place;
  const client = new pg.Client({ user, password, port, host: "127.0.0.1", database: "graftwork" });
  await client.connect();
  try {
    const row = Buffer.from(id, "base64url").toString().split(":")[1];
    const { rows } = await client.query("select 1 from evaluation_reports where evaluation_id = $1", [row]);
    return rows.length;
  } finally {
    await client.end();
  }
}

// Only Linux tells of a process's children without another program.
const onLinux = process.platform === "linux" ? describe : describe.skip;

onLinux("an evaluation in its middle", () => {
  it("is stopped by cancelling it: no report, and no process that goes on", async () => {
    const { job, id } = await evaluation();
    const pids = await midway(job);
    expect(pids).toHaveLength(1);
    const { jobCancel } = await server.client.request(jobCancelMutation, { input: { job } });
    expect(jobCancel.userErrors).toEqual([]);
    expect(await gone(pids)).toBe(true);
    expect(await ended(server.client, job)).toMatchObject({ state: "CANCELLED", result: null });
    expect(await facts(id)).toMatchObject({ state: "CANCELLED", verdict: null, report: null });
    expect(await reports(id)).toBe(0);
  });

  it("survives kill -9 of the server: no half report, its processes end, and the next server records the one report", async () => {
    const { job, id } = await evaluation();
    const pids = await midway(job);
    expect(await reports(id)).toBe(0);
    server.child.kill("SIGKILL");
    expect((await server.exited).signal).toBe("SIGKILL");
    expect(await gone(pids)).toBe(true);
    server = await start();
    expect(await ended(server.client, job, 60_000)).toMatchObject({
      state: "SUCCEEDED",
      attempt: 2,
      result: { evaluation: { id } },
    });
    const { state, verdict, reportPath, logits } = await facts(id);
    expect([state, verdict]).toEqual(["SUCCEEDED", "PASSED"]);
    expect(logits!.documents).toBe(jsonl.split("\n").length);
    expect(await reports(id)).toBe(1);
    const token = (await readFile(join(home, "admin-token"), "utf8")).trim();
    const headers = { authorization: `Bearer ${token}` };
    const page = await fetch(`${server.url}${reportPath}.html`, { headers });
    expect(await page.text()).toContain("demo/merged@1");
  });

  it("is handed back when the server is told to stop, and done by the next one", async () => {
    const { job, id } = await evaluation();
    const pids = await midway(job);
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(await gone(pids)).toBe(true);
    server = await start();
    expect(await ended(server.client, job, 60_000)).toMatchObject({ state: "SUCCEEDED", attempt: 2 });
    expect(await reports(id)).toBe(1);
  });
});
