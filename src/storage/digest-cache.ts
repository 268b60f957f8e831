import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CheckpointFacts, TensorFacts, WeightFile } from "../core/checkpoint.ts";
import { fingerprintFile } from "./file.ts";
import { makeFolders } from "./make-folders.ts";

/** More files than this are not remembered; the ones used longest ago go first. */
const MAX_ENTRIES = 1000;

/** What is remembered of one weights file: its state, and what reading all of it told. */
interface Entry {
  readonly schema: 1;
  readonly path: string;
  readonly fingerprint: string;
  readonly tensors: readonly Pick<TensorFacts, "name" | "begin" | "digest" | "stats">[];
}

/** The real path of a weights file of a folder. */
export function realPathOf({ files }: Pick<CheckpointFacts, "files">, file: string): string | null {
  return files.find(({ path }) => path === file)?.stamp?.realPath ?? null;
}

/** Facts with the digests and statistics of every weights file that is as it was when it was remembered. */
export async function recallDigests(cache: string, facts: CheckpointFacts): Promise<CheckpointFacts> {
  const weights = facts.weights.map(async (file) => {
    const path = realPathOf(facts, file.path);
    const entry = path === null ? null : await readEntry(cache, path);
    if (path === null || entry === null || entry.fingerprint !== (await fingerprintFile(path))) return file;
    return recalled(file, entry);
  });
  return { ...facts, weights: await Promise.all(weights) };
}

function recalled(file: WeightFile, entry: Entry): WeightFile {
  const known = new Map(entry.tensors.map((tensor) => [`${tensor.begin} ${tensor.name}`, tensor]));
  const tensors: TensorFacts[] = [];
  for (const tensor of file.tensors) {
    const { digest, stats } = known.get(`${tensor.begin} ${tensor.name}`) ?? {};
    if (!digest || !stats) return file;
    tensors.push({ ...tensor, digest, stats });
  }
  return { ...file, tensors, fingerprint: entry.fingerprint };
}

/** Remembers every weights file whose digests and fingerprint are known. A cache that cannot be written is no error. */
export async function rememberDigests(cache: string, facts: CheckpointFacts): Promise<void> {
  try {
    await makeFolders(cache);
    for (const file of facts.weights) {
      const path = realPathOf(facts, file.path);
      if (path !== null && file.fingerprint !== undefined) await writeEntry(cache, path, file);
    }
    await prune(cache);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
  }
}

async function writeEntry(cache: string, path: string, file: WeightFile): Promise<void> {
  const entry: Entry = {
    schema: 1,
    path,
    fingerprint: file.fingerprint!,
    tensors: file.tensors.map(({ name, begin, digest, stats }) => ({
      name,
      begin,
      ...(digest && { digest }),
      ...(stats && { stats }),
    })),
  };
  const target = entryOf(cache, path);
  const written = `${target}.${randomUUID()}`;
  await writeFile(written, JSON.stringify(entry));
  await rename(written, target);
}

async function readEntry(cache: string, path: string): Promise<Entry | null> {
  const file = entryOf(cache, path);
  try {
    const entry = JSON.parse(await readFile(file, "utf8")) as Entry;
    if (entry.schema !== 1 || entry.path !== path) return null;
    await utimes(file, new Date(), new Date());
    return entry;
  } catch {
    // Missing, damaged or unreadable: the file is read again, which is always right.
    return null;
  }
}

function entryOf(cache: string, path: string): string {
  return join(cache, `${createHash("sha256").update(path).digest("hex")}.json`);
}

async function prune(cache: string): Promise<void> {
  const names = await readdir(cache);
  if (names.length <= MAX_ENTRIES) return;
  const aged = await Promise.all(
    names.map(async (name) => ({ name, used: (await stat(join(cache, name))).mtimeMs })),
  );
  aged.sort((a, b) => b.used - a.used);
  for (const { name } of aged.slice(MAX_ENTRIES)) await rm(join(cache, name), { force: true });
}
