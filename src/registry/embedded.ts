import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { chown, mkdir, readFile, realpath, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { AppError } from "../core/errors.ts";
import {
  exists,
  findPlace,
  findPrograms,
  findRunner,
  type Place,
  type Runner,
  removeAbandoned,
  removePlace,
  savePlace,
} from "./embedded-place.ts";
import {
  freePort,
  isServerOf,
  lockHome,
  portIsFree,
  readPidFile,
  signal,
  stopServer,
} from "./embedded-process.ts";

const run = promisify(execFile);
const DATABASE = "graftwork";
const READY_MS = 60_000;

export interface EmbeddedOptions {
  /** GRAFTWORK_HOME, absolute; made if missing. */
  readonly home: string;
  /** Extra server settings, e.g. `{ fsync: "off" }` in tests. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Told when Postgres is started again after it died, and when that fails. */
  readonly log?: (message: string) => void;
}

/** A running Postgres of our own. */
export interface Embedded {
  /** Connection string of the `graftwork` database. */
  readonly url: string;
  /** Process id of the postmaster now running. */
  readonly pid: () => number;
  /** True when a server left over from a killed process was taken over instead of starting one. */
  readonly adopted: boolean;
  /** Shuts down cleanly; safe to call twice. */
  stop(): Promise<void>;
  /** Stops and deletes the cluster with all its data: for tests and other throw-away homes. */
  destroy(): Promise<void>;
}

/**
 * Starts (or takes over) the Postgres 18 of this home and keeps it running until `stop`. Listens on 127.0.0.1 only,
 * on a free port that the home remembers, behind a random password.
 *
 * @throws AppError HOME_IN_USE when another process serves this home; POSTGRES_MISSING, POSTGRES_USER_MISSING,
 * POSTGRES_NO_PLACE, POSTGRES_FAILED when it cannot run here, each saying what to do.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  await mkdir(options.home, { recursive: true });
  const home = await realpath(options.home);
  const unlock = await lockHome(home);
  try {
    const found = await findRunner();
    const programs = await findPrograms(found);
    await removeAbandoned(stopServer);
    const place = await findPlace(home, found, await freePort());
    const runner = await ownerOf(place, found);
    if (!(await exists(join(place.folder, "data", "PG_VERSION")))) {
      await initialise({ place, programs, runner });
      await savePlace(home, place);
    }
    const server = new Server({ home, place, programs, runner, options });
    await server.start();
    await createDatabase(server.place);
    const stop = async () => {
      await server.stop();
      await unlock();
    };
    return {
      get url() {
        return urlOf(server.place, DATABASE);
      },
      pid: () => server.pid,
      adopted: server.adopted,
      stop,
      destroy: async () => {
        await stop();
        await removePlace(home, server.place);
      },
    };
  } catch (error) {
    await unlock();
    throw error;
  }
}

interface ServerParts {
  home: string;
  place: Place;
  programs: string;
  runner: Runner | undefined;
  options: EmbeddedOptions;
}

/** Start, watch and stop one postmaster. */
class Server {
  place: Place;
  pid = 0;
  adopted = false;
  readonly #parts: ServerParts;
  readonly #ending = new AbortController();
  #watching: Promise<void> | undefined;
  readonly #onExit = () => signal(this.pid, "SIGINT");

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.place = parts.place;
  }

  get #data(): string {
    return join(this.place.folder, "data");
  }

  get #stopping(): boolean {
    return this.#ending.signal.aborted;
  }

  async start(): Promise<void> {
    const orphan = await this.#findOrphan();
    if (orphan) {
      this.pid = orphan;
      this.adopted = true;
    } else {
      await this.#startAnew();
    }
    process.on("exit", this.#onExit);
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    if (this.#stopping) return await this.#watching;
    this.#ending.abort();
    process.off("exit", this.#onExit);
    await stopServer(this.#data);
    await this.#watching;
  }

  /** The server of a process that was killed goes on running; if it takes our password it is ours again. */
  async #findOrphan(): Promise<number | undefined> {
    const file = await readPidFile(this.#data);
    if (!file) return undefined;
    const deadline = Date.now() + READY_MS;
    while (await isServerOf(file.pid, this.#data)) {
      if (await answers({ ...this.place, port: file.port })) {
        await this.#remember(file.port);
        return file.pid;
      }
      if (Date.now() > deadline) {
        throw new AppError(
          "POSTGRES_FAILED",
          `A Postgres (process ${file.pid}) already runs on ${this.#data} but does not answer. ` +
            "Stop that process and start again.",
        );
      }
      await sleep(200);
    }
    // Dead, or the number now belongs to some other program: Postgres itself would refuse to start for that.
    await rm(join(this.#data, "postmaster.pid"), { force: true });
    return undefined;
  }

  async #startAnew(): Promise<void> {
    const deadline = Date.now() + READY_MS;
    for (;;) {
      // Connection strings are out once it has run, so only a first start may take another port.
      const free = await portIsFree(this.place.port);
      if (!free && this.pid === 0) await this.#remember(await freePort());
      const child = await this.#spawn();
      if (await becomesReady(child, this.place, deadline)) {
        this.pid = child.pid ?? 0;
        return;
      }
      // After kill -9 the old one's children hold its shared memory for a moment, and Postgres refuses until then.
      if (this.#stopping || Date.now() > deadline) throw await this.#failure();
      await sleep(300);
    }
  }

  async #spawn(): Promise<ChildProcess> {
    const { programs, runner, options } = this.#parts;
    // Errors go to a file, not a pipe: a pipe would break, and Postgres with it, when this process is killed.
    const log = openSync(join(this.place.folder, "postgres.log"), "a", 0o600);
    try {
      const settings = {
        listen_addresses: "127.0.0.1",
        unix_socket_directories: "",
        max_connections: "200",
        ...options.settings,
      };
      const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
      const child = spawn(
        join(programs, "bin", "postgres"),
        ["-D", this.#data, "-p", String(this.place.port), ...flags],
        {
          // Its own process group, or Ctrl-C in the terminal would stop it before the jobs that still write to it.
          detached: true,
          cwd: this.place.folder,
          env: { LC_MESSAGES: "C", TZ: "UTC" },
          stdio: ["ignore", log, log],
          ...runner,
        },
      );
      await new Promise<void>((done, fail) => child.once("spawn", done).once("error", fail));
      child.unref();
      return child;
    } catch (cause) {
      throw new AppError(
        "POSTGRES_FAILED",
        `The embedded Postgres could not be started from ${programs}: ${String(cause)}`,
        { cause },
      );
    } finally {
      closeSync(log);
    }
  }

  /** Starts it again whenever it dies, until `stop`. */
  async #watch(): Promise<void> {
    const say = this.#parts.options.log ?? (() => {});
    while (!this.#stopping) {
      await sleep(200, undefined, { ref: false, signal: this.#ending.signal }).catch(() => {});
      if (this.#stopping || (await isServerOf(this.pid, this.#data))) continue;
      say(`Postgres (process ${this.pid}) died; starting it again`);
      try {
        await this.#startAnew();
        say(`Postgres runs again (process ${this.pid})`);
      } catch (error) {
        if (!this.#stopping) say(`Postgres could not be started again, trying on: ${String(error)}`);
      }
    }
    // A stop during a restart: what was just started has to go as well.
    await stopServer(this.#data);
  }

  async #remember(port: number): Promise<void> {
    if (port === this.place.port) return;
    this.place = { ...this.place, port };
    await savePlace(this.#parts.home, this.place);
  }

  async #failure(): Promise<AppError> {
    const file = join(this.place.folder, "postgres.log");
    const text = await readFile(file, "utf8").catch(() => "");
    const tail = text.trimEnd().split("\n").slice(-6).join("\n");
    return new AppError(
      "POSTGRES_FAILED",
      `The embedded Postgres did not start. The end of ${file}:\n${tail}`,
    );
  }
}

/** Makes the cluster: UTF-8 whatever LANG says, passwords checked by SCRAM. */
async function initialise(parts: {
  place: Place;
  programs: string;
  runner: Runner | undefined;
}): Promise<void> {
  const { place, programs, runner } = parts;
  const passwordFile = join(place.folder, "password");
  await writeFile(passwordFile, `${place.password}\n`, { mode: 0o600 });
  if (runner) await chown(passwordFile, runner.uid, runner.gid);
  // A first start that was killed leaves half a cluster, which initdb refuses.
  await rm(join(place.folder, "data"), { recursive: true, force: true });
  const flags = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"];
  try {
    await run(
      join(programs, "bin", "initdb"),
      [
        `--pgdata=${join(place.folder, "data")}`,
        `--username=${place.user}`,
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        ...flags,
      ],
      { cwd: place.folder, env: { LC_MESSAGES: "C", TZ: "UTC" }, ...runner },
    );
  } catch (cause) {
    await rm(join(place.folder, "data"), { recursive: true, force: true });
    throw new AppError("POSTGRES_FAILED", `initdb failed in ${place.folder}: ${String(cause)}`, { cause });
  } finally {
    await rm(passwordFile, { force: true });
  }
}

async function createDatabase(place: Place): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf(place, "postgres") });
  await client.connect();
  try {
    const found = await client.query("select 1 from pg_database where datname = $1", [DATABASE]);
    if (found.rowCount === 0) await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}

function urlOf(place: Place, database: string): string {
  return `postgresql://${place.user}:${place.password}@127.0.0.1:${place.port}/${database}`;
}

/** The data folder's owner runs the server; root may find a cluster that a user made. */
async function ownerOf(place: Place, found: Runner | undefined): Promise<Runner | undefined> {
  if (!found) return undefined;
  const owner = await stat(join(place.folder, "data")).catch(() => undefined);
  return owner && owner.uid !== 0 ? { uid: owner.uid, gid: owner.gid } : found;
}

async function becomesReady(child: ChildProcess, place: Place, deadline: number): Promise<boolean> {
  while (child.exitCode === null && child.signalCode === null) {
    if (await answers(place)) return true;
    if (Date.now() > deadline) {
      child.kill("SIGQUIT");
      return false;
    }
    await sleep(50);
  }
  return false;
}

async function answers(place: Place): Promise<boolean> {
  const client = new pg.Client({ connectionString: urlOf(place, "postgres"), connectionTimeoutMillis: 3000 });
  // Without a listener a connection that breaks later would end the process.
  client.on("error", () => {});
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
