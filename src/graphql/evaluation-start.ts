import { AppError } from "../core/errors.ts";
import type { EvaluationRequest } from "../registry/evaluations.ts";
import { startEvaluation } from "../registry/evaluations.ts";
import { builder } from "./builder.ts";
import type { GraphContext } from "./context.ts";
import { Device, LineageRole } from "./enums.ts";
import { Evaluation } from "./evaluation.ts";
import { jobField, KEY } from "./job-field.ts";
import { JsonlInput } from "./jsonl-input.ts";
import { mutation, said } from "./payload.ts";
import { RecipeChoicesInput, toChoices } from "./plan-input.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

export const SourceInput = builder.inputType("EvaluationSourceInput", {
  description: "An adapter that the reference runs un-merged.",
  fields: (t) => ({
    version: t.field({ type: VersionRefInput, required: true, description: "A version of an adapter." }),
    weight: t.float({ defaultValue: 1, description: "A factor on the adapter's update." }),
  }),
});

const ReferenceInput = builder.inputType("EvaluationReferenceInput", {
  description: "What the candidate must behave like: a base with adapters beside it.",
  fields: (t) => ({
    base: t.field({ type: VersionRefInput, required: true, description: "A full checkpoint." }),
    sources: t.field({ type: [SourceInput], required: true, description: "The adapters, 1 to 16." }),
  }),
});

export const RecipeInput = builder.inputType("EvaluationRecipeInput", {
  description: "How the reference would be merged.",
  fields: (t) => ({
    tokenizer: t.field({
      type: LineageRole,
      description:
        "Whose tokenizer both sides take; if not said, the adapter's where it ships one that differs, else the base's.",
    }),
    choices: t.field({ type: RecipeChoicesInput, description: "How it is computed and stored." }),
  }),
});

const CandidateInput = builder.inputType("EvaluationCandidateInput", {
  isOneOf: true,
  description: "What is judged.",
  fields: (t) => ({
    version: t.field({
      type: VersionRefInput,
      description: "A full checkpoint, merged here or by any other tool.",
    }),
    recipe: t.field({
      type: RecipeInput,
      description:
        "What merging the reference would give, computed on the fly and not written; for one adapter.",
    }),
  }),
});

export const TextsInput = builder.inputType("EvaluationTextsInput", {
  isOneOf: true,
  description: "What both sides run over.",
  fields: (t) => ({
    builtIn: t.boolean({ description: "`true`: the texts that come with Graftwork." }),
    jsonl: t.field({ type: JsonlInput, description: "Texts, or conversations, of one's own." }),
  }),
});

mutation("evaluationStart", {
  description:
    "Starts an evaluation: does the candidate behave like the base with its adapters? What is wrong with the candidate is for its report to say.",
  input: builder.inputType("EvaluationStartInput", {
    description: "What to compare, over what, and under which gate.",
    fields: (t) => ({
      reference: t.field({ type: ReferenceInput, required: true, description: "What is right." }),
      candidate: t.field({ type: CandidateInput, required: true, description: "What is judged." }),
      expected: t.field({
        type: RecipeInput,
        description:
          "How a candidate version was meant to be merged; if not said, as the recipe that made it here says, else with every default.",
      }),
      texts: t.field({
        type: TextsInput,
        description: "What both sides run over; if not said, the texts that come with Graftwork.",
      }),
      prompts: t.stringList({
        description:
          "What both sides continue, at most 200; if not said, beginnings of the texts; an empty list for none.",
      }),
      tasks: t.field({ type: JsonlInput, description: "Prompts with the answers that count as right." }),
      gate: t.string({
        defaultValue: "default",
        description: "`default`, `owner/name`, or either with `@version`.",
      }),
      device: t.field({ type: Device, defaultValue: "CPU", description: "What multiplies." }),
      seed: t.int({ description: "Of whatever is drawn, 0 or more; if not said, 0." }),
      window: t.int({
        description:
          "Tokens of the longest window that a document is cut into; if not said, what suits the model.",
      }),
      stride: t.int({ description: "How far the window moves; if not said, half of it." }),
      chatTemplate: t.boolean({
        description: "Write plain texts with the model's chat template too; if not said, no.",
      }),
      floorTokens: t.int({
        description: "Tokens that the noise floor is measured over, 0 for none; if not said, 2048.",
      }),
      maxNewTokens: t.int({ description: "Longest continuation of a prompt, 1 to 4096; if not said, 32." }),
      idempotencyKey: t.string({ required: true, description: KEY }),
    }),
  }),
  fields: {
    "base.ref": "reference.base",
    "candidate.ref": "candidate.version",
    sources: "reference.sources",
    ...Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [
        [`sources.${i}.ref`, `reference.sources.${i}.version`],
        [`sources.${i}.weight`, `reference.sources.${i}.weight`],
      ]).flat(),
    ),
  },
  resolve: async (input, context) => {
    const { job, evaluationId } = await startEvaluation(context, await toRequest(input, context));
    return { jobId: job.id, evaluationId };
  },
  payload: (t) => ({
    evaluation: t.prismaField({
      type: Evaluation,
      nullable: true,
      description: "The evaluation; null when refused.",
      resolve: (query, { evaluationId }, _, { db }) =>
        typeof evaluationId === "string"
          ? db.evaluation.findUnique({ ...query, where: { id: evaluationId } })
          : null,
    }),
    job: jobField(t),
  }),
});

interface Input {
  readonly reference: typeof ReferenceInput.$inferInput;
  readonly candidate: typeof CandidateInput.$inferInput;
  readonly expected?: typeof RecipeInput.$inferInput | null | undefined;
  readonly texts?: typeof TextsInput.$inferInput | null | undefined;
  readonly tasks?: typeof JsonlInput.$inferInput | null | undefined;
  readonly gate?: string | null | undefined;
  readonly device?: typeof Device.$inferInput | null | undefined;
  readonly idempotencyKey: string;
  readonly seed?: number | null | undefined;
  readonly window?: number | null | undefined;
  readonly stride?: number | null | undefined;
  readonly chatTemplate?: boolean | null | undefined;
  readonly floorTokens?: number | null | undefined;
  readonly maxNewTokens?: number | null | undefined;
  readonly prompts?: readonly string[] | null | undefined;
}

async function toRequest(input: Input, context: GraphContext): Promise<EvaluationRequest> {
  const { reference, candidate, expected, texts, tasks, gate, device, idempotencyKey } = input;
  const { seed, window, stride, chatTemplate, floorTokens, maxNewTokens, prompts } = input;
  const options = { seed, window, stride, chatTemplate, floorTokens, maxNewTokens, prompts };
  return {
    base: { ref: await toRef(context, reference.base, "base.ref") },
    sources: await Promise.all(
      reference.sources.map(async ({ version, weight }, i) => ({
        ref: await toRef(context, version, `sources.${i}.ref`),
        weight,
      })),
    ),
    candidate: candidate.version
      ? { ref: await toRef(context, candidate.version, "candidate.ref") }
      : { recipe: toRecipe(candidate.recipe ?? {}) },
    expected: expected ? toRecipe(expected) : null,
    texts: textsOf(texts),
    tasks: tasks ?? null,
    gate,
    device,
    options: said(options),
    idempotencyKey,
  };
}

export function toRecipe({ tokenizer, choices }: typeof RecipeInput.$inferInput) {
  return {
    tokenizer: tokenizer ? (tokenizer === "BASE" ? ("base" as const) : ("adapter" as const)) : null,
    choices: toChoices(choices),
  };
}

/** Texts of one's own; null for the built-in ones. */
export function textsOf(texts: typeof TextsInput.$inferInput | null | undefined) {
  if (texts?.builtIn === false) {
    throw new AppError("BAD_INPUT", "builtIn can only be true: give jsonl for texts of your own.", {
      field: "texts.builtIn",
    });
  }
  return texts?.jsonl ?? null;
}
