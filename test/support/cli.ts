import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
export const DEMO = join(ROOT, "test/fixtures/demo");

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What the command remembers between tests of one file must not come from elsewhere, nor go there. */
const cache = mkdtempSync(join(tmpdir(), "graftwork-cli-cache-"));
process.once("exit", () => rmSync(cache, { recursive: true, force: true }));

/** Starts the real command as a process of its own. */
export function startCli(...args: string[]): { child: ChildProcess; finished: Promise<Finished> } {
  const child = spawn(process.execPath, [join(ROOT, "src/cli/main.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, XDG_CACHE_HOME: cache },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { child, finished };
}

export function cli(...args: string[]): Promise<Finished> {
  return startCli(...args).finished;
}
