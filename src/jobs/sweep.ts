import type { RegistryContext } from "../registry/context.ts";
import { endedMerges } from "../registry/merged-folders.ts";
import { listMerged } from "../storage/merged-folder.ts";
import { discard } from "../storage/staging.ts";

/**
 * Removes what merges left that ended while nobody was there to clean up, for example cancelled after their worker was
 * killed. Folders of merges that this database does not know are left alone. Returns the removed paths.
 */
export async function sweepMerged(registry: RegistryContext, home: string): Promise<string[]> {
  const found = await listMerged(home);
  if (found.length === 0) return [];
  const ended = await endedMerges(registry.db, [...new Set(found.map((folder) => folder.mergeId))]);
  const removed: string[] = [];
  for (const { path, mergeId, attempt } of found) {
    // A finished folder goes only if no version came of its merge; a staging folder of an ended merge always.
    const fate = ended.get(mergeId);
    if (fate === undefined || (attempt === null && fate === "recorded")) continue;
    await discard(path);
    removed.push(path);
  }
  return removed;
}
