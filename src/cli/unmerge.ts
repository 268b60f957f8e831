import { AppError } from "../core/errors.ts";
import { prepareUnmerge } from "../engine/local.ts";
import { type Residue, runUnmerge } from "../engine/unmerge.ts";
import { choosesRecipe } from "./choices.ts";
import type { CommandContext, Outcome } from "./command.ts";
import { localMerge } from "./request.ts";

/** `unmerge`: is merged − base this adapter? */
export async function run({ values, positionals, engine, watch }: CommandContext): Promise<Outcome> {
  const merged = positionals[0]!;
  const request = localMerge(values);
  const input = await watch(
    prepareUnmerge(merged, { ...request, choicesGiven: choosesRecipe(values) }, engine),
  );
  const result = await watch(runUnmerge(input, engine));
  const { residues, identical, withinRounding, base } = result;
  const failure =
    residues.length === 0
      ? undefined
      : new AppError(
          "NOT_EXPLAINED",
          `${merged} is not ${request.base} + ${request.adapter}: ${residues[0]!.tensor}: ${residues[0]!.meaning}` +
            `${residues.length > 1 ? `, and ${residues.length - 1} more tensors` : ""}. Name the base and the adapter that it was made of.`,
        );
  return {
    document: { ...result, peak_rss_bytes: process.resourceUsage().maxRSS * 1024 },
    lines: [
      ...residues.map(residueLine),
      `${result.verdict}: ${identical} tensors equal base + adapter bit for bit, ${withinRounding} within one unit in the last place`,
      `without the adapter it is the base: ${base.version} in ${base.folder}`,
    ],
    ...(failure && { failure }),
  };
}

function residueLine({ tensor, meaning, differing, elements, maxUlp }: Residue): string {
  const far =
    differing === null
      ? ""
      : ` (${differing} of ${elements} elements, up to ${Number(maxUlp!.toPrecision(3))} ulp)`;
  return `DIFFERENT ${tensor}: ${meaning}${far}`;
}
