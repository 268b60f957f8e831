import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ViewerContext } from "../../src/registry/context.ts";
import { appendEvent, type StoredEvent, setProgress, tailEvents } from "../../src/registry/events.ts";
import { cancelJob, claimJob, failJob, failLostJobs, finishJob, retryJob } from "../../src/registry/jobs.ts";
import { startImport } from "../../src/registry/models.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
});
afterAll(() => test.close());

const importJob = (ctx: ViewerContext = s.admin) =>
  startImport(ctx, { name: `demo/m${randomUUID().slice(0, 8)}`, kind: "BASE", path: "/models/x" });
const job = (id: string) => test.db.job.findUniqueOrThrow({ where: { id } });
const events = (jobId: string) => test.db.jobEvent.findMany({ where: { jobId }, orderBy: { number: "asc" } });

async function until(done: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !done() && Date.now() < end; ) await sleep(20);
}

describe("a job", () => {
  it("is queued under its own id, in the transaction that makes its row", async () => {
    const { id } = await importJob();
    const rows = await test.db.$queryRaw`select name, data from pgboss.job where id = ${id}::uuid`;
    expect(rows).toEqual([{ name: "import-version", data: { jobId: id } }]);
    expect(await events(id)).toMatchObject([{ number: 1, type: "queued" }]);
  });

  it("is claimed with a new attempt each time, and not once it has ended", async () => {
    const { id } = await importJob();
    const first = await s.claim(id);
    const second = await s.claim(id);
    expect([first.attempt, second.attempt]).toEqual([1, 2]);
    await test.db.$transaction((tx) => finishJob(tx, second, { now: new Date() }));
    expect(await claimJob(s.worker, { jobId: id, workerId: "w" })).toBeNull();
    expect(await claimJob(s.worker, { jobId: randomUUID(), workerId: "w" })).toBeNull();
    expect((await events(id)).map((event) => event.type)).toEqual([
      "queued",
      "claimed",
      "claimed",
      "succeeded",
    ]);
  });

  it("lets only the latest attempt write: a worker that lost it learns so and changes nothing", async () => {
    const { id } = await importJob();
    const lost = await s.claim(id);
    await s.claim(id);
    const before = [await job(id), await events(id)];
    const writes = [
      () => appendEvent(test.db, lost, { type: "stage" }),
      () => setProgress(test.db, lost, { stage: "merge", done: 1, total: 2 }),
      () => failJob(s.worker, lost, { code: "X", message: "x" }),
      () => retryJob(s.worker, lost, { code: "INTERNAL", message: "x" }),
      () => test.db.$transaction((tx) => finishJob(tx, lost, { now: new Date() })),
    ];
    for (const write of writes) await expect(write()).rejects.toMatchObject({ code: "SUPERSEDED" });
    expect([await job(id), await events(id)]).toEqual(before);
  });

  it("keeps progress in its row and not among its events", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    await setProgress(test.db, claim, { stage: "digest", done: 2 ** 40, total: 2 ** 41 });
    expect(await job(id)).toMatchObject({
      stage: "digest",
      progressDone: 2n ** 40n,
      progressTotal: 2n ** 41n,
    });
    expect(await events(id)).toHaveLength(2);
  });

  it("that failed says why, with every reason", async () => {
    const { id } = await importJob();
    const error = {
      code: "BAD_FILE",
      message: "truncated",
      reasons: [{ code: "BAD_FILE", message: "truncated" }],
    };
    await failJob(s.worker, await s.claim(id), error);
    expect(await job(id)).toMatchObject({ state: "FAILED", error });
    expect((await job(id)).finishedAt).toBeInstanceOf(Date);
    expect((await events(id)).at(-1)).toMatchObject({ type: "failed", data: error });
  });

  it("that was given back can be claimed again", async () => {
    const { id } = await importJob();
    await retryJob(s.worker, await s.claim(id), { code: "DATABASE_LOST", message: "gone" });
    expect((await job(id)).state).toBe("QUEUED");
    expect((await s.claim(id)).attempt).toBe(2);
  });

  it("that its queue has given up is ended as failed, and others are left alone", async () => {
    const [lost, waiting] = [await importJob(), await importJob()];
    await s.claim(lost.id);
    await test.db.$executeRaw`update pgboss.job set state = 'failed' where id = ${lost.id}::uuid`;
    expect(await failLostJobs(s.worker)).toBe(1);
    expect(await job(lost.id)).toMatchObject({ state: "FAILED", error: { code: "WORKER_LOST" } });
    expect((await job(waiting.id)).state).toBe("QUEUED");
    expect(await failLostJobs(s.worker)).toBe(0);
  });
});

describe("cancelling", () => {
  it("stops a running job for good, and its worker learns it at the next write", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    expect((await cancelJob(s.admin, { jobId: id })).state).toBe("CANCELLED");
    await expect(appendEvent(test.db, claim, { type: "stage" })).rejects.toMatchObject({
      code: "SUPERSEDED",
    });
    expect(await claimJob(s.worker, { jobId: id, workerId: "w" })).toBeNull();
    const rows = await test.db.$queryRaw`select state::text from pgboss.job where id = ${id}::uuid`;
    expect(rows).toEqual([{ state: "cancelled" }]);
    expect((await cancelJob(s.admin, { jobId: id })).state).toBe("CANCELLED");
    expect((await events(id)).filter((event) => event.type === "cancelled")).toHaveLength(1);
  });

  it("is refused for a job that has ended", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    await test.db.$transaction((tx) => finishJob(tx, claim, { now: new Date() }));
    await expect(cancelJob(s.admin, { jobId: id })).rejects.toMatchObject({ code: "JOB_ENDED" });
  });

  it("needs the right to write; to a stranger the job does not exist", async () => {
    const { id } = await importJob();
    const reader = await s.account("cancel-reader", { demo: "VIEWER" });
    const stranger = await s.account("cancel-stranger", { elsewhere: "ADMIN" });
    await expect(cancelJob(reader, { jobId: id })).rejects.toMatchObject({ code: "FORBIDDEN" });
    await expect(cancelJob(stranger, { jobId: id })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(cancelJob(s.as({ ...reader.viewer, accountId: null }), { jobId: id })).rejects.toMatchObject(
      {
        code: "UNAUTHENTICATED",
      },
    );
  });
});

describe("idempotency keys", () => {
  const ask = (key: string, path = "/models/x") =>
    startImport(s.admin, { name: "demo/same", kind: "BASE", path, idempotencyKey: key });

  it("give the same job for the same input, also when both arrive at once", async () => {
    const jobs = await Promise.all([ask("k1"), ask("k1"), ask("k1")]);
    expect(new Set(jobs.map(({ id }) => id)).size).toBe(1);
    expect((await ask("k1")).id).toBe(jobs[0]?.id);
    expect((await ask("k2")).id).not.toBe(jobs[0]?.id);
  });

  it("refuse other input under a used key", async () => {
    await ask("k3");
    await expect(ask("k3", "/models/y")).rejects.toMatchObject({
      code: "IDEMPOTENCY_CONFLICT",
      field: "idempotencyKey",
    });
  });

  it.each([
    ["empty", ""],
    ["too long for an index", "k".repeat(201)],
    ["with a NUL, which Postgres cannot hold", "a\0b"],
    ["with half a surrogate pair", "a\ud800b"],
  ])("are refused when they are %s", async (_, key) => {
    await expect(ask(key)).rejects.toMatchObject({ code: "BAD_INPUT", field: "idempotencyKey" });
  });

  it("belong to one account", async () => {
    const other = await s.account("other-keys", { demo: "EDITOR" });
    const theirs = await startImport(other, {
      name: "demo/same",
      kind: "BASE",
      path: "/z",
      idempotencyKey: "k1",
    });
    expect(theirs.id).not.toBe((await ask("k1")).id);
  });
});

describe("events", () => {
  it("are numbered without gaps and read once each, in order, by readers that come early and late", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    const signal = new AbortController().signal;
    const read = async (after: number): Promise<StoredEvent[]> => {
      const seen: StoredEvent[] = [];
      for await (const event of tailEvents(s.worker, { jobId: id, after, signal })) seen.push(event);
      return seen;
    };
    const early = [read(0), read(0), read(2)];
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let n = 0; n < 25; n++) {
        await appendEvent(test.db, claim, { type: "progress-note", data: { writer, n } });
        if (n % 8 === 0) await sleep(5);
      }
    });
    await sleep(50);
    const late = read(100);
    await Promise.all(writers);
    await test.db.$transaction((tx) => finishJob(tx, claim, { now: new Date() }));
    const [all, again, fromTwo] = await Promise.all(early);
    const numbers = Array.from({ length: 203 }, (_, i) => i + 1);
    expect(all?.map((event) => event.number)).toEqual(numbers);
    expect(again).toEqual(all);
    expect(fromTwo).toEqual(all?.slice(2));
    expect(await late).toEqual(all?.slice(100));
    expect(await read(203)).toEqual([]);
    expect((await job(id)).lastEvent).toBe(203);
  });

  it("reach a reader at once, not at its next look", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    const stop = new AbortController();
    const seen: { number: number; at: number }[] = [];
    const reading = (async () => {
      const tail = tailEvents(s.worker, { jobId: id, after: 2, signal: stop.signal });
      for await (const event of tail) seen.push({ number: event.number, at: performance.now() });
    })();
    await sleep(200);
    const waits: number[] = [];
    for (let n = 1; n <= 5; n++) {
      const sent = performance.now();
      await appendEvent(test.db, claim, { type: "progress-note" });
      await until(() => seen.length === n);
      waits.push(seen[n - 1]!.at - sent);
    }
    // A reader that only looked once a second would need half a second on average.
    expect(waits.sort((a, b) => a - b)[2]).toBeLessThan(250);
    stop.abort();
    await reading;
  });

  it("still reach a reader whose listening connection was cut", async () => {
    const { id } = await importJob();
    const claim = await s.claim(id);
    const stop = new AbortController();
    const seen: number[] = [];
    const reading = (async () => {
      for await (const event of tailEvents(s.worker, { jobId: id, after: 0, signal: stop.signal })) {
        seen.push(event.number);
      }
    })();
    await until(() => seen.length === 2);
    await test.db.$queryRaw`
      select pg_terminate_backend(pid) from pg_stat_activity
      where query = 'listen graftwork_job_events' and datname = current_database()`;
    await appendEvent(test.db, claim, { type: "progress-note" });
    await until(() => seen.length === 3);
    expect(seen).toEqual([1, 2, 3]);
    stop.abort();
    await reading;
  });
});
