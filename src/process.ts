import type { Settings } from "./config.ts";
import { AppError } from "./core/errors.ts";
import { createLog, type Log } from "./log.ts";
import type { RegistryContext } from "./registry/context.ts";
import { openDb } from "./registry/db.ts";
import { migrate } from "./registry/migrate.ts";
import { openQueue } from "./registry/queue.ts";

/** The registry of this process, and how to let go of it. */
export interface OpenRegistry extends RegistryContext {
  /** Stops taking jobs, waits for running ones to end, disconnects. */
  close(): Promise<void>;
}

/** How long handlers that were told to stop may take, in milliseconds: a tile, and removing what was written. */
const HANDLER_GRACE_MS = 8000;

/** Brings the database up to date and connects to it. Safe in several processes at once. */
export async function openRegistry(url: string, log: Log): Promise<OpenRegistry> {
  const applied = await migrate(url);
  if (applied.length > 0) log.info("database migrated", { migrations: applied });
  const tell = (message: string) => log.warn(message);
  const opened = openDb({ url, log: tell });
  const queue = await openQueue({ url, log: tell }).catch(async (error) => {
    await opened.close();
    throw error;
  });
  return {
    db: opened.db,
    pool: opened.pool,
    queue,
    now: () => new Date(),
    close: async () => {
      await queue.stop(HANDLER_GRACE_MS);
      await opened.close();
    },
  };
}

export function logFor(settings: Settings): Log {
  return createLog({ level: settings.logLevel, secrets: [settings.adminToken, settings.databaseUrl] });
}

/** Ctrl-C sends the signal to npm and to us, and npm passes its own on: the second one of these is no impatience. */
const IMPATIENT_AFTER_MS = 1500;

/** Calls `stop` at the first SIGINT or SIGTERM and ends the process when it is done; a later signal ends it at once. */
export function stopOnSignals(stop: () => Promise<void>, log: Log): void {
  let since: number | null = null;
  const onSignal = (signal: NodeJS.Signals) => {
    if (since !== null) {
      if (performance.now() - since > IMPATIENT_AFTER_MS) process.exit(1);
      return;
    }
    since = performance.now();
    log.info("stopping", { signal });
    stop().then(
      () => process.exit(0),
      (error) => {
        log.error("stopping failed", { error });
        process.exit(1);
      },
    );
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
}

/** Runs a process's main function; an expected failure is one line and status 1, a bug a stack. */
export async function runMain(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const text =
      error instanceof AppError ? `${error.code}: ${error.message}` : String((error as Error)?.stack);
    process.stderr.write(`${text}\n`);
    process.exit(1);
  }
}
