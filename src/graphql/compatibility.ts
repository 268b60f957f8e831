import { readModelFacts } from "../core/arch.ts";
import { elementCount } from "../core/dtype.ts";
import { overallError } from "../core/forecast.ts";
import { type PlannedMerge, planFor } from "../registry/merge-plan.ts";
import { builder } from "./builder.ts";
import { MergePlan } from "./plan.ts";
import { Version } from "./version.ts";
import { toRef, VersionRefInput } from "./version-ref.ts";

const Vocabulary = builder.objectRef<PlannedMerge>("VocabularyDelta").implement({
  description: "Sizes of vocabularies: tokens without an embedding row would fail at run time.",
  fields: (t) => ({
    baseSize: t.int({
      nullable: true,
      description: "`vocab_size` of the base's config.json.",
      resolve: ({ base }) => readModelFacts(base.facts.config).vocabSize,
    }),
    baseMaxTokenId: t.int({
      nullable: true,
      description: "Largest id that the base's tokenizer files state.",
      resolve: ({ base }) => base.facts.tokenizer?.maxId ?? null,
    }),
    adapterMaxTokenId: t.int({
      nullable: true,
      description: "Largest id that the adapter's tokenizer files state; null where it ships none.",
      resolve: ({ sources }) => sources[0]?.facts.tokenizer?.maxId ?? null,
    }),
    tokenizerDifferences: t.stringList({
      description: "Tokenizer files that both ship and that differ.",
      resolve: ({ plan }) => [...plan.tokenizer.differences],
    }),
  }),
});

const CompatibilityReport = builder.objectRef<PlannedMerge>("CompatibilityReport").implement({
  description:
    "Whether an adapter fits a base, from headers and stored statistics alone: no model file is read.",
  fields: (t) => ({
    compatible: t.boolean({
      description: "Whether a merge with default choices could be started.",
      resolve: ({ plan }) => plan.refusals.length === 0,
    }),
    plan: t.field({
      type: MergePlan,
      description:
        "The plan of that merge: refusals, warnings, coverage, tensors with their forecast, bytes.",
      resolve: (planned) => planned,
    }),
    statedBase: t.string({
      nullable: true,
      description: "The base that the adapter says it was trained on.",
      resolve: ({ sources }) => text(sources[0]?.facts.config.base_model_name_or_path),
    }),
    statedRevision: t.string({
      nullable: true,
      description: "The revision of that base, where the adapter pins one.",
      resolve: ({ sources }) => text(sources[0]?.facts.config.revision),
    }),
    baseQuantization: t.string({
      nullable: true,
      description: "`quant_method` of a quantised base; null for a plain one.",
      resolve: ({ base }) => readModelFacts(base.facts.config).quantMethod,
    }),
    vocabulary: t.field({
      type: Vocabulary,
      description: "Vocabulary and tokenizer of both.",
      resolve: (planned) => planned,
    }),
    expectedError: t.float({
      nullable: true,
      description:
        "Expected noise of rounding over all changes with a forecast, relative to the changes; null without any.",
      resolve: ({ plan }) => {
        const elements = new Map(plan.steps.map((step) => [step.tensor, elementCount(step.shape)]));
        return overallError(
          plan.touched.map(({ tensor, forecast }) => ({ forecast, elements: elements.get(tensor) ?? 0 })),
        );
      },
    }),
  }),
});

const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);

builder.prismaObjectField(Version, "compatibility", (t) =>
  t.field({
    type: CompatibilityReport,
    nullable: true,
    description: "For an adapter: whether it fits a base, and what merging would do. Null for other kinds.",
    args: {
      base: t.arg({ type: VersionRefInput, required: true, description: "A version of a base model." }),
    },
    select: {
      digest: true,
      id: true,
      number: true,
      model: { select: { kind: true, name: true, namespace: { select: { name: true } } } },
    },
    resolve: async ({ number, model }, { base }, context) => {
      if (model.kind !== "ADAPTER") return null;
      const ref = `${model.namespace.name}/${model.name}@${number}`;
      return await planFor(context, {
        base: { ref: await toRef(context, base, "base") },
        sources: [{ ref }],
      });
    },
  }),
);
