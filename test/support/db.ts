import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { type Db, openDb } from "../../src/registry/db.ts";
import { type JobQueue, openQueue } from "../../src/registry/queue.ts";
import { TEMPLATE } from "./global-setup.ts";

export interface TestDatabase {
  readonly url: string;
  readonly db: Db;
  readonly pool: pg.Pool;
  /** Statements sent through Prisma since the last `queries.length = 0`. */
  readonly queries: string[];
  /** Opens a queue on this database; closed with it. Looks for lost workers every second. */
  queue(): Promise<JobQueue>;
  /** Disconnects and drops the database. */
  close(): Promise<void>;
}

/** A database of this test file's own: migrated, otherwise empty. Close it in `afterAll`. */
export async function testDatabase(): Promise<TestDatabase> {
  const { url, drop } = await createDatabase(TEMPLATE);
  const queries: string[] = [];
  const { db, pool, close } = openDb({ url, connections: 8, onQuery: (sql) => queries.push(sql) });
  const queues: JobQueue[] = [];
  return {
    url,
    db,
    pool,
    queries,
    queue: async () => {
      const queue = await openQueue({ url, superviseSeconds: 1 });
      queues.push(queue);
      return queue;
    },
    close: async () => {
      await Promise.all(queues.map((queue) => queue.stop(1000)));
      await close();
      await drop();
    },
  };
}

/** A database without tables. */
export async function emptyDatabase(): Promise<{ url: string; drop(): Promise<void> }> {
  return await createDatabase("template0");
}

async function createDatabase(template: string): Promise<{ url: string; drop(): Promise<void> }> {
  const response = await fetch(inject("postgresBroker"));
  const answer = await response.text();
  if (!response.ok) throw new Error(answer);
  const name = `test_${randomBytes(6).toString("hex")}`;
  await onCluster(answer, `create database ${name} template ${template} strategy file_copy`);
  const url = new URL(answer);
  url.pathname = `/${name}`;
  return { url: url.href, drop: async () => await onCluster(answer, `drop database ${name} with (force)`) };
}

async function onCluster(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
