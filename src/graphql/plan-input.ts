import { AppError } from "../core/errors.ts";
import { EXACT_NUMERICS, NUMERICS } from "../core/numerics-versions.ts";
import type { ModuleSelection, RecipeChoices } from "../core/recipe.ts";
import type { MergePlanRequest } from "../registry/merge-plan.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { LineageRole, MergeDtype, Numerics, TiedEmbeddings } from "./enums.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

const PinnedVersionInput = builder.inputType("PinnedVersionInput", {
  description: "A version, and optionally the digest that it must have.",
  fields: (t) => ({
    version: t.field({ type: VersionRefInput, required: true, description: "Which version." }),
    pin: t.field({ type: "Sha256", description: "Refuse the merge unless the version has this digest." }),
  }),
});

const MergeSourceInput = builder.inputType("MergeSourceInput", {
  description: "An adapter that is merged in.",
  fields: (t) => ({
    version: t.field({ type: VersionRefInput, required: true, description: "A version of an adapter." }),
    weight: t.float({ defaultValue: 1, description: "A factor on the adapter's update." }),
    pin: t.field({ type: "Sha256", description: "Refuse the merge unless the version has this digest." }),
  }),
});

const ModuleSelectionInput = builder.inputType("ModuleSelectionInput", {
  description: "Modules of the adapter, matched as PEFT matches target_modules.",
  fields: (t) => ({
    modules: t.stringList({ description: "Names, or ends of names from a dot on, such as `q_proj`." }),
    pattern: t.string({ description: "One regular expression for whole names, instead of `modules`." }),
    layers: t.intList({ description: "Only in these layers; counted from 0." }),
  }),
});

const RecipeChoicesInput = builder.inputType("RecipeChoicesInput", {
  description: "How the merge is computed and stored; each field goes into the recipe.",
  fields: (t) => ({
    dtype: t.field({
      type: MergeDtype,
      description: "Storage type of the output's float tensors; if not said, the base's.",
    }),
    numerics: t.field({
      type: Numerics,
      defaultValue: "PEFT",
      description: "PEFT's own float32 steps, or float64 with one rounding at the end.",
    }),
    ties: t.field({
      type: TiedEmbeddings,
      defaultValue: "PRESERVE",
      description: "What becomes of tied embeddings when only one side is adapted.",
    }),
    include: t.field({ type: ModuleSelectionInput, description: "Merge only these modules." }),
    exclude: t.field({
      type: ModuleSelectionInput,
      description: "Leave these modules as they are in the base.",
    }),
  }),
});

/** The fields that a plan and the merge after it have in common. */
export const recipeFields = builder.inputType("MergePlanInput", {
  description: "What would be merged, and how.",
  fields: (t) => ({
    base: t.field({ type: PinnedVersionInput, required: true, description: "The checkpoint to adapt." }),
    sources: t.field({
      type: [MergeSourceInput],
      required: true,
      description: "The adapters, in order; exactly one for now.",
    }),
    tokenizer: t.field({
      type: LineageRole,
      description:
        "Whose tokenizer the output takes; if not said, the adapter's where it ships one that differs, else the base's.",
    }),
    choices: t.field({ type: RecipeChoicesInput, description: "How it is computed and stored." }),
    strictBase: t.boolean({
      defaultValue: false,
      description:
        "Refuse a base whose name is not the one that the adapter states, or an unpinned revision.",
    }),
  }),
});

export { MergeSourceInput, PinnedVersionInput, RecipeChoicesInput };

type RecipeInput = typeof recipeFields.$inferInput;

/** A plan's input as the registry takes it. */
export async function toPlanRequest(context: GraphContext, input: RecipeInput): Promise<MergePlanRequest> {
  const base = { ref: await toRef(context, input.base.version, "base.ref"), pin: input.base.pin };
  const sources = await Promise.all(
    input.sources.map(async ({ version, weight, pin }, i) => ({
      ref: await toRef(context, version, `sources.${i}.ref`),
      weight,
      pin,
    })),
  );
  const tokenizer = input.tokenizer && (input.tokenizer === "BASE" ? "base" : "adapter");
  return { base, sources, tokenizer, choices: toChoices(input.choices), strictBase: input.strictBase };
}

type ChoicesInput = typeof RecipeChoicesInput.$inferInput;
type SelectionInput = typeof ModuleSelectionInput.$inferInput;

export function toChoices(input: ChoicesInput | null | undefined): Partial<RecipeChoices> {
  if (!input) return {};
  return {
    dtype: input.dtype ?? null,
    numerics: input.numerics === "EXACT" ? EXACT_NUMERICS : NUMERICS,
    ties: input.ties === "PEFT" ? "peft" : "preserve",
    include: toSelection(input.include, "choices.include"),
    exclude: toSelection(input.exclude, "choices.exclude"),
  };
}

function toSelection(input: SelectionInput | null | undefined, field: string): ModuleSelection | null {
  if (!input) return null;
  const { modules, pattern, layers } = input;
  if (modules && pattern) {
    throw new AppError("BAD_INPUT", `${field}: name modules or give one pattern, not both.`, { field });
  }
  if (!modules && !pattern && !layers) {
    throw new AppError("BAD_INPUT", `${field}: says nothing; name modules, a pattern or layers.`, { field });
  }
  for (const [name, list] of Object.entries({ modules, layers })) {
    if (list?.length === 0) throw new AppError("BAD_INPUT", `${field}.${name}: is an empty list.`, { field });
  }
  if (modules?.includes(""))
    throw new AppError("BAD_INPUT", `${field}.modules: has an empty name.`, { field });
  const negative = layers?.find((layer) => layer < 0);
  if (negative !== undefined) {
    throw new AppError("BAD_INPUT", `${field}.layers: ${negative} is no layer; they are counted from 0.`, {
      field,
    });
  }
  return { modules: pattern ?? modules ?? null, layers: layers ?? null };
}

/** Where a plan's input has what the registry complains about. */
export const PLAN_FIELDS: Readonly<Record<string, string>> = {
  "base.ref": "base.version",
  "base.pin": "base.pin",
  ...Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`sources.${i}.ref`, `sources.${i}.version`])),
};
