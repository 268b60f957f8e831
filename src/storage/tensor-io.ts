import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from "node:fs";
import { AppError } from "../core/errors.ts";
import { fileError } from "./file.ts";

/**
 * Synchronous file access for worker threads that stream tensors. Blocking is the point here: a tile goes from the
 * page cache into WASM memory and back with one system call each, and nothing else runs on such a thread.
 */

/** Writes some bytes at a position and returns how many; `fs.writeSync`, or one that a test made to fail. */
export type WriteAt = (fd: number, bytes: Uint8Array, position: number) => number;

const writeAt: WriteAt = (fd, bytes, position) => writeSync(fd, bytes, 0, bytes.byteLength, position);

/** A writer for tests: after `limit` bytes in all it fails as a full disk does, having written up to there. */
export function diskOfSize(limit: number): WriteAt {
  let left = limit;
  return (fd, bytes, position) => {
    if (left <= 0 && bytes.byteLength > 0) {
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    }
    const written = writeAt(fd, bytes.subarray(0, left), position);
    left -= written;
    return written;
  };
}

/**
 * Fills `into` with the bytes at `position`.
 * @throws BAD_FILE naming the file where it ends earlier
 */
export function readExact(fd: number, path: string, into: Uint8Array, position: number): void {
  let done = 0;
  while (done < into.byteLength) {
    const got = attempt(path, () => readSync(fd, into, done, into.byteLength - done, position + done));
    if (got === 0) {
      throw new AppError(
        "BAD_FILE",
        `${path} ends at byte ${position + done}, but bytes up to ${position + into.byteLength} were expected: it was cut short while it was read. Restore the file and start again.`,
        { details: { file: path, position: position + done, expected: position + into.byteLength } },
      );
    }
    done += got;
  }
}

/**
 * Writes all of `bytes` at `position`, however many calls that takes.
 * @throws DISK_FULL naming the file and how many bytes were left over
 */
export function writeExact(
  file: { fd: number; path: string; write?: WriteAt | undefined },
  bytes: Uint8Array,
  position: number,
): void {
  const write = file.write ?? writeAt;
  let done = 0;
  while (done < bytes.byteLength) {
    done += attempt(
      file.path,
      () => write(file.fd, bytes.subarray(done), position + done),
      () => `${bytes.byteLength - done} bytes at position ${position + done}`,
    );
  }
}

/** A file that exists under another name as well, or is copied there. */
export interface WholeCopy {
  readonly from: string;
  /** Must not exist. */
  readonly to: string;
  /**
   * A second name for the same bytes (a hard link) where the file system can. Only for sources that nobody writes to
   * any more: a later edit of the one would change the other.
   */
  readonly link: boolean;
  /** Written over the start of the copy. */
  readonly header?: Uint8Array;
}

/**
 * Copies a file inside the kernel, without a byte passing through this process; on file systems that can (Btrfs, XFS,
 * APFS) the copy shares its blocks with the source until one of them is written to. It cannot be interrupted: whoever
 * cancels waits for the one file.
 */
export function copyWhole({ from, to, link, header }: WholeCopy): void {
  if (link && linked(from, to)) return;
  attempt(
    from,
    () => copyFileSync(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL),
    () => "its copy",
  );
  const fd = openWritable(to);
  try {
    if (header) writeExact({ fd, path: to }, header, 0);
  } finally {
    closeSync(fd);
  }
}

/** False where the disk cannot have a second name for the file: other disk, too many names, no such feature. */
function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch {
    return false;
  }
}

/** A copy has its source's permissions, and a downloaded file may be read-only. */
function openWritable(path: string): number {
  return attempt(path, () => {
    const reading = openSync(path, "r");
    try {
      const { mode } = fstatSync(reading);
      if ((mode & 0o200) === 0) chmodSync(path, mode | 0o200);
    } finally {
      closeSync(reading);
    }
    return openSync(path, "r+");
  });
}

/** A whole small file, such as a compiled kernel module. */
export function readSmallFile(path: string): Uint8Array {
  return attempt(path, () => readFileSync(path));
}

function attempt<T>(path: string, action: () => T, what?: () => string): T {
  try {
    return action();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (what && (code === "ENOSPC" || code === "EDQUOT")) {
      throw new AppError(
        "DISK_FULL",
        `${path} could not be written: the disk is full (${what()} did not fit). Free space and start again.`,
        { details: { file: path }, cause: error },
      );
    }
    throw fileError(error, path);
  }
}

/** Checkpoints have up to a few hundred shards; a thread works on one tensor at a time and needs few of them at once. */
const MAX_OPEN = 16;

/** The descriptors of one thread, opened on first use and closed when others need the room. */
export class OpenFiles {
  readonly #open = new Map<string, number>();

  /** @throws NOT_FOUND, NOT_READABLE */
  reading(path: string): number {
    return this.#get(path, "r");
  }

  /** The file must exist: whoever lays out the folder creates it. */
  writing(path: string): number {
    return this.#get(path, "r+");
  }

  closeAll(): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #get(path: string, flags: "r" | "r+"): number {
    const key = `${flags} ${path}`;
    const known = this.#open.get(key);
    if (known !== undefined) {
      // Move to the back: the front is what was not used for longest.
      this.#open.delete(key);
      this.#open.set(key, known);
      return known;
    }
    const [oldest] = this.#open;
    if (oldest && this.#open.size >= MAX_OPEN) {
      this.#open.delete(oldest[0]);
      closeSync(oldest[1]);
    }
    const fd = attempt(path, () => openSync(path, flags));
    this.#open.set(key, fd);
    return fd;
  }
}
