import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const ROOT = resolve(import.meta.dirname, "../..");
const START_MS = 60_000;
const STOP_MS = 15_000;

export interface ServerProcess {
  /** Without a slash at the end. */
  readonly url: string;
  /** Everything it wrote to stdout and stderr so far. */
  output(): string;
  /** Stops it as Ctrl-C does and waits until it is gone. */
  stop(): Promise<void>;
}

/** Starts `src/server.ts` as a process of its own on a free port; resolves when it says that it is ready. */
export function startServerProcess(env: Readonly<Record<string, string>>): Promise<ServerProcess> {
  const child = spawn(process.execPath, ["src/server.ts"], {
    cwd: ROOT,
    env: { ...process.env, PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const gone = new Promise<void>((done) => child.once("exit", () => done()));
  child.stderr.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const stop = async () => {
    child.kill("SIGINT");
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await gone;
    clearTimeout(late);
  };
  return new Promise((done, fail) => {
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      fail(new Error(`the server was not ready after ${START_MS / 1000} s:\n${output}`));
    }, START_MS);
    child.once("exit", (code) => {
      clearTimeout(late);
      fail(new Error(`the server ended with ${code}:\n${output}`));
    });
    createInterface(child.stdout).on("line", (line) => {
      output += `${line}\n`;
      const url = /ready: (http:\/\/\S+)/.exec(line)?.[1];
      if (url === undefined) return;
      clearTimeout(late);
      done({ url, output: () => output, stop });
    });
  });
}
