import { readdir, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileError } from "./file.ts";
import { discard } from "./staging.ts";

/** One merge's place below `$GRAFTWORK_HOME/merged`. */
export interface MergedFolder {
  /** Where the finished checkpoint appears. */
  readonly output: string;
  /** Where this attempt writes. */
  readonly staging: string;
}

const FINISHED = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const STAGING = /^\.staging-([0-9a-f-]{36})-(\d+)$/;

export function mergedFolder(home: string, mergeId: string, attempt: number): MergedFolder {
  const merged = join(home, "merged");
  return { output: join(merged, mergeId), staging: join(merged, `.staging-${mergeId}-${attempt}`) };
}

export interface FoundFolder {
  readonly path: string;
  readonly mergeId: string;
  /** `null`: a finished folder; else the attempt that was writing here. */
  readonly attempt: number | null;
}

/** The folders of merges below a home, finished and staging; others are not named. */
export async function listMerged(home: string): Promise<FoundFolder[]> {
  const merged = join(home, "merged");
  const names = await readdir(merged).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === "ENOENT") return [];
    throw fileError(error, merged);
  });
  return names.flatMap((name): FoundFolder[] => {
    const staging = STAGING.exec(name);
    const path = join(merged, name);
    if (staging) return [{ path, mergeId: staging[1]!, attempt: Number(staging[2]) }];
    return FINISHED.test(name) ? [{ path, mergeId: name, attempt: null }] : [];
  });
}

/** Folders that attempts of a merge before `attempt` were writing, the latest first. */
export async function earlierStagings(home: string, mergeId: string, attempt: number): Promise<string[]> {
  const found = await listMerged(home);
  const own = found.filter((f) => f.mergeId === mergeId && f.attempt !== null && f.attempt < attempt);
  return own.sort((a, b) => b.attempt! - a.attempt!).map(({ path }) => path);
}

/** Whether a folder is a finished merge's below this home: nobody but Graftwork writes there, and it only once. */
export function isMergedFolder(home: string, folder: string): boolean {
  return dirname(folder) === join(home, "merged") && FINISHED.test(basename(folder));
}

/** Removes what attempts of a merge up to `attempt` were writing. Their processes are gone or have lost the job. */
export async function discardStagings(home: string, mergeId: string, attempt: number): Promise<void> {
  for (const found of await listMerged(home)) {
    if (found.mergeId !== mergeId || found.attempt === null || found.attempt > attempt) continue;
    await discard(found.path);
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
