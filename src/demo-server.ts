import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { viewerQuery } from "./client/documents.ts";
import { GraphqlFailure, isUnreachable } from "./client/failure.ts";
import { type Client, createClient } from "./client/index.ts";
import type { Settings } from "./config.ts";
import { AppError } from "./core/errors.ts";

/** A server that answers, and the child process that is it, unless it ran before. */
export interface DemoServer {
  readonly url: string;
  readonly client: Client;
  readonly child: ServerProcess | null;
}

/** First start: a cluster is made, migrations are applied; minutes only on a very slow disk. */
const START_LIMIT_MS = 180_000;
const STOP_LIMIT_MS = 30_000;

/**
 * Uses the server that runs on this home and port already, or starts one.
 * @param started gets the child at once, so that it can be stopped before it is ready
 * @throws START_FAILED, PORT_IN_USE, NO_TOKEN
 */
export async function reachServer(
  settings: Settings,
  started: (child: ServerProcess) => void,
): Promise<DemoServer> {
  if (settings.port !== 0) {
    const url = `http://${reachableHost(settings.host)}:${settings.port}`;
    const client = await connect(settings, url);
    if (client) return { url, client, child: null };
  }
  const child = new ServerProcess();
  started(child);
  try {
    const url = await child.address();
    const client = await connect(settings, url);
    if (client) return { url, client, child };
    throw new AppError(
      "START_FAILED",
      `the server said that it listens at ${url}, but nothing answers there.`,
    );
  } catch (error) {
    await child.stop();
    child.tell();
    throw error;
  }
}

/** A client that may do everything, or `null` where no server answers. */
async function connect(settings: Settings, url: string): Promise<Client | null> {
  const file = join(settings.home, "admin-token");
  const token = settings.adminToken ?? (await readFile(file, "utf8").catch(() => "")).trim();
  const client = createClient({ url, ...(token !== "" && { token }) });
  try {
    const { viewer } = await client.request(viewerQuery, {});
    if (viewer?.isAdmin) return client;
  } catch (error) {
    if (isUnreachable(error)) return null;
    if (!(error instanceof GraphqlFailure)) throw error;
  }
  if (token === "") {
    throw new AppError(
      "NO_TOKEN",
      `${file} is missing, which holds the token of the server at ${url}. Stop that server, if it runs, and let \`npm start -- --new-admin-token\` make a new one.`,
    );
  }
  throw new AppError(
    "PORT_IN_USE",
    `what answers at ${url} is not a Graftwork server with the home ${settings.home}: it does not accept the token in ${file}. Stop it, or set PORT to another port.`,
  );
}

function reachableHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}

/** The server as a child process, with the settings of this one. What it says is kept until somebody wants to see it. */
export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #output = "";
  #shown = false;

  constructor() {
    // The signals of a terminal go to every process of the group; the child stops by itself then.
    this.#child = spawn(process.execPath, [join(import.meta.dirname, "server.ts")], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        if (this.#shown) process.stderr.write(text);
        else this.#output += text;
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", () => resolve()).once("close", () => resolve());
    });
  }

  /** Where it listens, as it says on its ready line. */
  async address(): Promise<string> {
    const started = performance.now();
    while (performance.now() - started < START_LIMIT_MS) {
      const url = /^Graftwork\b.*?(https?:\/\/\S+)\s/m.exec(this.#output)?.[1];
      if (url !== undefined) return url.replace(/[/.]+$/, "");
      if (this.#hasEnded())
        throw new AppError("START_FAILED", "the server ended before it was ready; it said:");
      await pause(50);
    }
    throw new AppError("START_FAILED", `the server was not ready after ${START_LIMIT_MS / 1000} s; it said:`);
  }

  /** Shows what it said, and from now on what it says. */
  tell(): void {
    process.stderr.write(this.#output);
    this.tellFromNow();
  }

  /** Shows what it says from now on: all that it said so far went well, and is told in the demo's own words. */
  tellFromNow(): void {
    this.#shown = true;
  }

  /** Asks it to stop and waits, by force where it does not. */
  async stop(): Promise<void> {
    if (this.#hasEnded()) return;
    this.#child.kill("SIGTERM");
    const killed = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    await this.#ended;
    clearTimeout(killed);
  }

  /** Its exit code, when it has ended. */
  async ended(): Promise<number> {
    await this.#ended;
    return this.#child.exitCode ?? 1;
  }

  #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
