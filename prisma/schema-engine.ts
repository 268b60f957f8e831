import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PrismaPg } from "@prisma/adapter-pg";
import {
  bindMigrationAwareSqlAdapterFactory,
  ColumnTypeEnum,
  type SqlMigrationAwareDriverAdapterFactory,
} from "@prisma/driver-adapter-utils";
import type { SchemaEngine } from "@prisma/schema-engine-wasm";
import pg from "pg";

const CHAR_OID = 18;
const TEXT_OID = 25;
const SCHEMA_FILE = fileURLToPath(new URL("./schema.prisma", import.meta.url));

/**
 * The SQL that a database lacks of schema.prisma; empty when they agree.
 *
 * Asks Prisma's schema engine as WebAssembly: the same code as the binary that `prisma migrate` downloads, from npm.
 * Used only while developing and in tests, to print and to check migrations.
 */
export async function missingSql(databaseUrl: string): Promise<string> {
  const engine = await openEngine(databaseUrl);
  try {
    const files = [{ path: "schema.prisma", content: readFileSync(SCHEMA_FILE, "utf8") }];
    const result = await engine.diff({
      from: { tag: "schemaDatasource", files, configDir: "." },
      to: { tag: "schemaDatamodel", files },
      script: true,
      exitCode: null,
      filters: { externalTables: [], externalEnums: [] },
    });
    const sql = result.stdout ?? "";
    return sql.trim() === "-- This is an empty migration." ? "" : sql;
  } finally {
    engine.free();
  }
}

async function openEngine(databaseUrl: string): Promise<SchemaEngine> {
  loaded ??= loadEngine();
  const Engine = await loaded;
  return await Engine.new(
    { datamodels: [["schema.prisma", readFileSync(SCHEMA_FILE, "utf8")]] },
    () => {},
    bindMigrationAwareSqlAdapterFactory(catalogAdapter(databaseUrl)),
  );
}

// Once a process: the bindings keep views of the first instance's memory.
let loaded: Promise<typeof SchemaEngine> | undefined;

async function loadEngine(): Promise<typeof SchemaEngine> {
  // The package's main file imports the .wasm as a module, which not every Node does: instantiate it by hand.
  const bindings = await import("@prisma/schema-engine-wasm/schema_engine_bg");
  const main = createRequire(import.meta.url).resolve("@prisma/schema-engine-wasm");
  const { instance } = await WebAssembly.instantiate(
    readFileSync(join(dirname(main), "schema_engine_bg.wasm")),
    {
      "./schema_engine_bg.js": bindings as unknown as WebAssembly.ModuleImports,
    },
  );
  const bound = bindings as unknown as {
    __wbg_set_wasm(exports: WebAssembly.Exports): void;
    SchemaEngine: typeof SchemaEngine;
  };
  bound.__wbg_set_wasm(instance.exports);
  (instance.exports.__wbindgen_start as () => void)();
  return bound.SchemaEngine;
}

/** The adapter refuses the catalog's one-byte "char" columns, which the engine needs: let them through, labelled. */
function catalogAdapter(databaseUrl: string): SqlMigrationAwareDriverAdapterFactory {
  const charColumns = new WeakMap<object, Set<number>>();
  class CatalogPool extends pg.Pool {
    // biome-ignore lint/suspicious/noExplicitAny: the adapter uses one of many overloads
    override async query(...args: any[]): Promise<any> {
      const result = await (super.query as (...all: unknown[]) => Promise<pg.QueryResult>)(...args);
      const found = new Set<number>();
      for (const [index, field] of result.fields.entries()) {
        if (field.dataTypeID !== CHAR_OID) continue;
        field.dataTypeID = TEXT_OID;
        found.add(index);
      }
      charColumns.set(result.rows, found);
      return result;
    }
  }
  const pool = new CatalogPool({ connectionString: databaseUrl });
  const factory = new PrismaPg(pool, { disposeExternalPool: true });
  const connect = factory.connect.bind(factory);
  factory.connect = async () => {
    const adapter = await connect();
    const queryRaw = adapter.queryRaw.bind(adapter);
    adapter.queryRaw = async (query) => {
      const result = await queryRaw(query);
      const chars = charColumns.get(result.rows);
      const columnTypes = result.columnTypes.map((type, index) =>
        chars?.has(index) ? ColumnTypeEnum.Character : type,
      );
      return { ...result, columnTypes };
    };
    return adapter;
  };
  return factory;
}
