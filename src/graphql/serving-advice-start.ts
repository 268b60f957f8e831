import { AppError } from "../core/errors.ts";
import type { ServingRequest } from "../registry/serving-advice.ts";
import { startServingAdvice } from "../registry/serving-advice.ts";
import type { ServingSides } from "../registry/serving-inputs.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { Device } from "./enums.ts";
import { RecipeInput, SourceInput, TextsInput, textsOf, toRecipe } from "./evaluation-start.ts";
import { jobField, KEY } from "./job-field.ts";
import { mutation } from "./payload.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

const SidesInput = builder.inputType("ServingSidesInput", {
  description: "What is served, every side by its name.",
  fields: (t) => ({
    base: t.field({
      type: VersionRefInput,
      description: "A full checkpoint; if not said, the one that the first adapter was imported with.",
    }),
    sources: t.field({
      type: [SourceInput],
      required: true,
      description: "The adapters, 1 to 16; several act together, as one task.",
    }),
    merged: t.field({
      type: VersionRefInput,
      description:
        "A checkpoint that holds them merged, from here or any other tool; if not said, none is written yet: what one adapter's recipe gives is judged, and the base timed in its place.",
    }),
    recipe: t.field({
      type: RecipeInput,
      description:
        "How they were merged, or would be; if not said, as the recipe that made `merged` here says, else with every default.",
    }),
  }),
});

const SubjectInput = builder.inputType("ServingSubjectInput", {
  isOneOf: true,
  description: "What the advice is about.",
  fields: (t) => ({
    version: t.field({
      type: VersionRefInput,
      description:
        "An adapter that was imported with its base, or a version that was merged here: the rest is recorded.",
    }),
    sides: t.field({ type: SidesInput, description: "Every side by its name." }),
  }),
});

mutation("servingAdviceStart", {
  description:
    "Measures what serving a base with its adapters beside it costs, and merged: bytes, times on the worker's machine, and a short evaluation. `servingAdvice` then has the advice.",
  input: builder.inputType("ServingAdviceStartInput", {
    description: "What to measure, over what, and for how many adapters.",
    fields: (t) => ({
      of: t.field({ type: SubjectInput, required: true, description: "What the advice is about." }),
      adapters: t.int({
        defaultValue: 1,
        description: "Adapters of this base that will be served, this one included; 1: a single task.",
      }),
      texts: t.field({
        type: TextsInput,
        description:
          "What both sides run over, the first 64; if not said, the texts that come with Graftwork.",
      }),
      gate: t.string({
        defaultValue: "default",
        description: "What the merge must reach: `default`, `owner/name`, or either with `@version`.",
      }),
      device: t.field({ type: Device, defaultValue: "CPU", description: "What multiplies." }),
      idempotencyKey: t.string({ required: true, description: KEY }),
    }),
  }),
  fields: {
    "version.ref": "of.version",
    "base.ref": "of.sides.base",
    "merged.ref": "of.sides.merged",
    sources: "of.sides.sources",
    ...Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [
        [`sources.${i}.ref`, `of.sides.sources.${i}.version`],
        [`sources.${i}.weight`, `of.sides.sources.${i}.weight`],
      ]).flat(),
    ),
  },
  resolve: async (input, context) => {
    const { of, adapters, texts, gate, device, idempotencyKey } = input;
    const request: ServingRequest = {
      of: of.version
        ? { version: { ref: await toRef(context, of.version, "version.ref") } }
        : { sides: await toSides(of.sides, context) },
      adapters,
      texts: textsOf(texts),
      gate,
      device,
      idempotencyKey,
    };
    return { jobId: (await startServingAdvice(context, request)).id };
  },
  payload: (t) => ({ job: jobField(t) }),
});

async function toSides(
  sides: typeof SidesInput.$inferInput | null | undefined,
  context: GraphContext,
): Promise<ServingSides> {
  if (!sides) throw new AppError("BAD_INPUT", "Name a version, or the sides.", { field: "of" });
  const { base, sources, merged, recipe } = sides;
  return {
    base: base ? { ref: await toRef(context, base, "base.ref") } : null,
    sources: await Promise.all(
      sources.map(async ({ version, weight }, i) => ({
        ref: await toRef(context, version, `sources.${i}.ref`),
        weight,
      })),
    ),
    merged: merged ? { ref: await toRef(context, merged, "merged.ref") } : null,
    recipe: recipe ? toRecipe(recipe) : null,
  };
}
