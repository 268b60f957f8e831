import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { type Prisma, PrismaClient } from "../../prisma/client/client.ts";

/** The Prisma client of the registry; reads are allowed to `graphql` too. */
export type Db = PrismaClient;

/** Inside a transaction: everything of `Db` but transactions. */
export type Tx = Prisma.TransactionClient;

export interface OpenDb {
  readonly db: Db;
  /** The pool beneath, for LISTEN and for statements that Prisma cannot say. */
  readonly pool: pg.Pool;
  close(): Promise<void>;
}

export interface DbOptions {
  readonly url: string;
  /** Most connections at once; default 10. */
  readonly connections?: number;
  /** Told about connections that broke while idle, for example because Postgres was started again. */
  readonly log?: (message: string) => void;
  /** Told about every statement; for query budgets in tests. */
  readonly onQuery?: (sql: string) => void;
}

/** Opens a pool and a Prisma client on it. A connection that breaks is replaced by the next query. */
export function openDb(options: DbOptions): OpenDb {
  const pool = new pg.Pool({
    connectionString: options.url,
    max: options.connections ?? 10,
    // A server that is being started again answers within seconds; fail rather than hang for ever.
    connectionTimeoutMillis: 15_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    application_name: "graftwork",
  });
  // An idle connection that breaks is not an error of anybody's; without a listener it would end the process.
  pool.on("error", (error) => options.log?.(`a database connection broke: ${error.message}`));
  const client = new PrismaClient({
    adapter: new PrismaPg(pool),
    transactionOptions: { maxWait: 15_000, timeout: 30_000 },
    ...(options.onQuery ? { log: [{ emit: "event" as const, level: "query" as const }] } : {}),
  });
  const { onQuery } = options;
  if (onQuery) (client as PrismaClient<"query">).$on("query", (event) => onQuery(event.query));
  return {
    db: client,
    pool,
    close: async () => {
      await client.$disconnect();
      await pool.end();
    },
  };
}

// Class 08 is "connection exception", 57P01–57P03 "shut down, crashed, not accepting connections yet".
const BROKEN =
  /^(08...|57P0[123]|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|P1001|P1002|P1008|P1017|P2024|P2037)$/;

/** True for errors that say that the database went away, not that the statement was wrong: worth trying again. */
export function isConnectionError(error: unknown): boolean {
  for (let at = error; typeof at === "object" && at !== null; at = (at as { cause?: unknown }).cause) {
    const { code, message } = at as { code?: unknown; message?: unknown };
    if (typeof code === "string" && BROKEN.test(code)) return true;
    if (typeof message === "string" && /Connection terminated|server closed the connection/.test(message)) {
      return true;
    }
  }
  return false;
}
