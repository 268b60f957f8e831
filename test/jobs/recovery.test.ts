import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FAILPOINTS } from "../../src/engine/events.ts";
import { generateCheckpoint } from "../support/checkpoints.ts";
import { readTensors } from "../support/tensor-files.ts";
import {
  ended,
  importModel,
  type RunningServer,
  readJob,
  startMerge,
  startProcess,
  startServerProcess,
} from "./server-process.ts";

const DEMO = join(import.meta.dirname, "../fixtures/demo");
const ADAPTERS = ["sentiment", "light-touch", "polite-rewriter", "customer-support", "customer-support-2"];

let folder: string;
let home: string;
const running = new Set<RunningServer>();

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "graftwork-recovery-")));
  home = join(folder, "home");
  const server = await start();
  await generateCheckpoint(folder, { layers: 40, hidden: 1536, rank: 64 });
  const many = join(folder, "many");
  await generateCheckpoint(many, { layers: 12, hidden: 512, rank: 8, shards: 4 });
  const models = ADAPTERS.map((name) => [`demo/${name}`, join(DEMO, "adapters", name)]);
  models.push(["demo/base", join(DEMO, "base")]);
  models.push(["many/base", join(many, "base")], ["many/adapter", join(many, "adapter")]);
  models.push(["big/base", join(folder, "base")], ["big/adapter", join(folder, "adapter")]);
  const jobs = await Promise.all(models.map(([name, path]) => importModel(server.client, name!, path!)));
  for (const job of jobs) expect(await ended(server.client, job)).toMatchObject({ state: "SUCCEEDED" });
  expect((await stop(server)).code).toBe(0);
});

afterAll(async () => {
  for (const server of running) server.child.kill("SIGTERM");
  await Promise.all([...running].map((server) => server.exited));
  await rm(folder, { recursive: true, force: true });
});

async function start(env: Record<string, string> = {}): Promise<RunningServer> {
  const roots = `${DEMO}:${folder}`;
  const server = await startServerProcess({
    GRAFTWORK_HOME: home,
    GRAFTWORK_IMPORT_ROOTS: roots,
    GRAFTWORK_THREADS: "2",
    ...env,
  });
  running.add(server);
  void server.exited.then(() => running.delete(server));
  return server;
}

const stop = (server: RunningServer) => server.stop();

async function place() {
  return JSON.parse(await readFile(join(home, "postgres.json"), "utf8"));
}

async function query<R extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<R[]> {
  const { user, password, port } = await place();
  const client = new pg.Client({ user, password, port, host: "127.0.0.1", database: "graftwork" });
  await client.connect();
  try {
    return (await client.query<R>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

async function postgresPid(): Promise<number> {
  const pidFile = join((await place()).folder, "data", "postmaster.pid");
  return Number((await readFile(pidFile, "utf8")).split("\n")[0]);
}

const merged = () => readdir(join(home, "merged")).catch((): string[] => []);

type Digests = Readonly<Record<string, string>>;

async function expectedDigests(adapter: string): Promise<Digests> {
  const text = await readFile(join(DEMO, "expected", adapter, "expected.json"), "utf8");
  const tensors = Object.entries<{ digest: string }>(JSON.parse(text));
  return Object.fromEntries(tensors.map(([name, { digest }]) => [name, digest]));
}

async function digestsOf(file: string): Promise<Digests> {
  const digest = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return Object.fromEntries([...(await readTensors(file))].map(([name, { bytes }]) => [name, digest(bytes)]));
}

const equal = (a: Digests, b: Digests) =>
  Object.keys(a).length === Object.keys(b).length &&
  Object.entries(a).every(([name, digest]) => b[name] === digest);

/** Looks at the folder all the time: whatever becomes visible must be whole when it does. */
function watchOutputs(expected: Digests) {
  const known = new Set<string>();
  const partial: string[] = [];
  let watching = true;
  const look = async () => {
    while (watching) {
      for (const name of await merged()) {
        if (name.startsWith(".") || known.has(name)) continue;
        known.add(name);
        const at = join(home, "merged", name);
        const [weights, files] = await Promise.all([
          digestsOf(join(at, "model.safetensors")).catch(() => ({})),
          readdir(at),
        ]);
        const whole =
          equal(weights, expected) && files.includes("graftwork.json") && files.includes("config.json");
        if (!whole) partial.push(name);
      }
      await sleep(2);
    }
  };
  return {
    ignore: (names: readonly string[]) => {
      for (const name of names) known.add(name);
    },
    begin: look,
    end: () => {
      watching = false;
      return { seen: known.size, partial };
    },
  };
}

/** Versions, edges, folders and events of a merge that must have happened exactly once. */
async function expectOneVersion(model: string, jobId: string, outputs: readonly string[]): Promise<string> {
  const versions = await query<{ id: string; location: string; kind: string }>(
    `select v.id, v.location, v.origin::text as kind from versions v join models m on m.id = v.model_id
     join namespaces n on n.id = m.namespace_id where n.name || '/' || m.name = $1`,
    [model],
  );
  expect(versions).toHaveLength(1);
  expect(versions[0]!.kind).toBe("MERGED");
  const edges = await query("select role::text from lineage_edges where child_id = $1 order by position", [
    versions[0]!.id,
  ]);
  expect(edges).toEqual([{ role: "BASE" }, { role: "ADAPTER" }]);
  const after = await merged();
  expect(after.filter((name) => name.startsWith("."))).toEqual([]);
  expect(after.length).toBe(outputs.length + 1);
  const events = await query<{ number: number; type: string }>(
    "select number, type from job_events where job_id = $1 order by number",
    [jobId],
  );
  expect(events.map((event) => event.number)).toEqual(events.map((_, i) => i + 1));
  expect(events.filter((event) => event.type === "succeeded")).toHaveLength(1);
  return versions[0]!.location;
}

/** The uuid of a job behind its id in the API. */
const rowId = (id: string) => Buffer.from(id, "base64url").toString().split(":")[1]!;

/** The other one is about shards. */
const ONCE = FAILPOINTS.filter((point) => point !== "after-shard");

describe("after kill -9 of the server", () => {
  it.each(ONCE.map((point, i) => [point, ADAPTERS[i]!] as const))(
    "at %s, the merge ends with one version and the right bytes once it is started again",
    async (point, adapter) => {
      const output = `demo/${adapter}-merged`;
      const expected = await expectedDigests(adapter);
      const before = await merged();
      const watch = watchOutputs(expected);
      watch.ignore(before);
      const looking = watch.begin();

      const doomed = await start({ GRAFTWORK_FAILPOINT: point });
      // It may die before it answers.
      const asked = startMerge(doomed.client, { base: "demo/base", adapter: `demo/${adapter}`, output });
      await asked.catch(() => {});
      expect((await doomed.exited).signal).toBe("SIGKILL");
      const visible = (await merged()).filter((name) => !name.startsWith(".") && !before.includes(name));
      expect(visible).toHaveLength(point === "after-rename" || point === "after-record" ? 1 : 0);

      const server = await start();
      const began = Date.now();
      const [row] = await query<{ id: string }>(
        "select j.id from jobs j join merges g on g.id = j.merge_id join models m on m.id = g.output_model_id where m.name = $1",
        [`${adapter}-merged`],
      );
      const job = await ended(server.client, Buffer.from(`Job:${row!.id}`).toString("base64url"));
      expect(job).toMatchObject({ state: "SUCCEEDED", attempt: point === "after-record" ? 1 : 2 });
      expect(Date.now() - began).toBeLessThan(15_000);
      const location = await expectOneVersion(output, row!.id, before);
      expect(await digestsOf(join(location, "model.safetensors"))).toEqual(expected);
      const { seen, partial } = watch.end();
      await looking;
      expect(partial).toEqual([]);
      expect(seen).toBe(before.length + 1);
      const [{ adopted } = { adopted: 0 }] = await query<{ adopted: number }>(
        `select count(*)::int as adopted from merges g join jobs j on j.merge_id = g.id
         where j.id = $1 and g.report::text like '%taken over by digest%'`,
        [row!.id],
      );
      expect(adopted).toBe(point === "after-rename" ? 1 : 0);
      expect((await stop(server)).code).toBe(0);
    },
  );
});

/** Kills a server at `after-shard`; returns the staging folder with the shards that its notes call finished. */
async function killedAfterShard(output: string) {
  const before = await merged();
  const doomed = await start({ GRAFTWORK_FAILPOINT: "after-shard", GRAFTWORK_THREADS: "1" });
  const merge = { base: "many/base", adapter: "many/adapter", output, force: true };
  await startMerge(doomed.client, merge).catch(() => {});
  expect((await doomed.exited).signal).toBe("SIGKILL");
  const [name] = (await merged()).filter((entry) => entry.startsWith("."));
  const staging = join(home, "merged", name!);
  const notes = await readdir(join(staging, ".finished"));
  const finished = notes.filter((note) => note.endsWith(".json")).map((note) => note.slice(0, -5));
  return { before, staging, finished };
}

async function resumed(output: string) {
  const server = await start();
  const [row] = await query<{ id: string }>(
    `select j.id from jobs j join merges g on g.id = j.merge_id join models m on m.id = g.output_model_id
     where m.name = $1`,
    [output.split("/")[1]],
  );
  const job = await ended(server.client, Buffer.from(`Job:${row!.id}`).toString("base64url"));
  expect(job).toMatchObject({ state: "SUCCEEDED", attempt: 2 });
  const said = await query<{ message: string }>(
    "select data->>'message' as message from job_events where job_id = $1 and type = 'stage'",
    [row!.id],
  );
  return { server, jobId: row!.id, messages: said.map(({ message }) => message) };
}

const weightFiles = async (folder: string) =>
  (await readdir(folder)).filter((name) => name.endsWith(".safetensors")).sort();

async function allDigests(folder: string): Promise<Digests> {
  const files = await weightFiles(folder);
  return Object.assign({}, ...(await Promise.all(files.map((file) => digestsOf(join(folder, file))))));
}

describe("after kill -9 between two shards", () => {
  let whole: Digests;

  it("the finished shard is moved into the result and not made again", async () => {
    const { before, staging, finished } = await killedAfterShard("many/one");
    expect(finished).toHaveLength(1);
    const { ino } = await stat(join(staging, finished[0]!));
    const { server, jobId, messages } = await resumed("many/one");
    expect(messages).toContain("taking over 1 of 4 shards from an interrupted attempt");
    const location = await expectOneVersion("many/one", jobId, before);
    const files = await weightFiles(location);
    expect(files).toHaveLength(4);
    const kept = await Promise.all(files.map(async (file) => (await stat(join(location, file))).ino === ino));
    expect(kept).toEqual([true, false, false, false]);
    expect(await readdir(location)).not.toContain(".finished");
    whole = await allDigests(location);
    expect((await stop(server)).code).toBe(0);
  });

  it("a finished shard whose bytes are not the noted ones is made again", async () => {
    const { before, staging, finished } = await killedAfterShard("many/two");
    const shard = join(staging, finished[0]!);
    const bytes = await readFile(shard);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(shard, bytes);
    const { server, jobId, messages } = await resumed("many/two");
    expect(messages).toContain(`checking the finished shard ${finished[0]}`);
    expect(messages.filter((message) => message.startsWith("taking over"))).toEqual([]);
    const location = await expectOneVersion("many/two", jobId, before);
    expect(await allDigests(location)).toEqual(whole);
    expect((await stop(server)).code).toBe(0);
  });
});

/** Waits until a merge is in the middle of its bytes. */
async function midway(server: RunningServer, job: string): Promise<void> {
  for (;;) {
    const { state, progress } = await readJob(server.client, job);
    if (state !== "QUEUED" && state !== "RUNNING") throw new Error(`too late: the job is ${state}`);
    if (progress?.stage === "merge" && Number(progress.done) > 0) return;
    await sleep(10);
  }
}

describe("a merge in the middle of its bytes", () => {
  it("survives kill -9 of Postgres and is recorded once", async () => {
    const before = await merged();
    const server = await start();
    const job = await startMerge(server.client, {
      base: "big/base",
      adapter: "big/adapter",
      output: "big/one",
    });
    await midway(server, job);
    const pid = await postgresPid();
    process.kill(pid, "SIGKILL");
    const killed = Date.now();
    expect(await ended(server.client, job, 60_000)).toMatchObject({ state: "SUCCEEDED" });
    expect(Date.now() - killed).toBeLessThan(30_000);
    expect(await postgresPid()).not.toBe(pid);
    const [{ finished } = { finished: 0 }] = await query<{ finished: number }>(
      "select extract(epoch from finished_at) * 1000 as finished from jobs where id = $1",
      [rowId(job)],
    );
    expect(Number(finished)).toBeGreaterThan(killed);
    await expectOneVersion("big/one", rowId(job), before);
    expect((await stop(server)).code).toBe(0);
  });

  it("is handed back when the server is told to stop, and done by the next one", async () => {
    const before = await merged();
    const first = await start();
    const merge = { base: "big/base", adapter: "big/adapter", output: "big/two", force: true };
    const job = await startMerge(first.client, merge);
    await midway(first, job);
    const told = Date.now();
    expect(await stop(first)).toEqual({ code: 0, signal: null });
    expect(Date.now() - told).toBeLessThan(8000);
    await expect(postgresPid()).rejects.toThrow();
    expect((await merged()).filter((name) => name.startsWith("."))).toEqual([]);
    const second = await start();
    expect(await ended(second.client, job)).toMatchObject({ state: "SUCCEEDED", attempt: 2 });
    await expectOneVersion("big/two", rowId(job), before);
    expect((await stop(second)).code).toBe(0);
  });
});

describe("a second server", () => {
  it("on the same home says which process has it, and on the same port that it is taken", async () => {
    const first = await start();
    const same = startProcess("server.ts", { GRAFTWORK_HOME: home, PORT: "0" });
    expect((await same.exited).code).toBe(1);
    expect(same.output()).toMatch(new RegExp(`^HOME_IN_USE: .*process ${first.child.pid}\\b`));
    const elsewhere = join(folder, "other-home");
    const port = new URL(first.url).port;
    const taken = startProcess("server.ts", { GRAFTWORK_HOME: elsewhere, PORT: port });
    expect((await taken.exited).code).toBe(1);
    expect(taken.output()).toContain("PORT_IN_USE");
    await expect(readFile(join(elsewhere, "server.lock"))).rejects.toThrow();
    expect((await stop(first)).code).toBe(0);
  });
});
