import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, describe, expect, it } from "vitest";
import { missingSql } from "../../prisma/schema-engine.ts";
import { type Migration, migrate, readMigrations } from "../../src/registry/migrate.ts";
import { emptyDatabase } from "../support/db.ts";

const drops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const drop of drops.splice(0)) await drop();
});

async function database(): Promise<string> {
  const { url, drop } = await emptyDatabase();
  drops.push(drop);
  return url;
}

async function sql(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

describe("migrations", () => {
  it("agree with schema.prisma, and a difference would be seen", async () => {
    const url = await database();
    await migrate(url);
    expect(await missingSql(url)).toBe("");
    await sql(url, "alter table models drop column revision");
    expect(await missingSql(url)).toContain('ADD COLUMN     "revision"');
  });

  it("are applied once, and noted as Prisma notes them", async () => {
    const url = await database();
    const names = (await readMigrations()).map((migration) => migration.name);
    expect(await migrate(url)).toEqual(names);
    expect(await migrate(url)).toEqual([]);
    const rows = await sql(url, "select * from _prisma_migrations");
    expect(rows).toHaveLength(names.length);
    expect(rows[0]).toMatchObject({
      migration_name: "0001_start",
      applied_steps_count: 1,
      rolled_back_at: null,
    });
    expect(rows[0]?.checksum).toMatch(/^[0-9a-f]{64}$/);
    expect(rows[0]?.finished_at).toBeInstanceOf(Date);
  });

  it("are applied once by several processes that start at the same time", async () => {
    const url = await database();
    const script = fileURLToPath(new URL("./migrate-process.ts", import.meta.url));
    const results = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise<unknown>((done, fail) => {
            const child = fork(script, [url]);
            child.once("message", done).once("error", fail);
            child.once("exit", (code) => code !== 0 && fail(new Error(`exit code ${code}`)));
          }),
      ),
    );
    const names = (await readMigrations()).map((migration) => migration.name);
    expect(results.flat()).toEqual(names);
  });

  it("are refused when an applied one was edited since", async () => {
    const url = await database();
    const first: Migration = { name: "0001_a", sql: "create table a (x int)", checksum: "1" };
    await migrate(url, [first]);
    const edited = { ...first, checksum: "2" };
    const next: Migration = { name: "0002_b", sql: "create table b (x int)", checksum: "3" };
    await expect(migrate(url, [edited, next])).rejects.toMatchObject({ code: "MIGRATION_EDITED" });
    expect(await sql(url, "select to_regclass('b') as b")).toEqual([{ b: null }]);
  });

  it("are refused when the database is ahead of the code", async () => {
    const url = await database();
    await migrate(url, [{ name: "0009_future", sql: "select 1", checksum: "9" }]);
    await expect(migrate(url)).rejects.toMatchObject({
      code: "MIGRATION_UNKNOWN",
      message: expect.stringContaining("0009_future"),
    });
  });

  it("leave nothing of one that fails in the middle, and go on once it is repaired", async () => {
    const url = await database();
    const broken: Migration = { name: "0001_a", sql: "create table a (x int); select 1/0", checksum: "1" };
    await expect(migrate(url, [broken])).rejects.toThrow("division by zero");
    expect(await sql(url, "select to_regclass('a') as a")).toEqual([{ a: null }]);
    const repaired: Migration = { name: "0001_a", sql: "create table a (x int)", checksum: "2" };
    expect(await migrate(url, [repaired])).toEqual(["0001_a"]);
  });
});
