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

/**
 * A connection that hears its own end. A pool takes its listener off a connection that it hands out, and one that
 * breaks before its user has put one on would end the process: seen when Postgres was killed between two statements.
 * Whoever uses the connection learns of the end by the next statement, which fails.
 */
export class HeardClient extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config);
    this.on("error", () => {});
  }
}

/** Opens a pool and a Prisma client on it. A connection that breaks is replaced by the next query. */
export function openDb(options: DbOptions): OpenDb {
  const pool = new pg.Pool({
    Client: HeardClient,
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

/** Waits until no other transaction holds this name, and holds it until this one ends. */
export async function lockName(tx: Tx, name: string): Promise<void> {
  await tx.$queryRaw`select 1 from (select pg_advisory_xact_lock(hashtextextended(${name}, 0))) locked`;
}

// Class 08 is "connection exception", 57P01–57P03 "shut down, crashed, not accepting connections yet"; P… are Prisma's.
const BROKEN_CODE =
  /^(08...|57P0[123]|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|P1001|P1002|P1008|P1017|P2024|P2037)$/;
const BROKEN_KIND = new Set([
  "DatabaseNotReachable",
  "ConnectionClosed",
  "SocketTimeout",
  "TooManyConnections",
]);
const BROKEN_MESSAGE =
  /Connection terminated|is not queryable|server closed the connection|Unable to start a transaction in the given time/;

interface MaybeBroken {
  readonly code?: unknown;
  readonly originalCode?: unknown;
  readonly kind?: unknown;
  readonly message?: unknown;
  readonly cause?: unknown;
  readonly meta?: { readonly driverAdapterError?: unknown };
}

/**
 * True for errors that say that the database went away, not that the statement was wrong: worth trying again. Prisma
 * says it in several ways: a code of its own, or for raw SQL the driver's error in `meta`.
 */
export function isConnectionError(error: unknown): boolean {
  if (typeof error !== "object" || error === null) return false;
  const { code, originalCode, kind, message, cause, meta } = error as MaybeBroken;
  return (
    [code, originalCode].some((text) => typeof text === "string" && BROKEN_CODE.test(text)) ||
    (typeof kind === "string" && BROKEN_KIND.has(kind)) ||
    (typeof message === "string" && BROKEN_MESSAGE.test(message)) ||
    isConnectionError(meta?.driverAdapterError) ||
    isConnectionError(cause)
  );
}
