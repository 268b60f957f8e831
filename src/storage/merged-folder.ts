import { readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { fileError } from "./file.ts";
import { discard } from "./staging.ts";

/** One merge's place below `$GRAFTWORK_HOME/merged`. */
export interface MergedFolder {
  /** Where the finished checkpoint appears. */
  readonly output: string;
  /** Where this attempt writes. */
  readonly staging: string;
}

const STAGING = /^\.staging-(.+)-(\d+)$/;

export function mergedFolder(home: string, mergeId: string, attempt: number): MergedFolder {
  const merged = join(home, "merged");
  return { output: join(merged, mergeId), staging: join(merged, `.staging-${mergeId}-${attempt}`) };
}

export interface Staging {
  readonly path: string;
  readonly mergeId: string;
  readonly attempt: number;
}

/** The staging folders below a home, of every merge; what a killed process left among them. */
export async function listStagings(home: string): Promise<Staging[]> {
  const merged = join(home, "merged");
  const names = await readdir(merged).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw fileError(error, merged);
  });
  return names.flatMap((name) => {
    const match = STAGING.exec(name);
    return match ? [{ path: join(merged, name), mergeId: match[1]!, attempt: Number(match[2]) }] : [];
  });
}

/** Removes what attempts of a merge up to `attempt` were writing. Their processes are gone or have lost the job. */
export async function discardStagings(home: string, mergeId: string, attempt: number): Promise<void> {
  for (const staging of await listStagings(home)) {
    if (staging.mergeId === mergeId && staging.attempt <= attempt) await discard(staging.path);
  }
}

/** Moves a folder that stands in the way to `<folder>.set-aside-<attempt>` and returns its new path. */
export async function setAside(folder: string, attempt: number): Promise<string> {
  const aside = `${folder}.set-aside-${attempt}`;
  await rename(folder, aside).catch((error) => {
    throw fileError(error, aside);
  });
  return aside;
}
