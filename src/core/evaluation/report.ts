import { z } from "zod";
import { type Digest, isDigest } from "../identity.ts";

/*
 * The report of an evaluation: one JSON document, whose schema is published as `evaluation.schema.json`. Numbers that
 * cannot be (a perplexity of a classifier) are null; nothing in it is infinite or NaN.
 */

const digest = z
  .custom<Digest>(isDigest, "must be sha256: and 64 lower-case hex digits")
  .meta({ type: "string", pattern: "^sha256:[0-9a-f]{64}$" });
const count = z.int().nonnegative();

const finding = z.strictObject({ code: z.string(), message: z.string(), subject: z.string().optional() });

/** A mean over documents with what is known of its certainty. */
export const metric = z.strictObject({
  value: z.number(),
  /** Null where there is no second document. */
  standardError: z.number().nullable(),
  /** 95 %, studentised bootstrap over documents. */
  interval: z.tuple([z.number(), z.number()]).nullable(),
});

const thresholds = z.strictObject({
  /** Level 1: largest distance of a touched element from the canonical value, in ulp at the larger of |W| and |W′|. */
  maxUlp: z.number().nonnegative().nullable(),
  /** Level 2: upper bounds of mean KLD (nats) and of |perplexity ratio − 1|, lower bound of the share of equal top tokens. */
  meanKld: z.number().nonnegative().nullable(),
  sameTop: z.number().min(0).max(1).nullable(),
  perplexityRatio: z.number().nonnegative().nullable(),
  /** Level 3: lower bound of the share of equal continuations. */
  exactMatch: z.number().min(0).max(1).nullable(),
  /** Level 4: upper bound of accuracy lost, as a share. */
  accuracyDrop: z.number().min(0).max(1).nullable(),
});

export const gateSchema = z.strictObject({
  name: z.string().min(1),
  version: z.int().positive(),
  description: z.string(),
  /** By the dtype in which the candidate stores what the merge touched. */
  thresholds: z.strictObject({ F32: thresholds, F16: thresholds, BF16: thresholds }),
  /** With fewer documents a verdict that rests on level 2 is INCONCLUSIVE. */
  minimumDocuments: count,
  /** Levels that must have been measured for PASSED. */
  requires: z.array(z.union([z.literal(2), z.literal(3), z.literal(4)])),
  /** How the numbers were found; null for custom gates. */
  calibration: z.string().nullable(),
});

const check = z.strictObject({
  level: z.union([z.literal(0), z.literal(1)]),
  name: z.string(),
  passed: z.boolean(),
  detail: z.string(),
});

const reason = z.strictObject({
  /** Why, in a word: LAYER_DROPPED, ALPHA_IGNORED, KLD_ABOVE_GATE, … */
  code: z.string(),
  level: z.int().min(0).max(4),
  message: z.string(),
  /** Tensor, file, layer or metric. */
  subject: z.string().nullable(),
  value: z.number().nullable(),
  threshold: z.number().nullable(),
});

const retention = z.strictObject({
  tensor: z.string(),
  module: z.string(),
  /** What the adapter does there: "LoRA", "DoRA", "whole module", … */
  change: z.string(),
  /** Of the candidate's tensor. */
  dtype: z.string(),
  elements: count,
  /** Elements that differ from the canonical value, and by how much at most; null where there is no canonical value. */
  differing: count.nullable(),
  maxUlp: z.number().nullable(),
  /** Frobenius norms of the base tensor and of the exact change Δ. */
  weightNorm: z.number(),
  deltaNorm: z.number(),
  /** Of the stored change S = W′ − W: ‖S‖, ‖S − Δ‖ / ‖Δ‖, ⟨S, Δ⟩ / ⟨Δ, Δ⟩; null where Δ is zero or W has another shape. */
  storedNorm: z.number(),
  relativeError: z.number().nullable(),
  projection: z.number().nullable(),
  /** Share of the elements whose stored value is not the base's. */
  moved: z.number(),
  /** Largest |W′ − (W + Δ)|, against the unrounded value. */
  maxError: z.number(),
  nonFinite: count,
});

const input = z.strictObject({
  label: z.string(),
  /** Null where not every tensor was read for it. */
  version: digest.nullable(),
  weights: digest.nullable(),
});

const percentiles = z.strictObject({
  p1: z.number(),
  p5: z.number(),
  p25: z.number(),
  p50: z.number(),
  p75: z.number(),
  p95: z.number(),
  p99: z.number(),
});

const layer = z.strictObject({
  name: z.string(),
  /** ‖candidate − reference‖ / ‖reference‖ of the hidden state after it. */
  relativeError: z.number(),
  maxAbs: z.number(),
  /** The same between two runs of the reference; null without a floor. */
  floor: z.number().nullable(),
});

const worst = z.strictObject({
  document: count,
  /** Of the predicted token in the document, counted from 0. */
  position: count,
  kld: z.number(),
  /** Text before it. */
  context: z.string(),
  /** The token that follows in the text; null for a classifier. */
  token: z.string().nullable(),
  probabilityReference: z.number().nullable(),
  probabilityCandidate: z.number().nullable(),
  topReference: z.string(),
  topCandidate: z.string(),
});

const logits = z.strictObject({
  documents: count,
  /** Positions at which the next token is predicted; of a classifier one for each document. */
  predictions: count,
  kld: z.strictObject({
    mean: metric,
    median: z.number(),
    p99: z.number(),
    p999: z.number(),
    max: z.number(),
  }),
  /** Of the probability of the text's next token, candidate less reference; null for a classifier. */
  deltaP: z.strictObject({ mean: metric, rms: metric, percentiles }).nullable(),
  /** Share of predictions whose most likely token is the same. */
  sameTop: metric,
  /** Null for a classifier. */
  perplexity: z.strictObject({ reference: metric, candidate: metric, ratio: metric }).nullable(),
  maxLogitDifference: z.number(),
  nonFiniteLogits: count,
  /** The reference run a second time in a way that should not matter. */
  floor: z
    .strictObject({
      how: z.string(),
      documents: count,
      predictions: count,
      meanKld: z.number(),
      p99: z.number(),
      maxKld: z.number(),
      sameTop: z.number(),
      maxLogitDifference: z.number(),
    })
    .nullable(),
  /** Mean KLD over the floor's; null where the floor is 0 or was not measured. */
  timesFloor: z.number().nullable(),
  /** Predictions by log10 KLD, in equal steps from `from`; what is below counts in the first, above in the last. */
  histogram: z.strictObject({
    from: z.number(),
    step: z.number(),
    candidate: z.array(count),
    floor: z.array(count).nullable(),
  }),
  layers: z.array(layer),
  /** The first layer whose error is more than rounding explains; null where there is none. */
  firstApart: z.strictObject({ layer: z.string(), why: z.string() }).nullable(),
  worst: z.array(worst),
});

const text = z.strictObject({
  prompts: z.array(
    z.strictObject({
      prompt: z.string(),
      reference: z.string(),
      candidate: z.string(),
      /** Index of the first generated token that differs; null where all are equal. */
      firstDivergence: count.nullable(),
    }),
  ),
  maxNewTokens: count,
  exactMatch: metric,
});

const tasks = z.strictObject({
  name: z.string(),
  digest,
  examples: count,
  /** How an answer counts as right. */
  rule: z.string(),
  reference: metric,
  candidate: metric,
  /** Candidate less reference. */
  difference: metric,
  bothRight: count,
  onlyReference: count,
  onlyCandidate: count,
  neither: count,
  /** Paired McNemar test of the two unequal counts. */
  mcnemar: z.strictObject({ method: z.enum(["exact", "chi-squared"]), statistic: z.number(), p: z.number() }),
});

export const reportSchema = z.strictObject({
  schema: z.literal(1),
  verdict: z.enum(["PASSED", "FAILED", "INCONCLUSIVE"]),
  /** Why it FAILED or is INCONCLUSIVE; empty for PASSED. */
  reasons: z.array(reason),
  warnings: z.array(finding),
  gate: gateSchema,
  gateDigest: digest,
  reference: z.strictObject({
    base: input,
    sources: z.array(z.strictObject({ ...input.shape, weight: z.number() })),
    /** How many adapted tensors run in which form: "branches", "computed" (the exact change added on the fly), "stored". */
    forms: z.record(z.string(), count),
    /** What the forms mean for this adapter, for people. */
    note: z.string(),
  }),
  candidate: z.strictObject({
    ...input.shape,
    kind: z.enum(["checkpoint", "recipe"]),
    /** Of what the merge touched. */
    dtype: z.enum(["F32", "F16", "BF16"]),
  }),
  /** What merging the reference would be; null for several adapters. */
  recipeDigest: digest.nullable(),
  checks: z.array(check),
  /** Level 1; null where the candidate's structure is another. */
  weights: z
    .strictObject({
      touched: count,
      untouched: count,
      /** Over all touched elements together. */
      relativeError: z.number().nullable(),
      projection: z.number().nullable(),
      moved: z.number(),
      maxUlp: z.number().nullable(),
      tensors: z.array(retention),
    })
    .nullable(),
  /** Level 2, or why there is none. */
  logits: logits.nullable(),
  logitsSkipped: z.string().nullable(),
  text: text.nullable(),
  tasks: tasks.nullable(),
  texts: z
    .strictObject({
      name: z.string(),
      digest,
      documents: count,
      tokens: count,
      /** Longest window in tokens, and how far it moves for longer documents. */
      window: count,
      stride: count,
      /** Of the tokenizer files. */
      tokenizer: digest,
      /** Whether special tokens were added, and a chat template applied. */
      specialTokens: z.boolean(),
      chatTemplate: z.boolean(),
    })
    .nullable(),
  seed: count,
  environment: z.strictObject({
    graftwork: z.string(),
    device: z.string(),
    provider: z.string(),
    runtime: z.string(),
    threads: count,
    platform: z.string(),
    processor: z.string(),
    node: z.string(),
  }),
  /** Milliseconds by stage. */
  timings: z.record(z.string(), z.number()),
});

export type Metric = z.infer<typeof metric>;
export type Thresholds = z.infer<typeof thresholds>;
export type Gate = z.infer<typeof gateSchema>;
export type Reason = z.infer<typeof reason>;
export type TensorRetention = z.infer<typeof retention>;
export type LogitsReport = z.infer<typeof logits>;
export type TextReport = z.infer<typeof text>;
export type TasksReport = z.infer<typeof tasks>;
export type WorstPosition = z.infer<typeof worst>;
export type EvaluationReport = z.infer<typeof reportSchema>;
export type Verdict = EvaluationReport["verdict"];
