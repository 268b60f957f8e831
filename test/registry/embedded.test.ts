import { type ChildProcess, fork, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import { isConnectionError, openDb } from "../../src/registry/db.ts";
import { type Embedded, startEmbedded } from "../../src/registry/embedded.ts";
import { lockHome } from "../../src/registry/embedded-process.ts";
import { migrate } from "../../src/registry/migrate.ts";
import { openQueue } from "../../src/registry/queue.ts";

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A home below a folder that only its owner may enter, as `mktemp -d` makes it. */
async function newHome(): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), "graftwork-embedded-"));
  await chmod(parent, 0o700);
  cleanups.push(() => rm(parent, { recursive: true, force: true }));
  return join(parent, "home");
}

async function start(home: string): Promise<Embedded> {
  const postgres = await startEmbedded({ home });
  cleanups.push(() => postgres.destroy());
  return postgres;
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

interface Started {
  child: ChildProcess;
  answer: { url: string; pid: number; adopted: boolean; error?: string };
}

async function startProcess(home: string): Promise<Started> {
  const child = fork(fileURLToPath(new URL("./embedded-process.ts", import.meta.url)), [home]);
  cleanups.push(async () => {
    await killProcess(child);
    await (await startEmbedded({ home })).destroy();
  });
  const answer = await new Promise<Started["answer"]>((done, fail) => {
    child.once("message", (message) => done(message as Started["answer"]));
    child.once("exit", (code) => fail(new Error(`exit code ${code}`)));
  });
  return { child, answer };
}

async function killProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((done) => child.once("exit", done));
  child.kill("SIGKILL");
  await exited;
}

/** A dead process that nobody has waited for yet still has its id, but no command line. */
async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return (
    process.platform !== "linux" || (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")) !== ""
  );
}

describe("the embedded Postgres", () => {
  it("starts below a 0700 folder, speaks UTF-8, and keeps its data and its password across a restart", async () => {
    const home = await newHome();
    const first = await start(home);
    expect(await query(first.url, "show server_encoding")).toEqual([{ server_encoding: "UTF8" }]);
    expect(await query(first.url, "show listen_addresses")).toEqual([{ listen_addresses: "127.0.0.1" }]);
    await query(first.url, "create table kept as select 'größer 🌱' as text");
    await first.stop();
    expect(await isAlive(first.pid())).toBe(false);
    const second = await start(home);
    expect(second.adopted).toBe(false);
    expect(second.url).toBe(first.url);
    expect(await query(second.url, "select * from kept")).toEqual([{ text: "größer 🌱" }]);
  });

  it("lets nobody in without the password, which only the owner can read", async () => {
    const home = await newHome();
    const postgres = await start(home);
    const url = new URL(postgres.url);
    url.password = "wrong";
    await expect(query(url.href, "select 1")).rejects.toThrow("password authentication failed");
    expect((await stat(join(home, "postgres.json"))).mode & 0o777).toBe(0o600);
  });

  it.runIf(process.getuid?.() === 0)(
    "as root keeps the cluster where the postgres user can reach it, and removes it with the home",
    async () => {
      const home = await newHome();
      const postgres = await start(home);
      const place = JSON.parse(await readFile(join(home, "postgres.json"), "utf8"));
      expect(place.folder.startsWith(home)).toBe(false);
      expect((await stat(`/proc/${postgres.pid()}`)).uid).not.toBe(0);
      await postgres.stop();
      await rm(dirname(home), { recursive: true });
      await start(await newHome());
      await expect(stat(place.folder)).rejects.toMatchObject({ code: "ENOENT" });
    },
  );

  it("comes back by itself after kill -9, and connections are made again", async () => {
    const postgres = await start(await newHome());
    const { db, close } = openDb({ url: postgres.url });
    cleanups.push(close);
    await db.$executeRaw`create table kept as select 1 as x`;
    const before = postgres.pid();
    process.kill(before, "SIGKILL");
    const deadline = Date.now() + 20_000;
    while (postgres.pid() === before && Date.now() < deadline) await sleep(50);
    let rows: unknown;
    while (rows === undefined && Date.now() < deadline) {
      rows = await db.$queryRaw`select x from kept`.catch(() => undefined);
      if (rows === undefined) await sleep(50);
    }
    expect(rows).toEqual([{ x: 1 }]);
    expect(postgres.pid()).not.toBe(before);
  });

  it("is away for a moment after kill -9 with errors that all say so, whatever was asked", async () => {
    const postgres = await start(await newHome());
    await migrate(postgres.url);
    const { db, pool, close } = openDb({ url: postgres.url });
    cleanups.push(close);
    const requests: (() => Promise<unknown>)[] = [
      () => db.$queryRaw`select 1`,
      () => db.model.findMany(),
      () => db.namespace.create({ data: { name: randomUUID() } }),
      () => db.$transaction(async (tx) => tx.namespace.create({ data: { name: randomUUID() } })),
      () => db.$transaction(async (tx) => void (await tx.$executeRaw`select pg_sleep(0.05)`)),
      () => pool.query("select 1"),
    ];
    for (const request of requests) await request();
    const before = postgres.pid();
    process.kill(before, "SIGKILL");
    const errors: unknown[] = [];
    const end = Date.now() + 20_000;
    for (let calm = 0; calm < 20 && Date.now() < end; ) {
      const results = await Promise.allSettled(requests.map((request) => request()));
      const failed = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
      errors.push(...failed);
      calm = failed.length === 0 && postgres.pid() !== before ? calm + 1 : 0;
      await sleep(5);
    }
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.filter((error) => !isConnectionError(error))).toEqual([]);
  });

  it("goes on delivering jobs after kill -9, those that were queued before and those that came after", async () => {
    const postgres = await start(await newHome());
    const { db, close } = openDb({ url: postgres.url });
    cleanups.push(close);
    const queue = await openQueue({ url: postgres.url, superviseSeconds: 1 });
    cleanups.push(() => queue.stop(1000));
    const enqueue = async (id: string) =>
      await db.$transaction((tx) => queue.enqueue(tx, { id, kind: "IMPORT_VERSION" }));
    const [before, after] = [randomUUID(), randomUUID()];
    await enqueue(before);
    const killed = postgres.pid();
    process.kill(killed, "SIGKILL");
    const deadline = Date.now() + 20_000;
    while (postgres.pid() === killed && Date.now() < deadline) await sleep(50);
    const seen: string[] = [];
    await queue.work("IMPORT_VERSION", 1, async ({ jobId }) => void seen.push(jobId));
    for (let done = false; !done && Date.now() < deadline; ) {
      done = await enqueue(after).then(
        () => true,
        () => false,
      );
      await sleep(50);
    }
    while (seen.length < 2 && Date.now() < deadline) await sleep(50);
    expect(seen.sort()).toEqual([before, after].sort());
  });

  it("is taken over by the next server when its own was killed, and stops with that one", async () => {
    const home = await newHome();
    const { child, answer } = await startProcess(home);
    await killProcess(child);
    expect(await isAlive(answer.pid)).toBe(true);
    const next = await start(home);
    expect(next.adopted).toBe(true);
    expect(next.pid()).toBe(answer.pid);
    expect(await query(next.url, "select 1 as x")).toEqual([{ x: 1 }]);
    await next.stop();
    expect(await isAlive(answer.pid)).toBe(false);
  });

  it("starts when both its server and Postgres were killed and the process id is another program's now", async () => {
    const home = await newHome();
    const { child, answer } = await startProcess(home);
    await killProcess(child);
    process.kill(answer.pid, "SIGKILL");
    while (await isAlive(answer.pid)) await sleep(20);
    const { folder } = JSON.parse(await readFile(join(home, "postgres.json"), "utf8"));
    const pidFile = join(folder, "data", "postmaster.pid");
    const text = await readFile(pidFile, "utf8");
    await writeFile(pidFile, text.replace(/^\d+/, String(process.pid)));
    const next = await start(home);
    expect(next.adopted).toBe(false);
    expect(await query(next.url, "select 1 as x")).toEqual([{ x: 1 }]);
  });

  it("serves one server a home and tells the second one so", async () => {
    const home = await newHome();
    const { answer } = await startProcess(home);
    await expect(startEmbedded({ home })).rejects.toMatchObject({ code: "HOME_IN_USE" });
    expect(await query(answer.url, "select 1 as x")).toEqual([{ x: 1 }]);
  });

  it.skipIf(process.platform !== "linux")(
    "takes the home of a server that has ended, though nobody has asked how it did",
    async () => {
      const home = await newHome();
      await mkdir(home);
      // What replaces the shell knows nothing of the child that the shell had: it stays a zombie. It must outlive the shell.
      const parent = spawn("sh", ["-c", "sleep 0.5 & echo $!; exec sleep 30"], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      cleanups.push(async () => parent.kill("SIGKILL"));
      const [line] = await once(parent.stdout, "data");
      const pid = Number(String(line));
      const read = async () => (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]!.split(" ");
      while ((await read())[0] !== "Z") await sleep(10);
      await writeFile(join(home, "server.lock"), `${pid} ${(await read())[19]}\n`);
      const unlock = await lockHome(home);
      await expect(lockHome(home)).rejects.toMatchObject({ code: "HOME_IN_USE" });
      await unlock();
    },
  );
});
