import { AppError } from "../core/errors.ts";
import {
  type MergeChoices,
  parseRecipe,
  type Recipe,
  type RecipeChoices,
  recipeChoices,
} from "../core/recipe.ts";
import { formatModelName } from "../core/refs.ts";
import type { ViewerContext } from "./context.ts";
import { type PlannedMerge, planFor } from "./merge-plan.ts";
import { type FoundVersion, resolveVersion } from "./models.ts";

/** What the reference stands for, beyond its inputs. */
export interface RecipeRequest {
  /** Default: the adapter's if it ships one that differs, else the base's. */
  readonly tokenizer?: "base" | "adapter" | null | undefined;
  readonly choices?: Partial<RecipeChoices> | undefined;
}

export interface ComparedRequest {
  readonly base: { readonly ref: string };
  readonly sources: readonly { readonly ref: string; readonly weight?: number | null | undefined }[];
  /** A checkpoint from any tool, or what the recipe would give. */
  readonly candidate: { readonly ref: string } | { readonly recipe: RecipeRequest };
  /** What a candidate version was meant to be; default: the recipe that made it here, else all defaults. */
  readonly expected?: RecipeRequest | null | undefined;
}

export interface Compared {
  readonly base: FoundVersion;
  readonly sources: readonly (FoundVersion & { readonly weight: number })[];
  /** `null`: the recipe's result. */
  readonly candidate: FoundVersion | null;
  /** `null`: a version is judged. */
  readonly planned: PlannedMerge | null;
  readonly choices: MergeChoices;
  /** The model that the evaluation is about, and the input field that named it. */
  readonly subject: { readonly modelId: string; readonly name: string; readonly field: string };
}

/** More would be a soup, not an adapter: each runs its branches beside the others'. */
const MOST_SOURCES = 16;

/**
 * Finds the versions that an evaluation compares, each of the kind that it must be.
 * @throws BAD_REF, NOT_FOUND, BAD_INPUT, NOT_AN_ADAPTER, NOT_A_CHECKPOINT; for a recipe what `planFor` throws
 */
export async function findCompared(ctx: ViewerContext, request: ComparedRequest): Promise<Compared> {
  requireSources(request.sources);
  const base = await findKind(ctx, { ref: request.base.ref, field: "base.ref", adapter: false });
  const sources = await findSources(ctx, request.sources);
  const parts = { base, sources };
  return "recipe" in request.candidate
    ? await withRecipe(ctx, request, { ...parts, recipe: request.candidate.recipe })
    : await withVersion(ctx, request, { ...parts, ref: request.candidate.ref });
}

/** A version that a request names. */
export interface Found extends FoundVersion {
  /** `owner/name` of its model. */
  readonly name: string;
}

type Sources = ComparedRequest["sources"];

/** @throws BAD_INPUT for none, or too many */
export function requireSources({ length }: Sources): void {
  if (length > 0 && length <= MOST_SOURCES) return;
  throw new AppError("BAD_INPUT", `A reference runs 1 to ${MOST_SOURCES} adapters.`, { field: "sources" });
}

export type FoundSource = Found & { readonly weight: number };

/** The adapters that act together. Throws what `findKind` throws; BAD_INPUT for a weight that is no number. */
export async function findSources(ctx: ViewerContext, sources: Sources): Promise<FoundSource[]> {
  return await Promise.all(
    sources.map(async ({ ref, weight }, i) => ({
      ...(await findKind(ctx, { ref, field: `sources.${i}.ref`, adapter: true })),
      weight: readWeight(weight, `sources.${i}.weight`),
    })),
  );
}

interface Parts {
  readonly base: Found;
  readonly sources: readonly FoundSource[];
}

async function withRecipe(
  ctx: ViewerContext,
  request: ComparedRequest,
  { base, sources, recipe }: Parts & { readonly recipe: RecipeRequest },
): Promise<Compared> {
  if (request.expected) {
    throw new AppError("BAD_INPUT", "A recipe is what it is expected to be: leave `expected` out.", {
      field: "expected",
    });
  }
  const { tokenizer, choices } = recipe;
  const planned = await planFor(ctx, { base: request.base, sources: request.sources, tokenizer, choices });
  const { modelId, name } = sources[0]!;
  return {
    base,
    sources,
    candidate: null,
    planned,
    choices: recipeChoices(planned.recipe),
    subject: { modelId, name, field: "sources.0.ref" },
  };
}

async function withVersion(
  ctx: ViewerContext,
  request: ComparedRequest,
  { base, sources, ref }: Parts & { readonly ref: string },
): Promise<Compared> {
  const candidate = await findKind(ctx, { ref, field: "candidate.ref", adapter: false });
  const weights = sources.map(({ weight }) => weight);
  const expected = request.expected;
  const recorded = expected ? null : await recordedChoices(ctx, { base, sources, candidate });
  return {
    base,
    sources,
    candidate,
    planned: null,
    choices: recorded ?? { ...expected?.choices, tokenizer: expected?.tokenizer ?? null, weights },
    subject: { modelId: candidate.modelId, name: candidate.name, field: "candidate.ref" },
  };
}

interface Wanted {
  readonly ref: string;
  readonly field: string;
  /** Whether it must be an adapter, or must not be one. */
  readonly adapter: boolean;
}

/** @throws BAD_REF, NOT_FOUND, NOT_AN_ADAPTER, NOT_A_CHECKPOINT */
export async function findKind(ctx: ViewerContext, { ref, field, adapter }: Wanted): Promise<Found> {
  const { kind, ...found } = await withModel(ctx, await resolveVersion(ctx, ref, field));
  if ((kind === "ADAPTER") === adapter) return found;
  throw adapter
    ? new AppError("NOT_AN_ADAPTER", `${ref} is a full checkpoint, not an adapter.`, { field })
    : new AppError("NOT_A_CHECKPOINT", `${ref} is an adapter, not a full checkpoint.`, { field });
}

/** A version with its model's name and kind. */
export async function withModel({ db }: Pick<ViewerContext, "db">, version: FoundVersion) {
  const { kind, name, namespace } = await db.model.findUniqueOrThrow({
    where: { id: version.modelId },
    select: { kind: true, name: true, namespace: { select: { name: true } } },
  });
  return { ...version, kind, name: formatModelName({ namespace: namespace.name, name }) };
}

function readWeight(weight: number | null | undefined, field: string): number {
  const value = weight ?? 1;
  if (Number.isFinite(value)) return value;
  throw new AppError("BAD_INPUT", "A weight is a finite number.", { field });
}

interface Recorded {
  readonly base: Pick<FoundVersion, "digest">;
  readonly sources: readonly (Pick<FoundVersion, "digest"> & { readonly weight: number })[];
  readonly candidate: Pick<FoundVersion, "id">;
}

/**
 * The choices of the recipe that made a version here: of the one with just these inputs, if there is one. Where others
 * made it, how it was meant to be stored still holds. Null for a version that was not merged here.
 */
export async function recordedChoices(
  { db }: Pick<ViewerContext, "db">,
  { base, sources, candidate }: Recorded,
): Promise<MergeChoices | null> {
  const merges = await db.merge.findMany({
    where: { versionId: candidate.id, state: "SUCCEEDED", cachedFromId: null },
    orderBy: { id: "asc" },
    select: { recipe: { select: { document: true } } },
  });
  const fits = (recipe: Recipe) =>
    recipe.base.version === base.digest &&
    recipe.sources.length === sources.length &&
    recipe.sources.every(
      ({ version, weight }, i) => version === sources[i]!.digest && weight === sources[i]!.weight,
    );
  const recipes = merges.map((merge) => parseRecipe(merge.recipe.document));
  const recipe = recipes.find(fits) ?? recipes[0];
  return recipe ? { ...recipeChoices(recipe), weights: sources.map(({ weight }) => weight) } : null;
}
