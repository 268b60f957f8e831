import { createHash } from "node:crypto";
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { AppError } from "../core/errors.ts";
import { fileError } from "./file.ts";
import { discard, exists } from "./staging.ts";

/** The folder that this process writes before `output` becomes visible: beside it, so on the same file system. */
export async function stagingBeside(output: string): Promise<string> {
  return join(dirname(output), `${prefixOf(output)}${await place()}-${process.pid}`);
}

const prefixOf = (output: string) => `.${basename(output)}.graftwork-`;

/**
 * Removes what killed processes were writing for the same output. A process id says something only where it was
 * given, so a folder of another machine or container that shares the disk is left alone.
 */
export async function discardAbandoned(output: string): Promise<void> {
  const parent = dirname(output);
  const prefix = `${prefixOf(output)}${await place()}-`;
  const names = await readdir(parent).catch((): string[] => []);
  for (const name of names) {
    const pid = name.startsWith(prefix) ? name.slice(prefix.length) : "";
    if (/^\d+$/.test(pid) && !isAlive(Number(pid))) await discard(join(parent, name));
  }
}

/** Eight digits for this machine and, in a container, its table of processes. */
async function place(): Promise<string> {
  const [host, processes] = await Promise.all([
    readFile("/proc/sys/kernel/hostname", "utf8").catch(() => ""),
    readlink("/proc/self/ns/pid").catch(() => ""),
  ]);
  return createHash("sha256").update(`${host} ${processes}`).digest("hex").slice(0, 8);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** @throws OUTPUT_INSIDE_INPUT: what is written there would become part of the input, and of its digest */
export async function requireOutside(output: string, inputs: readonly string[]): Promise<void> {
  let at = resolve(output);
  while (!(await exists(at)) && dirname(at) !== at) at = dirname(at);
  const real = await realpath(at).catch((error) => {
    throw fileError(error, at);
  });
  for (const input of inputs) {
    const path = relative(await realpath(input), join(real, relative(at, resolve(output))));
    if (path === ".." || path.startsWith(`..${sep}`)) continue;
    throw new AppError(
      "OUTPUT_INSIDE_INPUT",
      `${output} lies inside ${input}, which is read: choose a folder outside of base and adapter.`,
    );
  }
}
