import type { Tx } from "./db.ts";
import { toJson } from "./jobs.ts";
import type { PlannedMerge } from "./merge-plan.ts";

/** The namespace's row of a planned recipe, made if missing. */
export async function storeRecipe(tx: Tx, namespaceId: string, { recipe, recipeDigest }: PlannedMerge) {
  const row = { namespaceId, digest: recipeDigest };
  await tx.recipe.createMany({ data: [{ ...row, document: toJson(recipe) }], skipDuplicates: true });
  return await tx.recipe.findUniqueOrThrow({ where: { namespaceId_digest: row } });
}
