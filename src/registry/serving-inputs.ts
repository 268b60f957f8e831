import { AppError } from "../core/errors.ts";
import { type MergeChoices, parseRecipe, recipeChoices } from "../core/recipe.ts";
import { notFound, type ViewerContext } from "./context.ts";
import {
  type ComparedRequest,
  type Found,
  type FoundSource,
  findKind,
  findSources,
  type RecipeRequest,
  recordedChoices,
  requireSources,
  withModel,
} from "./evaluation-inputs.ts";
import { type FoundVersion, resolveVersion } from "./models.ts";
import { visibleTo } from "./visibility.ts";

export interface ServingSides {
  /** Default: the version that the first adapter was trained on. */
  readonly base?: { readonly ref: string } | null | undefined;
  /** Adapters that act together. */
  readonly sources: ComparedRequest["sources"];
  /** A checkpoint that holds them merged, from any tool; default: none is written yet. */
  readonly merged?: { readonly ref: string } | null | undefined;
  /** How they were merged, or would be; default: as the recipe that made `merged` here says, else all defaults. */
  readonly recipe?: RecipeRequest | null | undefined;
}

/** An adapter or a version that was merged here, of which the rest is recorded; or every side by its name. */
export type ServingSubject =
  | { readonly version: { readonly ref: string } }
  | { readonly sides: ServingSides };

/** What is served, apart and merged. */
export interface Served {
  readonly base: FoundVersion;
  readonly sources: readonly (FoundVersion & { readonly weight: number })[];
  /** `null`: it was not written yet. */
  readonly merged: FoundVersion | null;
  readonly choices: MergeChoices;
  /** The version that the advice is about, its model's name, and the input field that named it. */
  readonly subject: FoundVersion & { readonly name: string; readonly field: string };
}

/**
 * Finds base, adapters and merged checkpoint of an advice.
 * @throws BAD_REF, NOT_FOUND, BAD_INPUT, NOT_AN_ADAPTER, NOT_A_CHECKPOINT; NO_BASE, NOT_A_MERGE where what is not named
 *   is not recorded either
 */
export async function findServed(ctx: ViewerContext, subject: ServingSubject): Promise<Served> {
  return "version" in subject ? await ofVersion(ctx, subject.version.ref) : await ofSides(ctx, subject.sides);
}

const VERSION = "version.ref";

async function ofVersion(ctx: ViewerContext, ref: string): Promise<Served> {
  const found = await withModel(ctx, await resolveVersion(ctx, ref, VERSION));
  const subject = { ...found, field: VERSION };
  if (found.kind === "ADAPTER") {
    const base = await trainedOn(ctx, { ...found, ref, field: VERSION });
    const choices = { tokenizer: null, weights: [1] };
    return { base, sources: [{ ...found, weight: 1 }], merged: null, choices, subject };
  }
  return { ...(await mergedFrom(ctx, { ...found, ref })), merged: found, subject };
}

async function ofSides(ctx: ViewerContext, sides: ServingSides): Promise<Served> {
  requireSources(sides.sources);
  const named =
    sides.base && (await findKind(ctx, { ref: sides.base.ref, field: "base.ref", adapter: false }));
  const sources = await findSources(ctx, sides.sources);
  const [first] = sources as [FoundSource];
  const base =
    named ?? (await trainedOn(ctx, { ...first, ref: sides.sources[0]!.ref, field: "sources.0.ref" }));
  const merged = sides.merged
    ? await findKind(ctx, { ref: sides.merged.ref, field: "merged.ref", adapter: false })
    : null;
  const choices = await choicesOf(ctx, sides, { base, sources, merged });
  const subject = merged ? { ...merged, field: "merged.ref" } : { ...first, field: "sources.0.ref" };
  return { base, sources, merged, choices, subject };
}

async function choicesOf(
  ctx: ViewerContext,
  { recipe }: ServingSides,
  { base, sources, merged }: Pick<Served, "base" | "sources" | "merged">,
): Promise<MergeChoices> {
  const recorded =
    merged && !recipe ? await recordedChoices(ctx, { base, sources, candidate: merged }) : null;
  const weights = sources.map(({ weight }) => weight);
  return recorded ?? { ...recipe?.choices, tokenizer: recipe?.tokenizer ?? null, weights };
}

/** What of a version others need to find it. */
const FOUND = { id: true, namespaceId: true, modelId: true, digest: true } as const;

/** The base that an adapter was imported with; of several the last one that was said. */
async function trainedOn(
  { db, viewer }: Pick<ViewerContext, "db" | "viewer">,
  adapter: Found & { readonly ref: string; readonly field: string },
): Promise<FoundVersion> {
  const edge = await db.lineageEdge.findFirst({
    where: { childId: adapter.id, relation: "TRAINED_ON", parent: visibleTo(viewer).version },
    orderBy: { id: "desc" },
    select: { parent: { select: FOUND } },
  });
  if (edge) return edge.parent;
  throw new AppError(
    "NO_BASE",
    `No base is recorded for ${adapter.ref}, or you may not see it: name the base beside the adapter.`,
    { field: adapter.field },
  );
}

/** Base, adapters and choices of the recipe that made a version here. */
async function mergedFrom(
  { db, viewer }: Pick<ViewerContext, "db" | "viewer">,
  { id, ref }: Found & { readonly ref: string },
): Promise<Pick<Served, "base" | "sources" | "choices">> {
  const merge = await db.merge.findFirst({
    where: { versionId: id, state: "SUCCEEDED", cachedFromId: null },
    orderBy: { id: "asc" },
    select: {
      recipe: { select: { document: true } },
      inputs: { orderBy: { position: "asc" }, select: { weight: true, versionId: true } },
    },
  });
  if (!merge) {
    throw new AppError(
      "NOT_A_MERGE",
      `${ref} is neither an adapter nor merged here: name base, adapters and this checkpoint as the sides.`,
      { field: VERSION },
    );
  }
  const seen = await db.version.findMany({
    where: {
      AND: [{ id: { in: merge.inputs.map(({ versionId }) => versionId) } }, visibleTo(viewer).version],
    },
    select: FOUND,
  });
  const [base, ...sources] = merge.inputs.map(({ versionId, weight }) => {
    const version = seen.find((one) => one.id === versionId);
    if (!version) throw notFound(`Something that ${ref} was merged from`, VERSION);
    return { ...version, weight: weight ?? 1 };
  });
  return { base: base!, sources, choices: recipeChoices(parseRecipe(merge.recipe.document)) };
}
