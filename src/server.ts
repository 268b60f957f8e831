import { createServer } from "node:net";
import { parseArgs } from "node:util";
import { adminTokenFile, settleAdminToken } from "./admin-token.ts";
import { readSettings, type Settings } from "./config.ts";
import { AppError } from "./core/errors.ts";
import { listDevices } from "./engine/devices.ts";
import { prepareHome } from "./home.ts";
import { startHttp } from "./http/app.ts";
import type { Log } from "./log.ts";
import { logFor, openRegistry, runMain, stopOnSignals } from "./process.ts";
import { startEmbedded } from "./registry/embedded.ts";
import { startWorker } from "./worker.ts";

export interface ServerFlags {
  /** Answer only; jobs are done by processes of their own (`npm run worker`). Needs DATABASE_URL. */
  readonly noWorker: boolean;
  /** Replace the admin's token and show the new one. */
  readonly newAdminToken: boolean;
}

export interface RunningServer {
  /** `http://127.0.0.1:4000` */
  readonly url: string;
  /** A token that was just made: show it once. */
  readonly newToken: string | null;
  /** Stops answering, hands running jobs back, stops a Postgres that was started here. */
  stop(): Promise<void>;
}

/** What was opened, to be closed in the reverse order, also when a later step fails. */
class Opened {
  readonly #closers: (() => Promise<void>)[] = [];

  add(close: () => Promise<void>): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (let close = this.#closers.pop(); close; close = this.#closers.pop()) await close();
  }
}

/**
 * Starts everything: database, API, console and, unless told otherwise, the worker.
 * @throws HOME_IN_USE, HOME_UNUSABLE, PORT_IN_USE, BAD_SETTING, DATABASE_UNREACHABLE, and what Postgres and migrations may throw
 */
export async function startServer(settings: Settings, flags: ServerFlags, log: Log): Promise<RunningServer> {
  requireSense(settings, flags);
  await requireListenable(settings);
  await prepareHome(settings.home);
  const opened = new Opened();
  try {
    const url = settings.databaseUrl ?? (await openEmbedded(settings, log, opened));
    const registry = await openRegistry(url, log);
    let stopWorker = () => {};
    opened.add(async () => {
      const closed = registry.close();
      stopWorker();
      await closed;
    });
    const newToken = await settleAdminToken(registry, settings, flags.newAdminToken);
    if (settings.databaseUrl === null) await registry.queue.releaseOrphans();
    const http = await startHttp({ registry, settings, log });
    opened.add(() => http.close());
    if (!flags.noWorker)
      stopWorker = (await startWorker({ registry, settings, log, devices: listDevices })).stop;
    return { url: http.url, newToken, stop: () => opened.close() };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Refuses flags and settings that contradict each other. */
function requireSense(settings: Settings, flags: ServerFlags): void {
  if (flags.noWorker && settings.databaseUrl === null) {
    throw new AppError(
      "BAD_SETTING",
      "--no-worker needs DATABASE_URL: no other process could do the jobs, because the embedded Postgres serves only this one.",
    );
  }
  // Known at once, rather than after a database was made and started.
  if (flags.newAdminToken && settings.adminToken !== null) {
    throw new AppError(
      "BAD_SETTING",
      "--new-admin-token makes a token, but GRAFTWORK_ADMIN_TOKEN dictates one: change or unset that variable instead.",
    );
  }
}

/** Tries the address out. @throws PORT_IN_USE, BAD_SETTING */
function requireListenable({ host, port }: Pick<Settings, "host" | "port">): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", ({ code, message }: NodeJS.ErrnoException) => {
      const taken = `port ${port} of ${host} is taken: stop what listens there, or set PORT to another one.`;
      const wrong = `nothing can listen on port ${port} of ${host} (${message}): correct HOST or PORT.`;
      reject(code === "EADDRINUSE" ? new AppError("PORT_IN_USE", taken) : new AppError("BAD_SETTING", wrong));
    });
    probe.listen(port, host, () => probe.close(() => resolve()));
  });
}

async function openEmbedded({ home }: Settings, log: Log, opened: Opened): Promise<string> {
  const postgres = await startEmbedded({ home, log: (message) => log.warn(message) });
  opened.add(() => postgres.stop());
  return postgres.url;
}

function readFlags(): ServerFlags {
  try {
    const { values } = parseArgs({
      options: { "no-worker": { type: "boolean" }, "new-admin-token": { type: "boolean" } },
    });
    return { noWorker: values["no-worker"] ?? false, newAdminToken: values["new-admin-token"] ?? false };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new AppError("USAGE", `${why} Usage: npm start -- [--no-worker] [--new-admin-token]`);
  }
}

async function main(): Promise<void> {
  const flags = readFlags();
  const settings = readSettings();
  const log = logFor(settings);
  const starting = startServer(settings, flags, log);
  // A signal during the start waits for its end: a Postgres that was just started must be stopped again.
  const stop = () =>
    starting.then(
      (server) => server.stop(),
      () => {},
    );
  stopOnSignals(stop, log);
  const server = await starting;
  if (server.newToken !== null) {
    process.stdout.write(
      `Admin token (shown once; kept in ${adminTokenFile(settings.home)}): ${server.newToken}\n`,
    );
  }
  process.stdout.write(`Graftwork is ready: ${server.url} (API at ${server.url}/graphql)\n`);
}

if (import.meta.main) await runMain(main);
