import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { FileStamp } from "../core/checkpoint.ts";
import { AppError } from "../core/errors.ts";
import type { Digest } from "../core/identity.ts";
import type { ByteSource } from "../core/source.ts";

/** A file on a local disk as a byte source. Close it when done. */
export class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #handle: FileHandle;

  private constructor(name: string, size: number, handle: FileHandle) {
    this.name = name;
    this.size = size;
    this.#handle = handle;
  }

  /** @param name what to call the file in messages; its path where absent */
  static async open(path: string, name = path): Promise<FileSource> {
    const handle = await open(path, "r").catch((error) => {
      throw fileError(error, name);
    });
    try {
      return new FileSource(name, (await handle.stat()).size, handle);
    } catch (error) {
      await handle.close();
      throw fileError(error, name);
    }
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(end - start);
    let done = 0;
    while (done < bytes.byteLength) {
      const left = bytes.byteLength - done;
      const { bytesRead } = await this.#handle.read(bytes, done, left, start + done).catch((error) => {
        throw fileError(error, this.name);
      });
      if (bytesRead === 0) {
        throw new AppError(
          "BAD_FILE",
          `${this.name} ends at byte ${start + done}, but bytes up to ${end} were expected: it was cut short.`,
        );
      }
      done += bytesRead;
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** sha256 of a whole file, streamed. */
export async function digestFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  } catch (error) {
    throw fileError(error, path);
  }
  return `sha256:${hash.digest("hex")}` as Digest;
}

/** What tells that a file was exchanged or rewritten since: real path, mtime in nanoseconds, inode. */
export async function stampFile(realPath: string): Promise<FileStamp & { size: number }> {
  const facts = await stat(realPath, { bigint: true }).catch((error) => {
    throw fileError(error, realPath);
  });
  return {
    realPath,
    mtimeNs: String(facts.mtimeNs),
    inode: String(facts.ino),
    size: Number(facts.size),
  };
}

/** A file that changed less than this long ago may change again without a new time: clocks of file systems tick. */
const SETTLED_MS = 50;

/**
 * Text that differs after every change of a file's bytes, also by programs that restore its modification time: size,
 * both times and inode. `null` where the file is too new to tell, or gone.
 */
export async function fingerprintFile(path: string): Promise<string | null> {
  const facts = await stat(path, { bigint: true }).catch(() => null);
  if (facts === null || Date.now() - Number(facts.ctimeMs) < SETTLED_MS) return null;
  return [facts.size, facts.mtimeNs, facts.ctimeNs, facts.ino].join(":");
}

/** Turns an error of the operating system into one that says what to do; any other error stays as it is. */
export function fileError(error: unknown, path: string): unknown {
  const { code, syscall, message } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === undefined) return error;
  const explain = Object.hasOwn(EXPLANATIONS, code) ? EXPLANATIONS[code] : undefined;
  if (explain) return new AppError(explain[0], `${path} ${explain[1]}`, { cause: error });
  if (syscall === undefined) return error;
  const text = `${path}: the operating system refused (${message}). Check the disk and the path.`;
  return new AppError("FILE_SYSTEM", text, { cause: error });
}

const EXPLANATIONS: Readonly<Record<string, readonly [code: string, text: string]>> = {
  ENOENT: ["NOT_FOUND", "does not exist: check the path."],
  ENOTDIR: ["NOT_FOUND", "does not exist: a part of the path is not a directory."],
  ENAMETOOLONG: ["NOT_FOUND", "does not exist: it is longer than a path can be."],
  ELOOP: ["NOT_FOUND", "does not exist: its symbolic links lead in circles."],
  EISDIR: ["NOT_A_FILE", "is a directory where a file is needed."],
  EMFILE: ["TOO_MANY_OPEN_FILES", "could not be opened: raise the limit on open files (ulimit -n)."],
  EACCES: ["NOT_READABLE", "may not be read or written by this user: change its permissions."],
  EPERM: ["NOT_READABLE", "may not be read or written by this user: change its permissions."],
  ENOSPC: ["DISK_FULL", "could not be written: the disk is full. Free space and start again."],
  EDQUOT: ["DISK_FULL", "could not be written: the disk quota is used up. Free space and start again."],
  EROFS: ["NOT_WRITABLE", "could not be written: the file system is read-only."],
  EEXIST: ["OUTPUT_EXISTS", "exists already: choose another path or remove it."],
  ENOTEMPTY: ["OUTPUT_EXISTS", "exists already and is not empty: choose another path or remove it."],
};
