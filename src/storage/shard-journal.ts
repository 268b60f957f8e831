import { readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError } from "./file.ts";
import { makeFolders } from "./make-folders.ts";
import { writeText } from "./staging.ts";

/** Hidden, so that it is no part of the checkpoint while it stands in the staging folder. */
const FOLDER = ".finished";

/** What a merge notes of a shard when the last of its bytes is written. */
export interface FinishedShard<Result> {
  readonly schema: 1;
  /** What was to be written: recipe, version of the engine, layout. */
  readonly key: string;
  readonly results: readonly Result[];
}

/** Notes beside the shards of a staging folder that one of them is finished. */
export async function noteFinished<Result>(
  staging: string,
  shard: string,
  note: FinishedShard<Result>,
): Promise<void> {
  const path = noteOf(staging, shard);
  await makeFolders(dirname(path)).catch((error) => {
    throw fileError(error, path);
  });
  // Under its name only when it is whole: a crash in the middle must not leave half a note.
  await writeText(`${path}.part`, JSON.stringify(note));
  await rename(`${path}.part`, path);
}

/** The note of a shard with this key, or `null`: there is none, or it is of something else. */
export async function readFinished<Result>(
  staging: string,
  shard: string,
  key: string,
): Promise<FinishedShard<Result> | null> {
  try {
    const note = JSON.parse(await readFile(noteOf(staging, shard), "utf8")) as FinishedShard<Result>;
    return note.schema === 1 && note.key === key ? note : null;
  } catch {
    return null;
  }
}

/** Moves a shard from one staging folder into another on the same disk. */
export async function moveShard(from: string, to: string, shard: string): Promise<void> {
  await rename(join(from, shard), join(to, shard)).catch((error) => {
    throw fileError(error, join(from, shard));
  });
}

/** Removes the notes: what is published is the checkpoint alone. */
export async function dropNotes(staging: string): Promise<void> {
  await rm(join(staging, FOLDER), { recursive: true, force: true });
}

function noteOf(staging: string, shard: string): string {
  return join(staging, FOLDER, `${shard}.json`);
}
