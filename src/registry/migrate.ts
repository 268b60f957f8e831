import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { AppError } from "../core/errors.ts";

/** The migrations that belong to this code. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL("../../prisma/migrations", import.meta.url));

// The lock that `prisma migrate` takes, so that the two cannot run at once either.
const PRISMA_LOCK = 72707369;

/** Longer than a Postgres that is just being started takes, and short enough to wait for. */
const CONNECT_MS = 10_000;
const OLDEST = 150_000;

// Prisma's own bookkeeping table, so that its tools understand a database that we migrated.
const BOOKKEEPING = `create table if not exists _prisma_migrations (
  id varchar(36) primary key not null,
  checksum varchar(64) not null,
  finished_at timestamptz,
  migration_name varchar(255) not null,
  logs text,
  rolled_back_at timestamptz,
  started_at timestamptz not null default now(),
  applied_steps_count integer not null default 0
)`;

export interface Migration {
  /** The folder's name; migrations run in the order of their names. */
  readonly name: string;
  readonly sql: string;
  /** sha256 of the file, in hex, as Prisma computes it. */
  readonly checksum: string;
}

/** Reads `<folder>/<name>/migration.sql`, sorted by name. */
export async function readMigrations(folder: string = MIGRATIONS_FOLDER): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return await Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(join(folder, name, "migration.sql"), "utf8");
      return { name, sql, checksum: createHash("sha256").update(sql).digest("hex") };
    }),
  );
}

/**
 * Brings the database up to this code's migrations and returns the names of those it applied. Several processes may
 * call it at once: one does the work, the others wait for it.
 *
 * @throws AppError DATABASE_UNREACHABLE, DATABASE_TOO_OLD; MIGRATION_EDITED when an applied migration's file changed, MIGRATION_UNKNOWN when the database is
 * ahead of this code, MIGRATION_INCOMPLETE when another tool left one half done. Nothing is changed then.
 */
export async function migrate(databaseUrl: string, migrations?: readonly Migration[]): Promise<string[]> {
  const wanted = migrations ?? (await readMigrations());
  const client = await connect(databaseUrl);
  try {
    await client.query("select pg_advisory_lock($1)", [PRISMA_LOCK]);
    await client.query(BOOKKEEPING);
    const applied = await appliedNames(client, wanted);
    const missing = wanted.filter((migration) => !applied.has(migration.name));
    for (const migration of missing) await apply(client, migration);
    return missing.map((migration) => migration.name);
  } finally {
    // Closing the session releases the lock.
    await client.end();
  }
}

/** The first connection of a process: what is wrong with the address or the server is told here, in one line. */
async function connect(databaseUrl: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: CONNECT_MS });
  // One that breaks is noticed by the next statement; without a listener it would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (cause) {
    await client.end().catch(() => {});
    throw new AppError(
      "DATABASE_UNREACHABLE",
      `No connection to the Postgres at ${placeOf(client)}: ${reasonOf(cause)}. Check DATABASE_URL and that the server runs.`,
      { cause },
    );
  }
  const { rows } = await client.query<{ server_version_num: string }>("show server_version_num");
  const version = Number(rows[0]?.server_version_num);
  if (version >= OLDEST) return client;
  await client.end();
  throw new AppError(
    "DATABASE_TOO_OLD",
    `The Postgres at ${placeOf(client)} is version ${Math.floor(version / 10_000)}; Graftwork needs ${OLDEST / 10_000} or newer.`,
  );
}

/** Where a client connects, without its password. */
function placeOf({ host, port, database }: pg.Client): string {
  return `${host}:${port}, database "${database ?? ""}"`;
}

/** A name with several addresses fails with one error for each, and no message of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join("; ");
  return error instanceof Error ? error.message : String(error);
}

interface AppliedRow {
  migration_name: string;
  checksum: string;
  finished_at: Date | null;
}

async function appliedNames(client: pg.Client, wanted: readonly Migration[]): Promise<Set<string>> {
  const { rows } = await client.query<AppliedRow>(
    "select migration_name, checksum, finished_at from _prisma_migrations where rolled_back_at is null order by 1",
  );
  for (const row of rows) {
    const name = row.migration_name;
    const ours = wanted.find((migration) => migration.name === name);
    if (!ours) {
      throw new AppError(
        "MIGRATION_UNKNOWN",
        `The database holds migration ${name}, which this version of Graftwork does not know. ` +
          "It was written by a newer version: run that one, or use another database.",
        { details: { migration: name } },
      );
    }
    if (ours.checksum !== row.checksum) {
      throw new AppError(
        "MIGRATION_EDITED",
        `prisma/migrations/${name}/migration.sql is not the file that was applied to this database. ` +
          "Restore it and put the change into a new migration.",
        { details: { migration: name, applied: row.checksum, file: ours.checksum } },
      );
    }
    if (row.finished_at === null) {
      throw new AppError(
        "MIGRATION_INCOMPLETE",
        `Migration ${name} was begun by another tool and did not finish. Look at its row in ` +
          "_prisma_migrations, repair the database and mark it finished or rolled back.",
        { details: { migration: name } },
      );
    }
  }
  return new Set(rows.map((row) => row.migration_name));
}

/** The migration and the note that it ran commit together, so there is never half of one. */
async function apply(client: pg.Client, migration: Migration): Promise<void> {
  await client.query("begin");
  try {
    await client.query(migration.sql);
    await client.query(
      `insert into _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
       values ($1, $2, clock_timestamp(), $3, 1)`,
      [randomUUID(), migration.checksum, migration.name],
    );
    await client.query("commit");
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}
