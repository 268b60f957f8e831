import { type Entry, fromRandomAccessReaderPromise, RandomAccessReader, type ZipFile } from "yauzl";
import { AppError } from "../core/errors.ts";
import type { ByteSource } from "../core/source.ts";
import { badTorchFile } from "../core/torch-state.ts";

/** As many as a pickle may have tensors. */
const MAX_ENTRIES = 100_000;
/** Read at once: a directory is read in steps of a few bytes, what stands before an entry in one. */
const WINDOW_BYTES = 4096;

/** One file in the archive: its bytes, which are stored as they are. */
export interface StoredEntry {
  readonly begin: number;
  readonly end: number;
}

/**
 * Lists the files in a zip archive as torch.save writes them: none compressed or encrypted, none twice, none
 * overlapping another or the directory, and none with a name that leads out of the archive. Nothing is unpacked.
 * @throws BAD_FILE naming what is wrong
 */
export async function readStoredZip(source: ByteSource): Promise<Map<string, StoredEntry>> {
  const zip = await attempt(source, () =>
    fromRandomAccessReaderPromise(new SourceReader(source), source.size, {
      autoClose: false,
      validateEntrySizes: true,
      strictFileNames: true,
    }),
  );
  if (zip.entryCount > MAX_ENTRIES) {
    throw badTorchFile(source.name, `it has ${zip.entryCount} entries, the limit is ${MAX_ENTRIES}`);
  }
  const directory = Number(zip.readEntryCursor);
  const entries = await attempt(source, () => listEntries(zip));
  const found = new Map<string, StoredEntry>();
  const ranges: Range[] = [{ name: "the directory", from: directory, to: Number(zip.readEntryCursor) }];
  for (const entry of entries) {
    const say = (why: string) =>
      badTorchFile(source.name, `its entry ${JSON.stringify(entry.fileName)} ${why}`);
    if (entry.compressionMethod !== 0 || entry.isEncrypted()) throw say("is compressed or encrypted");
    if (found.has(entry.fileName)) throw say("is there twice");
    const header = await attempt(source, () => zip.readLocalFileHeaderPromise(entry));
    if (!header.fileName.equals(entry.fileNameRaw) || header.compressionMethod !== 0) {
      throw say("is another one in the directory than at its place");
    }
    const begin = header.fileDataStart;
    found.set(entry.fileName, { begin, end: begin + entry.compressedSize });
    ranges.push({
      name: entry.fileName,
      from: entry.relativeOffsetOfLocalHeader,
      to: begin + entry.compressedSize,
    });
  }
  requireApart(ranges, source);
  return found;
}

async function listEntries(zip: ZipFile): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of zip.eachEntry()) entries.push(entry);
  return entries;
}

interface Range {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

function requireApart(ranges: Range[], source: ByteSource): void {
  ranges.sort((a, b) => a.from - b.from || a.to - b.to);
  for (const [i, { name, from }] of ranges.entries()) {
    const before = ranges[i - 1];
    if (before && before.to > from) {
      throw badTorchFile(source.name, `${before.name} and ${name} overlap`);
    }
  }
}

/** yauzl's complaints are plain errors, about the file it reads. */
async function attempt<T>(source: ByteSource, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError || !(error instanceof Error)) throw error;
    throw badTorchFile(source.name, `it is not a sound zip archive (${error.message})`);
  }
}

/** Gives yauzl a source's bytes, a window at a time. */
class SourceReader extends RandomAccessReader {
  readonly #source: ByteSource;
  #window: { readonly start: number; readonly bytes: Uint8Array } = { start: 0, bytes: new Uint8Array() };

  constructor(source: ByteSource) {
    super();
    this.#source = source;
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    this.#copy(buffer.subarray(offset, offset + length), position).then(
      () => callback(null),
      (error) => callback(error),
    );
  }

  async #copy(into: Uint8Array, position: number): Promise<void> {
    const end = position + into.byteLength;
    if (!Number.isSafeInteger(position) || position < 0 || end > this.#source.size) {
      throw badTorchFile(this.#source.name, `bytes ${position} to ${end} are beyond its end`);
    }
    const { start, bytes } = this.#window;
    if (position < start || end > start + bytes.byteLength) {
      const stop = Math.min(this.#source.size, Math.max(end, position + WINDOW_BYTES));
      this.#window = { start: position, bytes: await this.#source.read(position, stop) };
    }
    const from = position - this.#window.start;
    into.set(this.#window.bytes.subarray(from, from + into.byteLength));
  }
}
