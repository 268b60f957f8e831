import { AppError } from "../core/errors.ts";
import { parseDigest } from "../core/identity.ts";
import { METHODS } from "../core/methods/index.ts";
import { type MergePlan, type PlanInput, planMerge } from "../core/plan.ts";
import {
  type MergeChoices,
  makeRecipe,
  type Recipe,
  type RecipeChoices,
  recipeDigest,
} from "../core/recipe.ts";
import { type LoadedVersion, loadVersion } from "./checkpoints.ts";
import type { ViewerContext } from "./context.ts";
import { resolveVersion } from "./models.ts";

export interface MergeSourceRequest {
  /** Reference to an adapter's version. */
  readonly ref: string;
  /** Default 1. */
  readonly weight?: number | null | undefined;
  /** A version digest that the reference must have. */
  readonly pin?: string | null | undefined;
}

export interface MergePlanRequest {
  readonly base: { readonly ref: string; readonly pin?: string | null | undefined };
  /** One adapter for now. */
  readonly sources: readonly MergeSourceRequest[];
  /** Default: the adapter's if it ships one that differs, else the base's. */
  readonly tokenizer?: "base" | "adapter" | null | undefined;
  /** What else the recipe says; absent fields are the defaults. */
  readonly choices?: Partial<RecipeChoices> | undefined;
  /** Refuse a base whose name differs from the one that the adapter states. */
  readonly strictBase?: boolean | null | undefined;
}

/** A plan with all that it was made from. */
export interface PlannedMerge {
  readonly plan: MergePlan;
  readonly recipe: Recipe;
  readonly recipeDigest: string;
  readonly base: LoadedVersion;
  readonly sources: readonly (LoadedVersion & { readonly weight: number })[];
}

/**
 * Plans a merge from the headers that the database holds: no model file is touched. A plan that would be refused is
 * returned with its reasons.
 * @throws BAD_REF, NOT_FOUND, BAD_DIGEST, BAD_INPUT, UNSUPPORTED_RECIPE
 */
export async function planFor(ctx: ViewerContext, request: MergePlanRequest): Promise<PlannedMerge> {
  const [first, ...more] = request.sources;
  if (!first || more.length > 0) {
    throw new AppError("UNSUPPORTED_RECIPE", "A merge takes exactly one adapter for now.", {
      field: "sources",
    });
  }
  const load = async (ref: string, field: string) =>
    await loadVersion(ctx.db, (await resolveVersion(ctx, ref, field)).id);
  const base = await load(request.base.ref, "base.ref");
  const sources = [{ ...(await load(first.ref, "sources.0.ref")), weight: readWeight(first) }];
  return planLoaded({
    base,
    sources,
    choices: {
      ...request.choices,
      weights: sources.map(({ weight }) => weight),
      tokenizer: request.tokenizer ?? null,
    },
    strictBase: request.strictBase ?? false,
    pins: {
      base: readPin(request.base.pin, "base.pin"),
      sources: [readPin(first.pin, "sources.0.pin")],
    },
  });
}

function readWeight({ weight }: MergeSourceRequest): number {
  const value = weight ?? 1;
  if (Number.isFinite(value)) return value;
  throw new AppError("BAD_INPUT", "A weight is a finite number.", { field: "sources.0.weight" });
}

function readPin(pin: string | null | undefined, field: string) {
  return pin === null || pin === undefined ? null : parseDigest(pin, field);
}

interface LoadedRequest {
  readonly base: LoadedVersion;
  readonly sources: readonly (LoadedVersion & { readonly weight: number })[];
  readonly choices: MergeChoices;
  readonly strictBase: boolean;
  readonly pins?: { readonly base: PlanInput["pin"]; readonly sources: readonly PlanInput["pin"][] };
}

/** Plans from versions that were loaded already: what a worker does again before it starts. */
export function planLoaded(request: LoadedRequest): PlannedMerge {
  const { base, sources, choices, strictBase, pins } = request;
  if (!METHODS.add) throw new Error("the method add is missing");
  for (const [index, { facts, label }] of sources.entries()) {
    if (facts.kind === "adapter") continue;
    throw new AppError("NOT_AN_ADAPTER", `${label} is a full checkpoint, not an adapter.`, {
      field: `sources.${index}.ref`,
    });
  }
  const input = ({ facts, label, digest }: LoadedVersion, pin: PlanInput["pin"]): PlanInput => ({
    facts,
    label,
    digest,
    pin: pin ?? null,
  });
  const plan = planMerge({
    base: input(base, pins?.base),
    sources: sources.map((source, index) => input(source, pins?.sources[index])),
    choices,
    strictBase,
  });
  const recipe = makeRecipe({
    base: { version: base.digest, weights: base.weightsDigest },
    sources: sources.map(({ digest, weightsDigest, weight }) => ({
      version: digest,
      weights: weightsDigest,
      weight,
    })),
    tokenizer: plan.tokenizer.from,
    choices: plan.choices,
  });
  return { plan, recipe, recipeDigest: recipeDigest(recipe), base, sources };
}
