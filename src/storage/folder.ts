import { lstat, readdir, readFile, realpath, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import type { CheckpointFacts, FileStamp } from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import { compareText } from "../core/identity.ts";
import { type JsonLimits, type JsonObject, parseJsonObject } from "../core/json.ts";
import { fileError, stampFile } from "./file.ts";

/** Deeper folders and longer listings are not model repositories. */
const MAX_DEPTH = 4;
const MAX_FILES = 10_000;

export interface ScannedFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly stamp: FileStamp;
}

export interface ScanOptions {
  /** Absolute folders under one of which the real path of every file must lie; `null`: anywhere (local commands). */
  readonly roots: readonly string[] | null;
}

/**
 * Lists the files of a folder with size and stamp. Symbolic links are followed (the Hugging Face cache is made of
 * them), and what they lead to must lie under an allowed root.
 * @throws NOT_FOUND, PATH_OUTSIDE_ROOTS naming the file and where it leads
 */
export async function scanFolder(folder: string, options: ScanOptions): Promise<ScannedFile[]> {
  const roots = options.roots === null ? null : await realRoots(options.roots);
  if (options.roots !== null) await requireAllowed(folder, [...options.roots, ...(roots ?? [])]);
  const top = await realpath(folder).catch((error) => {
    throw fileError(error, folder);
  });
  if (roots !== null) requireInside(top, roots, folder);
  const files: ScannedFile[] = [];
  const pending: { path: string; depth: number }[] = [{ path: resolve(folder), depth: 0 }];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const entries = await readdir(next.path, { withFileTypes: true }).catch((error) => {
      throw fileError(error, next!.path);
    });
    for (const entry of entries) {
      // .git, .cache and half-written downloads are not part of a checkpoint.
      if (entry.name.startsWith(".")) continue;
      const path = join(next.path, entry.name);
      if (entry.isDirectory()) {
        if (next.depth + 1 < MAX_DEPTH) pending.push({ path, depth: next.depth + 1 });
        continue;
      }
      const real = await resolveLink(path);
      if (roots !== null) requireInside(real, roots, path);
      if (!(await lstat(real)).isFile()) continue;
      const { size, ...stamp } = await stampFile(real);
      files.push({ path: relative(resolve(folder), path).split(sep).join("/"), size, stamp });
      if (files.length > MAX_FILES) {
        throw new AppError(
          "TOO_MANY_FILES",
          `${folder} holds more than ${MAX_FILES} files: name the model's own folder.`,
        );
      }
    }
  }
  return files.sort((a, b) => compareText(a.path, b.path));
}

/**
 * Refuses a folder outside the roots with one answer, whether it exists or not and wherever it leads: who may import
 * need not learn what else lies on this machine. A path from elsewhere that leads into a root is fine.
 */
async function requireAllowed(folder: string, roots: readonly string[]): Promise<void> {
  if (isBelow(resolve(folder), roots)) return;
  const real = await realpath(folder).catch(() => null);
  if (real === null || !isBelow(real, roots)) throw outside(folder);
}

async function resolveLink(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    throw new AppError("NOT_FOUND", `${path} is a symbolic link that leads nowhere: finish the download.`, {
      cause: error,
    });
  }
}

async function realRoots(roots: readonly string[]): Promise<string[]> {
  // A root that does not exist (yet) cannot hold anything.
  const real = await Promise.all(roots.map((root) => realpath(root).catch(() => null)));
  return real.filter((root) => root !== null);
}

function requireInside(real: string, roots: readonly string[], path: string): void {
  if (isBelow(real, roots)) return;
  throw outside(real === resolve(path) ? path : `${path} leads to ${real}, which`);
}

function isBelow(path: string, roots: readonly string[]): boolean {
  return roots.some((root) => path === root || path.startsWith(root.endsWith(sep) ? root : root + sep));
}

function outside(what: string): AppError {
  return new AppError(
    "PATH_OUTSIDE_ROOTS",
    `${what} lies outside the folders that may be imported from. ` +
      "Move it below one of them, or add its folder to GRAFTWORK_IMPORT_ROOTS and restart the server.",
  );
}

/** The largest tokenizer.json is about 40 MB; far more would not even fit into one string. */
const MAX_TEXT_BYTES = 200_000_000;

/**
 * Reads a small text file whole.
 * @throws NOT_FOUND, NOT_A_FILE for a pipe or device (reading one could wait forever), FILE_TOO_LARGE, NOT_UTF8 with the
 *   line: a letter that silently became U+FFFD would be another text
 */
export async function readText(path: string): Promise<string> {
  const refuse = (error: unknown) => {
    throw fileError(error, path);
  };
  const facts = await stat(path).catch(refuse);
  if (!facts.isFile())
    throw new AppError("NOT_A_FILE", `${path} is not a regular file: name a file, or restore it.`);
  if (facts.size > MAX_TEXT_BYTES) {
    throw new AppError(
      "FILE_TOO_LARGE",
      `${path} has ${facts.size} bytes, the limit for such a file is ${MAX_TEXT_BYTES}: it is not what its name says.`,
    );
  }
  const bytes = await readFile(path).catch(refuse);
  const text = utf8Text(bytes);
  if (text !== null) return text;
  throw new AppError(
    "NOT_UTF8",
    `${path}: line ${firstBadLine(bytes)} is not UTF-8. Write the file in UTF-8; other encodings are not guessed.`,
  );
}

/** `null` for bytes that are not UTF-8. A byte order mark stays: who parses the text knows what to make of it. */
function utf8Text(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

function firstBadLine(bytes: Uint8Array): number {
  let [line, from] = [1, 0];
  // A line feed is no part of a longer character, so lines are right or wrong on their own.
  for (
    let to = bytes.indexOf(10);
    to !== -1 && utf8Text(bytes.subarray(from, to)) !== null;
    to = bytes.indexOf(10, from)
  ) {
    line++;
    from = to + 1;
  }
  return line;
}

/** Parses a JSON file of a folder that must hold an object. */
export async function readJson(folder: string, path: string, limits?: JsonLimits): Promise<JsonObject> {
  // The whole path: base and adapter have files of the same names.
  const file = join(folder, path);
  return parseJsonObject(await readText(file), file, limits);
}

/** Facts of a folder that was renamed since they were taken: the stamps name the new place. */
export async function restamp(folder: string, facts: CheckpointFacts): Promise<CheckpointFacts> {
  const top = await realpath(folder);
  const files = facts.files.map(async (file) => {
    const { size: _, ...stamp } = await stampFile(join(top, file.path));
    return { ...file, stamp };
  });
  return { ...facts, files: await Promise.all(files) };
}
