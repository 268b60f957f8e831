import { open, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "../core/errors.ts";

const STOP_MS = 15_000;

export interface PidFile {
  readonly pid: number;
  readonly port: number;
}

/** `postmaster.pid`: process id, data folder, start time, port, … a line each. */
export async function readPidFile(data: string): Promise<PidFile | undefined> {
  const text = await readFile(join(data, "postmaster.pid"), "utf8").catch(() => "");
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  return Number.isInteger(pid) && pid > 0 ? { pid, port: Number(lines[3]) } : undefined;
}

/** Stops whatever Postgres runs on `data`: rolls back what is open, and is not gentle with what does not end. */
export async function stopServer(data: string): Promise<void> {
  const file = await readPidFile(data);
  if (!file || !(await isServerOf(file.pid, data))) return;
  const deadline = Date.now() + STOP_MS;
  signal(file.pid, "SIGINT");
  while (await isServerOf(file.pid, data)) {
    if (Date.now() > deadline) signal(file.pid, "SIGQUIT");
    if (Date.now() > deadline + STOP_MS) return;
    await sleep(30);
  }
}

function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Sends a signal to a process that may be gone already. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    if (pid > 0) process.kill(pid, name);
  } catch {
    // It is gone already, which is what was wanted.
  }
}

/**
 * True while process `pid` is the Postgres of `data`. Being alive is not enough: process ids are used again, soon after
 * a reboot, and a dead child that nobody waits for still has its id. Where there is no /proc, alive must do.
 */
export async function isServerOf(pid: number, data: string): Promise<boolean> {
  if (!isAlive(pid) || process.platform !== "linux") return isAlive(pid);
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return command.includes(data);
}

/** When a process started, in the system's ticks: with its id, that names it for good. Empty for one that has ended. */
async function startOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  // Dead, but its parent has not asked how it ended; in a container nobody may ever do so.
  if (fields?.[0] === "Z") return "";
  return fields?.[19];
}

/** One server a home: two would each think the other's running jobs abandoned. */
export async function lockHome(home: string): Promise<() => Promise<void>> {
  const file = join(home, "server.lock");
  const mine = `${process.pid} ${(await startOf(process.pid)) ?? ""}\n`;
  for (;;) {
    try {
      const handle = await open(file, "wx", 0o600);
      await handle.writeFile(mine);
      await handle.close();
      let held = true;
      return async () => {
        // Once: a second call must not take the lock from whoever has it by then.
        if (held) await rm(file, { force: true });
        held = false;
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const text = await readFile(file, "utf8").catch(() => "");
    const [pid = "0", start = ""] = text.trim().split(" ");
    if (isAlive(Number(pid)) && ((await startOf(Number(pid))) ?? start) === start && text !== "") {
      throw new AppError(
        "HOME_IN_USE",
        `Another Graftwork server (process ${pid}) already uses ${home}. Stop it, or set GRAFTWORK_HOME to ` +
          "another folder; several processes can share one Postgres through DATABASE_URL.",
      );
    }
    await rm(file, { force: true });
  }
}

/** A TCP port of 127.0.0.1 that nobody uses now. */
export async function freePort(): Promise<number> {
  return await new Promise((done, fail) => {
    const server = createServer().once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** True when nobody listens on this port of 127.0.0.1. */
export async function portIsFree(port: number): Promise<boolean> {
  return await new Promise((done) => {
    const server = createServer().once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}
