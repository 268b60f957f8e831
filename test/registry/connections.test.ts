import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isConnectionError, type OpenDb, openDb } from "../../src/registry/db.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";

let test: TestDatabase;
let opened: OpenDb;
beforeAll(async () => {
  test = await testDatabase();
  opened = openDb({ url: test.url, connections: 2 });
});
afterAll(async () => {
  await opened.close();
  await test.close();
});

const terminate = (pid: number) => test.pool.query("select pg_terminate_backend($1)", [pid]);

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => null,
    (error) => error,
  );
}

describe("a connection that Postgres ends", () => {
  it("while somebody holds it and nobody listens does not end the process", async () => {
    const client = await opened.pool.connect();
    const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    await terminate(rows[0]!.pid);
    await sleep(200);
    const failure = await failureOf(client.query("select 1"));
    expect(failure).toBeInstanceOf(Error);
    client.release(true);
    expect((await opened.pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("in the middle of a statement of Prisma is known as a lost connection", async () => {
    const failure = await failureOf(opened.db.$queryRaw`select pg_terminate_backend(pg_backend_pid())`);
    expect(isConnectionError(failure)).toBe(true);
  });

  it("in the middle of a transaction of Prisma is known as a lost connection, and the next one works", async () => {
    const failure = await failureOf(
      opened.db.$transaction(async (tx) => {
        const [row] = await tx.$queryRaw<{ pid: number }[]>`select pg_backend_pid() as pid`;
        await terminate(row!.pid);
        await sleep(100);
        await tx.job.count();
      }),
    );
    expect(isConnectionError(failure)).toBe(true);
    expect(await opened.db.job.count()).toBe(0);
  });
});

describe("a lost connection", () => {
  it("is told from a statement that was wrong, also in Prisma's wrapping", async () => {
    expect(isConnectionError(await failureOf(opened.db.$queryRaw`select wrong from nowhere`))).toBe(false);
    expect(
      isConnectionError({
        code: "P2039",
        meta: { driverAdapterError: { cause: { originalCode: "57P03" } } },
      }),
    ).toBe(true);
    expect(
      isConnectionError(new Error("x", { cause: Object.assign(new Error(), { code: "ECONNREFUSED" }) })),
    ).toBe(true);
    expect(isConnectionError(null)).toBe(false);
    const nobody = openDb({ url: "postgresql://a:b@127.0.0.1:1/none" });
    expect(isConnectionError(await failureOf(nobody.db.job.count()))).toBe(true);
    await nobody.close();
  });
});
