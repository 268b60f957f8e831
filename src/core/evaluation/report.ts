import { z } from "zod";
import { type Digest, isDigest } from "../identity.ts";

/*
 * The report of an evaluation: one JSON document, whose schema is published as `evaluation.schema.json`. Numbers that
 * cannot be (a perplexity of a classifier) are null; nothing in it is infinite or NaN. What a field means is said by its
 * description, which is printed into the schema.
 */

const digest = z
  .custom<Digest>(isDigest, "must be sha256: and 64 lower-case hex digits")
  .meta({ id: "Digest", type: "string", pattern: "^sha256:[0-9a-f]{64}$" });
const count = z.int().nonnegative();

const finding = z.strictObject({ code: z.string(), message: z.string(), subject: z.string().optional() });

export const metric = z
  .strictObject({
    value: z.number(),
    standardError: z.number().nullable().describe("Null where there is no second document."),
    interval: z
      .tuple([z.number(), z.number()])
      .nullable()
      .describe(
        "95 %: studentised bootstrap over documents; of shares with few outcomes of one kind, and of single outcomes, a binomial interval.",
      ),
  })
  .meta({ id: "Metric", description: "A mean over documents with what is known of its certainty." });

const thresholds = z
  .strictObject({
    maxUlp: z
      .number()
      .nonnegative()
      .nullable()
      .describe(
        "Level 1: largest distance of a touched element from the canonical value, in ulp at the larger of |W| and |W′| (as `maxUlp` of a tensor).",
      ),
    meanKld: z
      .number()
      .nonnegative()
      .nullable()
      .describe("Level 2: upper bound of the mean KL divergence, in nats."),
    sameTop: z
      .number()
      .min(0)
      .max(1)
      .nullable()
      .describe("Level 2: lower bound of the share of equal top tokens."),
    perplexityRatio: z
      .number()
      .nonnegative()
      .nullable()
      .describe("Level 2: upper bound of |perplexity ratio − 1|."),
    exactMatch: z
      .number()
      .min(0)
      .max(1)
      .nullable()
      .describe("Level 3: lower bound of the share of equal continuations."),
    accuracyDrop: z
      .number()
      .min(0)
      .max(1)
      .nullable()
      .describe("Level 4: upper bound of accuracy lost, as a share."),
  })
  .meta({ id: "Thresholds", description: "Null: not judged." });

export const gateSchema = z
  .strictObject({
    name: z.string().min(1),
    version: z.int().positive(),
    description: z.string(),
    thresholds: z
      .strictObject({ F32: thresholds, F16: thresholds, BF16: thresholds })
      .describe("By the dtype in which the candidate stores what the merge touched."),
    minimumDocuments: count.describe("With fewer documents a verdict that rests on level 2 is INCONCLUSIVE."),
    requires: z
      .array(z.union([z.literal(2), z.literal(3), z.literal(4)]))
      .describe("Levels that must have been measured for PASSED."),
    calibration: z.string().nullable().describe("How the numbers were found; null for custom gates."),
  })
  .meta({ id: "Gate", description: "Thresholds with a name and a version; what a verdict rests on." });

const check = z.strictObject({
  level: z.union([z.literal(0), z.literal(1)]),
  name: z.string().describe("What was looked at, in a few words."),
  passed: z.boolean(),
  detail: z.string().describe("What was found."),
});

const reason = z.strictObject({
  code: z.string().describe("Why, in a word: LAYER_DROPPED, ALPHA_IGNORED, KLD_ABOVE_GATE, …"),
  level: z.int().min(0).max(4),
  message: z.string().describe("A plain sentence."),
  subject: z.string().nullable().describe("Tensor, file, layer or metric."),
  value: z.number().nullable().describe("What was measured; null where it is no number."),
  threshold: z.number().nullable().describe("What the gate allows; null where it is no number."),
});

const retention = z.strictObject({
  tensor: z.string(),
  module: z.string(),
  change: z.string().describe('What the adapter does there: "LoRA", "DoRA", "whole module", …'),
  dtype: z.string().describe("Of the candidate's tensor."),
  elements: count,
  differing: count
    .nullable()
    .describe("Elements that differ from the canonical value; null where there is none."),
  maxUlp: z
    .number()
    .nullable()
    .describe(
      "Largest distance from the canonical value, in ulp at the larger of |W| and |W′|, each ulp at least 2⁻¹⁹ of the root mean square of what is summed (the change, and W where the change rotates it): sums in another order differ by so much.",
    ),
  weightNorm: z.number().describe("Frobenius norm of the base tensor W."),
  deltaNorm: z.number().describe("Frobenius norm of the exact change Δ."),
  storedNorm: z.number().describe("Frobenius norm of the stored change S = W′ − W."),
  relativeError: z
    .number()
    .nullable()
    .describe("‖S − Δ‖ / ‖Δ‖; null where Δ is zero or W has another shape."),
  projection: z
    .number()
    .nullable()
    .describe("⟨S, Δ⟩ / ⟨Δ, Δ⟩, 1 where the change arrived; null where Δ is zero or W has another shape."),
  moved: z.number().describe("Share of the elements whose stored value is not the base's."),
  maxError: z.number().describe("Largest |W′ − (W + Δ)|, against the unrounded value."),
  nonFinite: count.describe("Elements that are NaN or infinite."),
});

const input = z.strictObject({
  label: z.string().describe("What the person who asked called it."),
  version: digest.nullable().describe("Digest of the version; null where not every file was read for it."),
  weights: digest.nullable().describe("Digest of the weights; null where not every tensor was read for it."),
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
  name: z.string().describe('"embedding", "layer 0", …, "final norm".'),
  relativeError: z
    .number()
    .nullable()
    .describe(
      "‖candidate − reference‖ / ‖reference‖ of the hidden state after it; null where it holds NaN or infinity.",
    ),
  maxAbs: z.number().describe("Largest absolute difference of finite elements of it."),
  floor: z.number().nullable().describe("The same between two runs of the reference; null without a floor."),
});

const worst = z.strictObject({
  document: count.describe("Of the texts, counted from 0."),
  position: count.describe("Of the predicted token in the document, counted from 0."),
  kld: z.number(),
  context: z.string().describe("Text before it."),
  token: z.string().nullable().describe("The token that follows in the text; null for a classifier."),
  probabilityReference: z.number().nullable().describe("Of that token under the reference."),
  probabilityCandidate: z.number().nullable().describe("Of that token under the candidate."),
  topReference: z.string().describe("The reference's most likely token."),
  topCandidate: z.string().describe("The candidate's most likely token."),
});

const logits = z.strictObject({
  documents: count,
  predictions: count.describe(
    "Positions at which the next token is predicted; of a classifier one for each document.",
  ),
  kld: z
    .strictObject({
      mean: metric,
      median: z.number(),
      p99: z.number(),
      p999: z.number(),
      max: z.number(),
    })
    .describe("KL divergence of the candidate's distribution from the reference's, in nats."),
  deltaP: z
    .strictObject({ mean: metric, rms: metric, percentiles })
    .nullable()
    .describe(
      "Of the probability of the text's next token, candidate less reference; null for a classifier.",
    ),
  sameTop: metric.describe("Share of predictions whose most likely token is the same."),
  perplexity: z
    .strictObject({ reference: metric, candidate: metric, ratio: metric })
    .nullable()
    .describe("Null for a classifier, and where no prediction has logits that are all numbers."),
  maxLogitDifference: z.number().describe("Largest absolute difference of a logit."),
  nonFiniteLogits: count.describe(
    "NaN or infinite ones. Their predictions count as 100 nats in kld and as unequal in sameTop, and in no other mean.",
  ),
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
    .nullable()
    .describe("The reference run a second time in a way that should not matter."),
  timesFloor: z
    .number()
    .nullable()
    .describe("Mean KLD over the floor's; null where the floor is 0 or was not measured."),
  effect: z
    .strictObject({
      documents: count.describe("The first documents."),
      predictions: count,
      meanKld: z.number().describe("Mean KL divergence of the base alone from the reference, in nats."),
      share: z
        .number()
        .nullable()
        .describe(
          "Mean KLD of the candidate over it: how much of the adapter's effect the merge changed; null where it is 0.",
        ),
    })
    .nullable()
    .describe("What the adapter changes at all: the base without it; null where it was not run."),
  histogram: z
    .strictObject({
      from: z.number(),
      step: z.number(),
      candidate: z.array(count),
      floor: z.array(count).nullable(),
    })
    .describe(
      "Predictions by log10 KLD, in equal steps from `from`; what is below counts in the first, above in the last.",
    ),
  layers: z.array(layer),
  firstApart: z
    .strictObject({ layer: z.string(), why: z.string() })
    .nullable()
    .describe("The first layer whose error is more than rounding explains; null where there is none."),
  worst: z.array(worst).describe("The predictions with the largest KL divergence, largest first."),
});

const text = z.strictObject({
  prompts: z.array(
    z.strictObject({
      prompt: z.string(),
      reference: z.string(),
      candidate: z.string(),
      firstDivergence: count
        .nullable()
        .describe("Index of the first generated token that differs; null where all are equal."),
    }),
  ),
  maxNewTokens: count.describe("A continuation ends here at the latest."),
  exactMatch: metric.describe("Share of prompts whose continuations are the same token by token."),
});

const tasks = z.strictObject({
  name: z.string(),
  digest,
  examples: count,
  rule: z.string().describe("How an answer counts as right."),
  reference: metric,
  candidate: metric,
  difference: metric.describe("Candidate less reference."),
  bothRight: count,
  onlyReference: count,
  onlyCandidate: count,
  neither: count,
  mcnemar: z
    .strictObject({ method: z.enum(["exact", "chi-squared"]), statistic: z.number(), p: z.number() })
    .describe("Paired McNemar test of the two unequal counts."),
});

export const reportSchema = z.strictObject({
  schema: z.literal(1),
  verdict: z.enum(["PASSED", "FAILED", "INCONCLUSIVE"]),
  reasons: z.array(reason).describe("Why it FAILED or is INCONCLUSIVE; empty for PASSED."),
  warnings: z.array(finding).describe("What a reader should know, whatever the verdict."),
  gate: gateSchema,
  gateDigest: digest.describe("sha256 of the gate's canonical JSON (RFC 8785)."),
  reference: z.strictObject({
    base: input,
    sources: z.array(z.strictObject({ ...input.shape, weight: z.number() })),
    forms: z
      .record(z.string(), count)
      .describe(
        'How many adapted tensors run in which form: "branches", "rows" (token rows put in their places), "computed" (the exact change added on the fly), "stored".',
      ),
    note: z.string().describe("What the forms mean for this adapter, for people."),
  }),
  candidate: z.strictObject({
    ...input.shape,
    kind: z.enum(["checkpoint", "recipe"]),
    dtype: z.enum(["F32", "F16", "BF16"]).describe("Of what the merge touched."),
  }),
  recipeDigest: digest.nullable().describe("What merging the reference would be; null for several adapters."),
  checks: z.array(check),
  weights: z
    .strictObject({
      touched: count,
      untouched: count,
      relativeError: z.number().nullable().describe("‖S − Δ‖ / ‖Δ‖ over all touched elements together."),
      projection: z.number().nullable().describe("⟨S, Δ⟩ / ⟨Δ, Δ⟩ over all touched elements together."),
      moved: z.number().describe("Share of all touched elements whose stored value is not the base's."),
      maxUlp: z
        .number()
        .nullable()
        .describe("Largest of all tensors; null where none has a canonical value."),
      tensors: z.array(retention),
    })
    .nullable()
    .describe("Level 1; null where the candidate's structure is another."),
  logits: logits.nullable().describe("Level 2."),
  logitsSkipped: z.string().nullable().describe("Why there is no level 2."),
  text: text.nullable().describe("Level 3: greedy continuations."),
  tasks: tasks.nullable().describe("Level 4: a labelled set."),
  texts: z
    .strictObject({
      name: z.string(),
      digest,
      documents: count,
      tokens: count,
      window: count.describe("Longest window, in tokens."),
      stride: count.describe("How far the window moves for longer documents, in tokens."),
      tokenizer: digest.describe("Of the tokenizer's files."),
      specialTokens: z.boolean().describe("Whether special tokens were added."),
      chatTemplate: z.boolean().describe("Whether a chat template was applied."),
    })
    .nullable(),
  seed: count.describe("Of every random choice in the evaluation."),
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
  timings: z.record(z.string(), z.number()).describe("Milliseconds by stage."),
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
