import { z } from "zod";
import { AppError } from "./errors.ts";
import { type Digest, digestJson, isDigest } from "./identity.ts";

/** Version of the canonical arithmetic (ARCHITECTURE.md): PEFT's on a CPU. A change of any bit is a new name. */
export const NUMERICS = "peft-1";

const digest = z.custom<Digest>(isDigest, "must be sha256: and 64 lower-case hex digits");
const input = z.strictObject({ version: digest, weights: digest });

const recipeSchema = z.strictObject({
  schema: z.literal(1),
  base: input,
  sources: z.array(z.strictObject({ version: digest, weights: digest, weight: z.number() })).min(1),
  method: z.strictObject({ name: z.string(), version: z.int().positive() }),
  numerics: z.literal(NUMERICS),
  dtype: z.null(),
  sharding: z.literal("base"),
  tokenizer: z.enum(["base", "adapter"]),
  ties: z.literal("preserve"),
  include: z.null(),
  exclude: z.null(),
  seed: z.null(),
});

/** What to merge, complete: every field present, so that equal recipes have equal digests. */
export type Recipe = z.infer<typeof recipeSchema>;

/** A recipe's digests of one input. */
export type RecipeInput = z.infer<typeof input>;

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

/** What a person chooses; the rest of a recipe follows from the inputs. */
export interface MergeChoices {
  /** One weight for each source. */
  readonly weights: readonly number[];
  /** `null`: the adapter's tokenizer if it ships one that differs, else the base's. */
  readonly tokenizer: "base" | "adapter" | null;
}

export interface RecipeParts {
  readonly base: RecipeInput;
  readonly sources: readonly (RecipeInput & { readonly weight: number })[];
  readonly tokenizer: "base" | "adapter";
}

export function makeRecipe({ base, sources, tokenizer }: RecipeParts): Recipe {
  return parseRecipe({
    schema: 1,
    base: { version: base.version, weights: base.weights },
    sources: sources.map(({ version, weights, weight }) => ({ version, weights, weight })),
    method: { name: "add", version: 1 },
    numerics: NUMERICS,
    dtype: null,
    sharding: "base",
    tokenizer,
    ties: "preserve",
    include: null,
    exclude: null,
    seed: null,
  });
}
