import type {
  EvaluationReport,
  Metric as MetricShape,
  Reason as ReasonShape,
  TensorRetention as RetentionShape,
  WorstPosition as WorstShape,
} from "../core/evaluation/report.ts";
import { builder } from "./builder.ts";

type Part<Name extends "weights" | "logits" | "text" | "tasks" | "texts"> = NonNullable<
  EvaluationReport[Name]
>;

export const Metric = builder.objectRef<MetricShape>("Metric").implement({
  description: "A mean over documents, with what is known of its certainty.",
  fields: (t) => ({
    value: t.exposeFloat("value", { description: "The mean." }),
    standardError: t.exposeFloat("standardError", {
      nullable: true,
      description: "Its standard error; null where there is no second document.",
    }),
    lower: t.float({
      nullable: true,
      description: "Lower end of its 95 % interval (studentised bootstrap over documents).",
      resolve: ({ interval }) => interval?.[0] ?? null,
    }),
    upper: t.float({
      nullable: true,
      description: "Upper end of that interval.",
      resolve: ({ interval }) => interval?.[1] ?? null,
    }),
  }),
});

export const EvaluationReason = builder.objectRef<ReasonShape>("EvaluationReason").implement({
  description: "Why an evaluation FAILED or is INCONCLUSIVE.",
  fields: (t) => ({
    code: t.exposeString("code", {
      description: "Stable code in capitals: LAYER_DROPPED, ALPHA_IGNORED, KLD_ABOVE_GATE, …",
    }),
    level: t.exposeInt("level", {
      description: "0 structure, 1 weights, 2 logits, 3 text, 4 tasks.",
    }),
    message: t.exposeString("message", { description: "What was found, for people." }),
    subject: t.exposeString("subject", {
      nullable: true,
      description: "The tensor, file, layer or metric it is about.",
    }),
    value: t.exposeFloat("value", { nullable: true, description: "What was measured." }),
    threshold: t.exposeFloat("threshold", { nullable: true, description: "What the gate allows." }),
  }),
});

export const WeightParity = builder.objectRef<Part<"weights">>("WeightParity").implement({
  description: "Level 1: did the arithmetic happen?",
  fields: (t) => ({
    touched: t.exposeInt("touched", { description: "Tensors that the adapters change." }),
    untouched: t.exposeInt("untouched", { description: "Tensors that they leave alone." }),
    relativeError: t.exposeFloat("relativeError", {
      nullable: true,
      description: "Error of the stored change, relative to the exact one, over all touched elements.",
    }),
    projection: t.exposeFloat("projection", {
      nullable: true,
      description: "Projection of the stored change on the exact one; 1 where all of it is there.",
    }),
    moved: t.exposeFloat("moved", { description: "Share of touched elements that are not the base's." }),
    maxUlp: t.exposeFloat("maxUlp", {
      nullable: true,
      description: "Largest distance from the canonical value, in units in the last place.",
    }),
  }),
});

const NoiseFloor = builder.objectRef<NonNullable<Part<"logits">["floor"]>>("NoiseFloor").implement({
  description: "The reference, run a second time in a way that should not matter: what is below is noise.",
  fields: (t) => ({
    how: t.exposeString("how", { description: "In what the second run differed." }),
    documents: t.exposeInt("documents", { description: "Documents of it." }),
    predictions: t.exposeInt("predictions", { description: "Predictions of it." }),
    meanKld: t.exposeFloat("meanKld", { description: "Mean KL divergence of the two runs, in nats." }),
    p99Kld: t.exposeFloat("p99", { description: "99 % of the predictions are below." }),
    maxKld: t.exposeFloat("maxKld", { description: "The largest." }),
    sameTop: t.exposeFloat("sameTop", { description: "Share with the same most likely token." }),
    maxLogitDifference: t.exposeFloat("maxLogitDifference", {
      description: "Largest absolute difference of a logit.",
    }),
  }),
});

const FirstApart = builder.objectRef<NonNullable<Part<"logits">["firstApart"]>>("FirstLayerApart").implement({
  description: "The first layer whose error is more than rounding explains.",
  fields: (t) => ({
    layer: t.exposeString("layer", { description: "Which." }),
    why: t.exposeString("why", { description: "What speaks for it." }),
  }),
});

const AdapterEffect = builder.objectRef<NonNullable<Part<"logits">["effect"]>>("AdapterEffect").implement({
  description: "What the adapters change at all: the base alone against the reference.",
  fields: (t) => ({
    documents: t.exposeInt("documents", { description: "Documents of it." }),
    predictions: t.exposeInt("predictions", { description: "Predictions of it." }),
    meanKld: t.exposeFloat("meanKld", {
      description: "Mean KL divergence of the base alone from the reference, in nats.",
    }),
    share: t.exposeFloat("share", {
      nullable: true,
      description:
        "The candidate's mean KL divergence over it: how much of the effect the merge changed; null where it is 0.",
    }),
  }),
});

export const LogitParity = builder.objectRef<Part<"logits">>("LogitParity").implement({
  description: "Level 2: does it behave the same? Candidate against reference, over the same tokens.",
  fields: (t) => ({
    documents: t.exposeInt("documents", { description: "Documents that both ran over." }),
    predictions: t.exposeInt("predictions", {
      description: "Positions at which the next token is predicted; of a classifier one for each document.",
    }),
    meanKld: t.field({
      type: Metric,
      description: "Mean KL divergence of the candidate from the reference, in nats.",
      resolve: ({ kld }) => kld.mean,
    }),
    medianKld: t.float({ description: "Its median.", resolve: ({ kld }) => kld.median }),
    p99Kld: t.float({ description: "99 % of the predictions are below.", resolve: ({ kld }) => kld.p99 }),
    p999Kld: t.float({ description: "99.9 % are below.", resolve: ({ kld }) => kld.p999 }),
    maxKld: t.float({ description: "The largest.", resolve: ({ kld }) => kld.max }),
    meanDeltaP: t.field({
      type: Metric,
      nullable: true,
      description: "Mean change of the probability of the text's next token; null for a classifier.",
      resolve: ({ deltaP }) => deltaP?.mean ?? null,
    }),
    rmsDeltaP: t.field({
      type: Metric,
      nullable: true,
      description: "Root mean square of that change; null for a classifier.",
      resolve: ({ deltaP }) => deltaP?.rms ?? null,
    }),
    sameTop: t.expose("sameTop", {
      type: Metric,
      description: "Share of predictions whose most likely token is the same.",
    }),
    perplexityReference: t.field({
      type: Metric,
      nullable: true,
      description: "Perplexity of the reference; null for a classifier.",
      resolve: ({ perplexity }) => perplexity?.reference ?? null,
    }),
    perplexityCandidate: t.field({
      type: Metric,
      nullable: true,
      description: "Perplexity of the candidate; null for a classifier.",
      resolve: ({ perplexity }) => perplexity?.candidate ?? null,
    }),
    perplexityRatio: t.field({
      type: Metric,
      nullable: true,
      description: "The candidate's over the reference's, paired by document; null for a classifier.",
      resolve: ({ perplexity }) => perplexity?.ratio ?? null,
    }),
    maxLogitDifference: t.exposeFloat("maxLogitDifference", {
      description: "Largest absolute difference of a logit.",
    }),
    nonFiniteLogits: t.exposeInt("nonFiniteLogits", {
      description: "Logits of the candidate that are NaN or infinite.",
    }),
    floor: t.expose("floor", {
      type: NoiseFloor,
      nullable: true,
      description: "The noise floor; null where it was not measured.",
    }),
    timesFloor: t.exposeFloat("timesFloor", {
      nullable: true,
      description: "Mean KL divergence over the floor's; null where that is 0 or was not measured.",
    }),
    effect: t.expose("effect", {
      type: AdapterEffect,
      nullable: true,
      description: "What the adapters change at all; null where the base alone was not run.",
    }),
    firstApart: t.expose("firstApart", {
      type: FirstApart,
      nullable: true,
      description: "Where the two sides part; null where rounding explains every layer.",
    }),
  }),
});

export const TextParity = builder.objectRef<Part<"text">>("TextParity").implement({
  description: "Level 3: would a user notice? Greedy continuations of prompts by both sides.",
  fields: (t) => ({
    exactMatch: t.expose("exactMatch", { type: Metric, description: "Share of equal continuations." }),
    maxNewTokens: t.exposeInt("maxNewTokens", { description: "Longest continuation, in tokens." }),
  }),
});

export const TaskParity = builder.objectRef<Part<"tasks">>("TaskParity").implement({
  description: "Level 4: does the score hold? Answers of both sides to prompts with an expected answer.",
  fields: (t) => ({
    name: t.exposeString("name", { description: "What the tasks are called." }),
    digest: t.expose("digest", { type: "Sha256", description: "Of the tasks." }),
    examples: t.exposeInt("examples", { description: "How many there are." }),
    rule: t.exposeString("rule", { description: "How an answer counts as right." }),
    reference: t.expose("reference", { type: Metric, description: "Accuracy of the reference." }),
    candidate: t.expose("candidate", { type: Metric, description: "Accuracy of the candidate." }),
    difference: t.expose("difference", { type: Metric, description: "Candidate less reference, paired." }),
    onlyReference: t.exposeInt("onlyReference", {
      description: "Examples that the reference alone got right.",
    }),
    onlyCandidate: t.exposeInt("onlyCandidate", {
      description: "Examples that the candidate alone got right.",
    }),
    pValue: t.float({
      description: "McNemar's paired test of the two: how likely so unequal counts are by chance.",
      resolve: ({ mcnemar }) => mcnemar.p,
    }),
  }),
});

export const EvaluatedTexts = builder.objectRef<Part<"texts">>("EvaluatedTexts").implement({
  description: "The texts that both sides ran over, and how they were cut into tokens.",
  fields: (t) => ({
    name: t.exposeString("name", { description: "What they are called." }),
    digest: t.expose("digest", { type: "Sha256", description: "Of the texts." }),
    documents: t.exposeInt("documents", { description: "How many there are." }),
    tokens: t.exposeInt("tokens", { description: "Tokens of all together." }),
    window: t.exposeInt("window", { description: "Tokens of the longest window." }),
    stride: t.exposeInt("stride", { description: "How far the window moves for longer documents." }),
    tokenizer: t.expose("tokenizer", { type: "Sha256", description: "Of the tokenizer's files." }),
    specialTokens: t.exposeBoolean("specialTokens", { description: "Whether special tokens were added." }),
    chatTemplate: t.exposeBoolean("chatTemplate", { description: "Whether a chat template was applied." }),
  }),
});

export const TensorRetention = builder.objectRef<RetentionShape>("TensorRetention").implement({
  description: "What became of the change to one tensor when it was stored.",
  fields: (t) => ({
    tensor: t.exposeString("tensor", { description: "Its name." }),
    module: t.exposeString("module", { description: "The adapted module, as the adapter calls it." }),
    change: t.exposeString("change", { description: "What the adapter does there: LoRA, DoRA, …" }),
    dtype: t.exposeString("dtype", { description: "Storage type of the candidate's tensor." }),
    elements: t.field({
      type: "BigInt",
      description: "How many there are.",
      resolve: ({ elements }) => elements,
    }),
    differing: t.field({
      type: "BigInt",
      nullable: true,
      description: "Elements that differ from the canonical value; null where there is none.",
      resolve: ({ differing }) => differing,
    }),
    maxUlp: t.exposeFloat("maxUlp", {
      nullable: true,
      description: "By how much at most, in units in the last place.",
    }),
    weightNorm: t.exposeFloat("weightNorm", { description: "Frobenius norm of the base's tensor." }),
    deltaNorm: t.exposeFloat("deltaNorm", { description: "Of the exact change Δ." }),
    storedNorm: t.exposeFloat("storedNorm", { description: "Of the stored change S." }),
    relativeError: t.exposeFloat("relativeError", { nullable: true, description: "‖S − Δ‖ / ‖Δ‖." }),
    projection: t.exposeFloat("projection", { nullable: true, description: "⟨S, Δ⟩ / ⟨Δ, Δ⟩." }),
    moved: t.exposeFloat("moved", { description: "Share of elements whose stored value is not the base's." }),
    maxError: t.exposeFloat("maxError", { description: "Largest distance from the unrounded value." }),
    nonFinite: t.field({
      type: "BigInt",
      description: "Elements that are NaN or infinite.",
      resolve: ({ nonFinite }) => nonFinite,
    }),
  }),
});

export const LayerError = builder.objectRef<Part<"logits">["layers"][number]>("LayerError").implement({
  description: "How far the two sides are apart after a layer.",
  fields: (t) => ({
    name: t.exposeString("name", { description: "The layer." }),
    relativeError: t.exposeFloat("relativeError", {
      nullable: true,
      description:
        "‖candidate − reference‖ / ‖reference‖ of the hidden state after it; null where it holds NaN or infinity.",
    }),
    maxAbs: t.exposeFloat("maxAbs", { description: "Largest absolute difference of finite elements." }),
    floor: t.exposeFloat("floor", {
      nullable: true,
      description: "The relative error of two runs of the reference; null without a floor.",
    }),
  }),
});

export const KldHistogram = builder.objectRef<Part<"logits">["histogram"]>("KldHistogram").implement({
  description:
    "Predictions by log10 of their KL divergence, in equal steps; the first and the last step take what lies beyond.",
  fields: (t) => ({
    from: t.exposeFloat("from", { description: "Where the first step begins." }),
    step: t.exposeFloat("step", { description: "How wide a step is." }),
    candidate: t.exposeIntList("candidate", { description: "Predictions in each step." }),
    floor: t.exposeIntList("floor", {
      nullable: true,
      description: "The same of the noise floor; null where it was not measured.",
    }),
  }),
});

export const WorstPosition = builder.objectRef<WorstShape>("WorstPosition").implement({
  description: "A position where the two sides disagree most.",
  fields: (t) => ({
    document: t.exposeInt("document", { description: "Counted from 0." }),
    position: t.exposeInt("position", { description: "Of the predicted token in the document, from 0." }),
    kld: t.exposeFloat("kld", { description: "KL divergence there, in nats." }),
    context: t.exposeString("context", { description: "The text before it." }),
    token: t.exposeString("token", {
      nullable: true,
      description: "The token that follows in the text; null for a classifier.",
    }),
    probabilityReference: t.exposeFloat("probabilityReference", {
      nullable: true,
      description: "Its probability to the reference.",
    }),
    probabilityCandidate: t.exposeFloat("probabilityCandidate", {
      nullable: true,
      description: "Its probability to the candidate.",
    }),
    topReference: t.exposeString("topReference", { description: "The reference's most likely token." }),
    topCandidate: t.exposeString("topCandidate", { description: "The candidate's most likely token." }),
  }),
});

export const Continuation = builder.objectRef<Part<"text">["prompts"][number]>("Continuation").implement({
  description: "A prompt, and how each side goes on.",
  fields: (t) => ({
    prompt: t.exposeString("prompt", { description: "The prompt." }),
    reference: t.exposeString("reference", { description: "The reference's continuation." }),
    candidate: t.exposeString("candidate", { description: "The candidate's." }),
    firstDivergence: t.exposeInt("firstDivergence", {
      nullable: true,
      description: "The first generated token that differs, from 0; null where all are equal.",
    }),
  }),
});
