import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AppError } from "./core/errors.ts";

const REASONS: Readonly<Record<string, string>> = {
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
  EROFS: "its file system is read-only",
  EEXIST: "there is a file of that name",
  ENOTDIR: "a part of that path is a file",
  ENOENT: "no folder can be made there",
  ENOSPC: "its disk is full",
  EDQUOT: "the disk quota is used up",
  ELOOP: "its symbolic links lead in circles",
  ENAMETOOLONG: "the path is too long",
};

/**
 * Makes GRAFTWORK_HOME where it is missing and tries whether it can be written, before anything else is started.
 * @throws HOME_UNUSABLE
 */
export async function prepareHome(home: string): Promise<void> {
  const probe = join(home, `.probe-${process.pid}`);
  try {
    await makeFolder(home);
    await writeFile(probe, "");
    await rm(probe);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const reason = REASONS[code];
    if (reason === undefined) throw error;
    throw new AppError(
      "HOME_UNUSABLE",
      `Nothing can be kept in the folder ${home}: ${reason} (${message}). Set GRAFTWORK_HOME to another folder or correct this one.`,
      { cause: error },
    );
  }
}

/** Not `mkdir` with `recursive`: Node tries for ever where a parent exists but takes no folders, as /proc does. */
async function makeFolder(folder: string): Promise<void> {
  if ((await makeOne(folder)) || dirname(folder) === folder) return;
  await makeFolder(dirname(folder));
  if (!(await makeOne(folder)))
    throw Object.assign(new Error(`${dirname(folder)} takes no folders`), { code: "ENOENT" });
}

/** False where the parent is missing. What stands there already shows itself when the probe is written. */
async function makeOne(folder: string): Promise<boolean> {
  try {
    await mkdir(folder);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return true;
    if (code === "ENOENT") return false;
    throw error;
  }
}
