import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { AppError } from "../core/errors.ts";

/**
 * Makes a folder and those above it that are missing; one that exists is fine. Node's own `recursive` never ends in a
 * folder that exists and takes no other (such as /proc): it makes the parent again and again.
 * @throws NOT_WRITABLE there; what `mkdir` throws
 * @returns the topmost folder that had to be made; null where there was nothing to make
 */
export async function makeFolders(path: string): Promise<string | null> {
  const first = await makeOne(path);
  if (first !== null) return first === "made" ? path : null;
  const parent = dirname(path);
  if (parent === path) throw missing(path);
  const topmost = await makeFolders(parent);
  const made = await makeOne(path);
  // The parent is there now: whoever says that it is not takes no folders.
  if (made === null) throw missing(path);
  return topmost ?? (made === "made" ? path : null);
}

/** Null where the folder above is missing. */
async function makeOne(path: string): Promise<"made" | "exists" | null> {
  try {
    await mkdir(path);
    return "made";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    // What stands there may be a file: `mkdir` with `recursive` knows, and ends here.
    if (code !== "EEXIST") throw error;
    await mkdir(path, { recursive: true });
    return "exists";
  }
}

function missing(path: string): AppError {
  return new AppError(
    "NOT_WRITABLE",
    `${dirname(path)} takes no folders and no files: choose another place to write to.`,
  );
}
