import type { Db } from "./db.ts";

/*
 * Merged checkpoints lie in folders that carry the merge's id as their name. Processes may see the same disk under
 * different paths, so that name, not the path, says whose a folder is.
 */

/** Whether a version says that its files are in the folder of this merge. */
export async function isRecorded(db: Db, mergeId: string): Promise<boolean> {
  return (await db.version.count({ where: { location: { endsWith: mergeId } } })) > 0;
}

/** Which of these merges have ended: with a version, or empty. Running and unknown ones are left out. */
export async function endedMerges(
  db: Db,
  ids: readonly string[],
): Promise<Map<string, "recorded" | "empty">> {
  const merges = await db.merge.findMany({
    where: { id: { in: [...ids] }, state: { in: ["SUCCEEDED", "FAILED", "CANCELLED"] } },
    select: { id: true, versionId: true },
  });
  return new Map(merges.map(({ id, versionId }) => [id, versionId === null ? "empty" : "recorded"]));
}
