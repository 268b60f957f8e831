import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbedded } from "../src/registry/embedded.ts";
import { MIGRATIONS_FOLDER, migrate } from "../src/registry/migrate.ts";
import { missingSql } from "./schema-engine.ts";

/**
 * Prints what the migrations still lack of schema.prisma, in a throw-away Postgres:
 *
 *     node prisma/migrate-diff.ts            print it; exit code 1 when there is something
 *     node prisma/migrate-diff.ts NAME       write it to prisma/migrations/NAME/migration.sql
 */
async function main(name: string | undefined): Promise<number> {
  const home = await mkdtemp(join(tmpdir(), "graftwork-migrate-"));
  const postgres = await startEmbedded({ home, settings: { fsync: "off" } });
  try {
    await migrate(postgres.url);
    const sql = await missingSql(postgres.url);
    if (sql === "") {
      console.log("The migrations agree with schema.prisma.");
      return 0;
    }
    if (name === undefined) {
      console.log(sql);
      return 1;
    }
    await mkdir(join(MIGRATIONS_FOLDER, name), { recursive: true });
    await writeFile(join(MIGRATIONS_FOLDER, name, "migration.sql"), sql);
    console.log(`Wrote prisma/migrations/${name}/migration.sql`);
    return 0;
  } finally {
    await postgres.destroy();
    await rm(home, { recursive: true, force: true });
  }
}

process.exitCode = await main(process.argv[2]);
