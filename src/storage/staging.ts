import { constants } from "node:fs";
import { copyFile, lstat, open, readdir, rename, rm, rmdir, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { FileFacts } from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import { fileError, stampFile } from "./file.ts";
import { makeFolders } from "./make-folders.ts";

/** Room left on the disk beyond what is written, in bytes: a disk filled to the last block fails other programs. */
const DISK_MARGIN = 64_000_000;

/** Whether something has this name; a symbolic link that leads nowhere has it too. */
export async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** Bytes that may be written on the disk of a folder, or of the nearest one above it that exists. */
export async function freeDisk(folder: string): Promise<number> {
  let at = folder;
  while (!(await exists(at)) && dirname(at) !== at) at = dirname(at);
  const { bavail, bsize } = await statfs(at).catch((error) => {
    throw fileError(error, at);
  });
  return bavail * bsize;
}

/** @throws NOT_ENOUGH_DISK before a byte is written, with what is needed and what is free */
export async function requireFreeDisk(folder: string, bytes: number): Promise<void> {
  const free = await freeDisk(folder);
  if (free >= bytes + DISK_MARGIN) return;
  throw new AppError(
    "NOT_ENOUGH_DISK",
    `${folder}: the output takes ${bytes} bytes (and ${DISK_MARGIN} spare), but only ${free} are free. Free space or choose another disk.`,
    { details: { needed: bytes + DISK_MARGIN, free } },
  );
}

/**
 * Makes the folder that is written before the output becomes visible; an older one of the same name is removed.
 * @param place what messages call it: nobody chose the name of a staging folder
 * @returns the topmost folder that had to be made for it; for `discardStaging`
 */
export async function makeStaging(staging: string, place = staging): Promise<string> {
  try {
    await rm(staging, { recursive: true, force: true });
    return (await makeFolders(staging)) ?? staging;
  } catch (error) {
    throw fileError(error, place);
  }
}

/** Removes a staging folder, and the folders above it that were made for it and hold nothing else. */
export async function discardStaging(staging: string, topmostMade: string): Promise<void> {
  await discard(staging);
  let at = staging;
  // Ends early at a folder that somebody put something into meanwhile, or removed.
  while (at !== topmostMade && (await removedEmpty(dirname(at)))) at = dirname(at);
}

function removedEmpty(folder: string): Promise<boolean> {
  return rmdir(folder).then(
    () => true,
    () => false,
  );
}

/** Creates a weight file of its final size with its header; the tensors are written into it in any order. */
export async function createShard(path: string, header: Uint8Array, size: number): Promise<void> {
  const handle = await open(path, "wx").catch((error) => {
    throw fileError(error, path);
  });
  try {
    await handle.write(header, 0, header.byteLength, 0);
    await handle.truncate(size);
  } catch (error) {
    throw fileError(error, path);
  } finally {
    await handle.close();
  }
}

export async function copyInto(from: string, to: string): Promise<void> {
  try {
    await makeFolders(dirname(to));
    // A reflink where the file system can, else a copy inside the kernel.
    await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  } catch (error) {
    // The system names both files; what is not there is the one to read.
    throw fileError(error, (error as NodeJS.ErrnoException).code === "ENOENT" ? from : to);
  }
}

export async function writeText(path: string, text: string): Promise<void> {
  await writeFile(path, text).catch((error) => {
    throw fileError(error, path);
  });
}

/** Forces every file and folder below to the disk: what is renamed into view must survive a power cut. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else await syncPath(path);
  }
  await syncPath(folder);
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (error) {
    throw fileError(error, path);
  } finally {
    await handle.close();
  }
}

/** Makes a finished folder visible under its name, all at once. Throws OUTPUT_EXISTS. */
export async function publishFolder(staging: string, output: string): Promise<void> {
  await makeFolders(dirname(output)).catch((error) => {
    throw fileError(error, dirname(output));
  });
  // rename(2) would replace an empty directory of that name; whoever made it meant something by it.
  if (await exists(output)) throw outputExists(output);
  await rename(staging, output).catch((error) => {
    throw fileError(error, output);
  });
  await syncPath(dirname(output));
}

export function outputExists(output: string): AppError {
  return new AppError(
    "OUTPUT_EXISTS",
    `${output} exists already: choose another path or remove it. Nothing was written.`,
  );
}

export async function discard(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

/**
 * Compares the files with what was recorded of them: size, mtime, inode.
 * @throws INPUT_CHANGED naming the first file that is not the one that was imported
 */
export async function requireUnchanged(folder: string, files: readonly FileFacts[]): Promise<void> {
  for (const file of files) {
    if (!file.stamp || file.role === "CARRIED") continue;
    const path = join(folder, file.path);
    const now = await stampFile(file.stamp.realPath);
    const what =
      now.size !== file.size
        ? `its size was ${file.size} and is ${now.size}`
        : now.mtimeNs !== file.stamp.mtimeNs
          ? "it was written to since"
          : now.inode !== file.stamp.inode
            ? "it was replaced by another file"
            : null;
    if (what === null) continue;
    throw new AppError(
      "INPUT_CHANGED",
      `${path} is not the file that was recorded: ${what}. Import the folder again as a new version, or restore the file.`,
      { details: { file: path } },
    );
  }
}
