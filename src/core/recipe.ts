import { z } from "zod";
import { MERGEABLE_DTYPES } from "./dtype.ts";
import { AppError } from "./errors.ts";
import { type Digest, digestJson, isDigest } from "./identity.ts";
import { EXACT_NUMERICS, NUMERICS } from "./numerics-versions.ts";

const digest = z.custom<Digest>(isDigest, "must be sha256: and 64 lower-case hex digits");
const input = z.strictObject({ version: digest, weights: digest });

/** Modules by PEFT's rules for target_modules: one regular expression for whole names, or a list of names or endings. */
const selection = z.strictObject({
  modules: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).nullable(),
  /** Numbers of layers: the first dotted number in a module's name. */
  layers: z.array(z.int().nonnegative()).min(1).nullable(),
});

const recipeSchema = z.strictObject({
  schema: z.literal(1),
  base: input,
  sources: z.array(z.strictObject({ version: digest, weights: digest, weight: z.number() })).min(1),
  method: z.strictObject({ name: z.string(), version: z.int().positive() }),
  numerics: z.enum([NUMERICS, EXACT_NUMERICS]),
  /** Storage type of the output's float tensors; null: the base's. */
  dtype: z.enum(MERGEABLE_DTYPES).nullable(),
  sharding: z.literal("base"),
  tokenizer: z.enum(["base", "adapter"]),
  /** Tied embeddings: "preserve" keeps what the adapted pair computes and unties where it must; "peft" changes both sides. */
  ties: z.enum(["preserve", "peft"]),
  include: selection.nullable(),
  exclude: selection.nullable(),
  seed: z.null(),
});

/** What to merge, complete: every field present, so that equal recipes have equal digests. */
export type Recipe = z.infer<typeof recipeSchema>;

/** A recipe's digests of one input. */
export type RecipeInput = z.infer<typeof input>;

/** Which modules a partial merge takes or leaves. */
export type ModuleSelection = z.infer<typeof selection>;

/** @throws BAD_RECIPE with the path of the field and what it must be */
export function parseRecipe(value: unknown, file = "recipe"): Recipe {
  const parsed = recipeSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.join(".") ?? "";
  throw new AppError("BAD_RECIPE", `${file}: field "${path}" ${issue?.message ?? "is wrong"}.`, {
    field: path,
  });
}

/** Digest of the canonical JSON of a recipe. */
export function recipeDigest(recipe: Recipe): Digest {
  return digestJson(recipe);
}

/** What a person chooses of a recipe beyond its inputs. */
export type RecipeChoices = Pick<Recipe, "numerics" | "dtype" | "ties" | "include" | "exclude">;

export const DEFAULT_CHOICES: RecipeChoices = {
  numerics: NUMERICS,
  dtype: null,
  ties: "preserve",
  include: null,
  exclude: null,
};

/** What a person chooses; the rest of a recipe follows from the inputs. Absent fields are `DEFAULT_CHOICES`. */
export interface MergeChoices extends Partial<RecipeChoices> {
  /** One weight for each source. */
  readonly weights: readonly number[];
  /** `null`: the adapter's tokenizer if it ships one that differs, else the base's. */
  readonly tokenizer: "base" | "adapter" | null;
}

/** The choices that give a recipe again, for another run of it. */
export function recipeChoices(recipe: Recipe): MergeChoices {
  const { numerics, dtype, ties, include, exclude, tokenizer, sources } = recipe;
  return { numerics, dtype, ties, include, exclude, tokenizer, weights: sources.map((s) => s.weight) };
}

export interface RecipeParts {
  readonly base: RecipeInput;
  readonly sources: readonly (RecipeInput & { readonly weight: number })[];
  readonly tokenizer: "base" | "adapter";
  readonly choices?: Partial<RecipeChoices>;
}

export function makeRecipe({ base, sources, tokenizer, choices }: RecipeParts): Recipe {
  const { numerics, dtype, ties, include, exclude } = { ...DEFAULT_CHOICES, ...choices };
  return parseRecipe({
    schema: 1,
    base: { version: base.version, weights: base.weights },
    sources: sources.map(({ version, weights, weight }) => ({ version, weights, weight })),
    method: { name: "add", version: 1 },
    numerics,
    dtype,
    sharding: "base",
    tokenizer,
    ties,
    include: canonicalSelection(include),
    exclude: canonicalSelection(exclude),
    seed: null,
  });
}

/** Lists are sets: their order and repetitions must not make another recipe. */
function canonicalSelection(selection: ModuleSelection | null): ModuleSelection | null {
  if (selection === null) return null;
  const { modules, layers } = selection;
  return {
    modules: Array.isArray(modules) ? [...new Set(modules)].sort() : modules,
    layers: layers === null ? null : [...new Set(layers)].sort((a, b) => a - b),
  };
}
