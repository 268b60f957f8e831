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
    const { size } = await handle.stat();
    return new FileSource(name, size, handle);
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(end - start);
    let done = 0;
    while (done < bytes.byteLength) {
      const { bytesRead } = await this.#handle.read(bytes, done, bytes.byteLength - done, start + done);
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
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
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

/** Turns an error of the operating system into one that says what to do; anything unknown stays as it is. */
export function fileError(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  const explain = code === undefined ? undefined : EXPLANATIONS[code];
  return explain ? new AppError(explain[0], `${path} ${explain[1]}`, { cause: error }) : error;
}

const EXPLANATIONS: Readonly<Record<string, readonly [code: string, text: string]>> = {
  ENOENT: ["NOT_FOUND", "does not exist: check the path."],
  ENOTDIR: ["NOT_FOUND", "does not exist: a part of the path is not a directory."],
  ENAMETOOLONG: ["NOT_FOUND", "does not exist: it is longer than a path can be."],
  ELOOP: ["NOT_FOUND", "does not exist: its symbolic links lead in circles."],
  EACCES: ["NOT_READABLE", "may not be read or written by this user: change its permissions."],
  EPERM: ["NOT_READABLE", "may not be read or written by this user: change its permissions."],
  ENOSPC: ["DISK_FULL", "could not be written: the disk is full. Free space and start again."],
  EDQUOT: ["DISK_FULL", "could not be written: the disk quota is used up. Free space and start again."],
  EROFS: ["NOT_WRITABLE", "could not be written: the file system is read-only."],
  EEXIST: ["OUTPUT_EXISTS", "exists already: choose another path or remove it."],
  ENOTEMPTY: ["OUTPUT_EXISTS", "exists already and is not empty: choose another path or remove it."],
};
