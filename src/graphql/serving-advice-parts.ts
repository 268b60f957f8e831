import type { AdviceReason, ServingAdvice } from "../core/evaluation/advice.ts";
import type { ServingEnvironment as EnvironmentShape } from "../registry/serving-advice.ts";
import { builder } from "./builder.ts";
import { EvaluationVerdict, MergeDtype, ServingChoice } from "./enums.ts";
import { Metric } from "./evaluation-report.ts";

type Part<Name extends "times" | "parity" | "retention"> = NonNullable<ServingAdvice[Name]>;

export const ServingReason = builder.objectRef<AdviceReason>("ServingReason").implement({
  description: "What speaks for a way of serving.",
  fields: (t) => ({
    code: t.exposeString("code", {
      description: "Stable code in capitals: SINGLE_TASK, SEVERAL_TASKS, PARITY_FAILED, QUANTISED_BASE, …",
    }),
    favours: t.expose("favours", {
      type: ServingChoice,
      nullable: true,
      description: "What it speaks for; null: worth knowing, whichever is chosen.",
    }),
    message: t.exposeString("message", { description: "The reason, for people." }),
  }),
});

interface SizesShape {
  readonly sizes: ServingAdvice["disk"];
  readonly breakEven: number | null;
}

export const ServingSizes = builder.objectRef<SizesShape>("ServingSizes").implement({
  description: "Bytes of both ways of serving.",
  fields: (t) => {
    const bytes = (name: "base" | "adapter", description: string) =>
      t.field({ type: "BigInt", description, resolve: ({ sizes }) => BigInt(sizes[name]) });
    return {
      base: bytes("base", "Of the base: separate serving has it once."),
      adapter: bytes("adapter", "Of the adapters together: what each further task adds."),
      merged: t.field({
        type: "BigInt",
        nullable: true,
        description:
          "Of the merged checkpoint: merged serving has one for each task. Null where no merge can be planned, such as into a quantised base.",
        resolve: ({ sizes }) => (sizes.merged === null ? null : BigInt(sizes.merged)),
      }),
      breakEven: t.exposeInt("breakEven", {
        nullable: true,
        description:
          "Number of adapters from which separate serving takes less; null: it never does, or no merge can be planned.",
      }),
    };
  },
});

/** The whole of it, for both sides by one name. */
export const sizesOf = ({ breakEven, ...advice }: ServingAdvice, which: "disk" | "memory"): SizesShape => ({
  sizes: advice[which],
  breakEven: breakEven[which],
});

const SideTimes = builder.objectRef<Part<"times">["merged"]>("ServingSideTimes").implement({
  description: "How long one way of serving takes, in milliseconds; the shortest of several rounds.",
  fields: (t) => ({
    load: t.exposeFloat("load", {
      description:
        "Until the first token of a prompt of one token: weights read, widened to float32, run once.",
    }),
    prefill: t.exposeFloat("prefill", {
      description: "Until the first token of the prompt, with the weights loaded.",
    }),
    perToken: t.exposeFloat("perToken", { description: "Mean over the tokens after it." }),
  }),
});

export const ServingTimes = builder.objectRef<Part<"times">>("ServingTimes").implement({
  description: "Both ways of serving, timed in turn on one machine, where other jobs may have run besides.",
  fields: (t) => ({
    separate: t.expose("separate", { type: SideTimes, description: "The base with the adapters beside it." }),
    merged: t.expose("merged", { type: SideTimes, description: "The merged checkpoint." }),
    standIn: t.exposeBoolean("standIn", {
      description: "The merged side was timed on the base, whose tensors have the same shapes and types.",
    }),
    promptTokens: t.exposeInt("promptTokens", { description: "Tokens of the prompt." }),
    newTokens: t.exposeInt("newTokens", { description: "Tokens after it." }),
    weightsKept: t.exposeBoolean("weightsKept", {
      description: "Weights stayed in memory from token to token; else each token read them.",
    }),
  }),
});

export const ServingParity = builder.objectRef<Part<"parity">>("ServingParity").implement({
  description: "A short evaluation of the merge against base and adapters.",
  fields: (t) => ({
    verdict: t.expose("verdict", { type: EvaluationVerdict, description: "What it says under its gate." }),
    codes: t.stringList({
      description: "Codes of the verdict's reasons.",
      resolve: ({ codes }) => [...codes],
    }),
    gate: t.exposeString("gate", { description: "The gate: `name@version`." }),
    dtype: t.expose("dtype", {
      type: MergeDtype,
      description: "The type in which the merge stores what it touches.",
    }),
    documents: t.exposeInt("documents", { description: "Documents that both sides ran over." }),
    predictions: t.exposeInt("predictions", { description: "Positions at which they predicted." }),
    meanKld: t.expose("meanKld", {
      type: Metric,
      nullable: true,
      description: "Mean KL divergence of the merged side, in nats; null without level 2.",
    }),
    timesFloor: t.exposeFloat("timesFloor", {
      nullable: true,
      description: "Mean KL divergence over the noise floor's; null where that is 0 or was not measured.",
    }),
    sameTop: t.expose("sameTop", {
      type: Metric,
      nullable: true,
      description: "Share of predictions whose most likely token is the same; null without level 2.",
    }),
    perplexityRatio: t.expose("perplexityRatio", {
      type: Metric,
      nullable: true,
      description: "The merged side's perplexity over the other's; null without level 2.",
    }),
  }),
});

export const ServingRetention = builder.objectRef<Part<"retention">>("ServingRetention").implement({
  description: "What rounding leaves of the change, over all touched tensors together.",
  fields: (t) => ({
    relativeError: t.exposeFloat("relativeError", {
      nullable: true,
      description: "Error of the stored change, relative to the exact one.",
    }),
    projection: t.exposeFloat("projection", {
      nullable: true,
      description: "Projection of the stored change on the exact one; 1 where all of it is there.",
    }),
    moved: t.exposeFloat("moved", { description: "Share of touched elements that are not the base's." }),
  }),
});

export const ServingCommands = builder.objectRef<ServingAdvice["commands"]>("ServingCommands").implement({
  description: "vLLM's command lines.",
  fields: (t) => ({
    merged: t.exposeString("merged", { description: "Serves the merged checkpoint." }),
    separate: t.exposeString("separate", {
      nullable: true,
      description: "Serves the base with the adapters; null where vLLM would not: `obstacles` says why.",
    }),
  }),
});

export const ServingEnvironment = builder.objectRef<EnvironmentShape>("ServingEnvironment").implement({
  description: "Where an advice was measured.",
  fields: (t) => ({
    provider: t.exposeString("provider", { description: "What multiplied." }),
    threads: t.exposeInt("threads", { description: "Worker threads." }),
    platform: t.exposeString("platform", { description: "Operating system, architecture, release." }),
    processor: t.exposeString("processor", { description: "The processor's name." }),
    graftwork: t.exposeString("graftwork", { description: "Version of Graftwork." }),
    node: t.exposeString("node", { description: "Version of Node." }),
  }),
});
