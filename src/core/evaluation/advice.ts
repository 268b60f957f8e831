import { z } from "zod";
import { AppError } from "../errors.ts";
import { metric, type Verdict } from "./report.ts";
import { counted, figure, percent } from "./wording.ts";

/*
 * Merged or separate? What was measured of one model and its adapters on one machine, and what follows from it. One JSON
 * document; nothing in it is infinite or NaN.
 */

const count = z.int().nonnegative();
const milliseconds = z.number().nonnegative();

const sideTimes = z.strictObject({
  load: milliseconds.describe(
    "Until the first token of a prompt of one token: weights read, widened to float32, run once.",
  ),
  prefill: milliseconds.describe("Until the first token of the prompt, with the weights loaded."),
  perToken: milliseconds.describe("Mean over the tokens after it."),
});

const reason = z.strictObject({
  code: z.string(),
  favours: z.enum(["MERGE", "SEPARATE"]).nullable().describe("Null: worth knowing, whichever is chosen."),
  message: z.string(),
});

export const servingAdviceSchema = z.strictObject({
  schema: z.literal(1),
  recommendation: z.enum(["MERGE", "SEPARATE"]),
  reasons: z.array(reason).describe("What decided first, then what else speaks for either choice."),
  labels: z.strictObject({ base: z.string(), sources: z.array(z.string()), merged: z.string().nullable() }),
  planned: count.describe("Adapters of this base that will be served."),
  disk: z
    .strictObject({ base: count, adapter: count, merged: count.nullable() })
    .describe(
      "Bytes of all files; of the adapters together. Of a merge that was not written: as it is planned; null where none can be.",
    ),
  memory: z
    .strictObject({ base: count, adapter: count, merged: count.nullable() })
    .describe("Bytes of the tensors as they are stored, which a server keeps."),
  mergedExists: z.boolean().describe("The merged checkpoint was there; else its sizes are planned."),
  times: z
    .strictObject({
      separate: sideTimes,
      merged: sideTimes,
      standIn: z
        .boolean()
        .describe("The merged side was timed on the base, whose tensors have the same shapes and types."),
      promptTokens: count,
      newTokens: count,
      weightsKept: z
        .boolean()
        .describe("Weights stayed in memory from token to token; else each token read them."),
      device: z.string(),
      provider: z.string(),
      processor: z.string(),
      threads: count,
    })
    .nullable(),
  timesSkipped: z.string().nullable().describe("Why nothing was timed."),
  parity: z
    .strictObject({
      verdict: z.enum(["PASSED", "FAILED", "INCONCLUSIVE"]),
      codes: z.array(z.string()).describe("Of the verdict's reasons."),
      gate: z.string().describe("Name and version."),
      dtype: z.enum(["F32", "F16", "BF16"]),
      documents: count,
      predictions: count,
      meanKld: metric.nullable(),
      timesFloor: z.number().nullable(),
      sameTop: metric.nullable(),
      perplexityRatio: metric.nullable(),
    })
    .nullable()
    .describe("A short evaluation of the merge against base and adapters."),
  paritySkipped: z.string().nullable().describe("Why there is none, or no level 2 in it."),
  retention: z
    .strictObject({
      relativeError: z.number().nullable(),
      projection: z.number().nullable(),
      moved: z.number(),
    })
    .nullable()
    .describe("Of the change, over all touched tensors together; as in a report's weights."),
  quantisation: z.strictObject({
    base: z.string().nullable().describe("Method by which the base is quantised."),
    training: z.string().nullable().describe("Why the adapter seems to be trained on a quantised base."),
  }),
  obstacles: z.array(z.string()).describe("Why vLLM would not serve these adapters beside the base."),
  breakEven: z
    .strictObject({ disk: count.nullable(), memory: count.nullable() })
    .describe(
      "Number of adapters from which separate serving takes less; null: it never does, or no merge can be planned.",
    ),
  perTokenCost: z
    .number()
    .nullable()
    .describe("Time of a token with the adapter beside the base over that of the merged model, less 1."),
  commands: z
    .strictObject({ merged: z.string(), separate: z.string().nullable() })
    .describe("vLLM's; null: it would not serve these adapters."),
});

export type ServingAdvice = z.infer<typeof servingAdviceSchema>;
export type AdviceReason = z.infer<typeof reason>;

/** What was found of a model and its adapters; the rest follows. */
export type ServingFacts = Omit<
  ServingAdvice,
  "schema" | "recommendation" | "reasons" | "breakEven" | "perTokenCost"
>;

/** @throws BAD_ADVICE naming the first field that is wrong */
export function parseAdvice(value: unknown): ServingAdvice {
  const parsed = servingAdviceSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new AppError(
    "BAD_ADVICE",
    `field "${issue?.path.join(".") ?? ""}" is not what an advice holds: ${issue?.message ?? "it is wrong"}.`,
  );
}

interface Sizes {
  readonly base: number;
  readonly adapter: number;
  readonly merged: number | null;
}

/** The smallest n with base + n·adapter < n·merged; null where no n has it, or no merge can be planned. */
export function breakEven({ base, adapter, merged }: Sizes): number | null {
  return merged === null || merged <= adapter ? null : Math.floor(base / (merged - adapter)) + 1;
}

/** How much longer a token takes with the adapter beside the base; null where that was not timed. */
export function perTokenCost(times: ServingFacts["times"]): number | null {
  return times === null || times.merged.perToken === 0
    ? null
    : times.separate.perToken / times.merged.perToken - 1;
}

/**
 * The advice that follows from the facts: a merge that lost behaviour is not served; adapters of a quantised base stay
 * separate unless the measured loss is acceptable; several tasks share a base where that takes less; one task is merged.
 */
export function adviseOn(facts: ServingFacts): ServingAdvice {
  const even = { disk: breakEven(facts.disk), memory: breakEven(facts.memory) };
  const derived = { breakEven: even, perTokenCost: perTokenCost(facts.times) };
  const found = [
    ...parityReasons(facts),
    ...quantisationReasons(facts),
    ...servableReasons(facts),
    taskReason(facts, even),
    ...retentionReasons(facts),
    ...costReasons(facts, derived.perTokenCost),
  ];
  const { recommendation, decided } = decide(found);
  const rank = ({ code, favours }: AdviceReason) =>
    code === decided ? 0 : favours === recommendation ? 1 : favours === null ? 3 : 2;
  const reasons = [...found].sort((a, b) => rank(a) - rank(b));
  return { schema: 1, recommendation, reasons, ...facts, ...derived };
}

/** Codes that settle the matter, the first one found wins. */
const DECIDES = [
  "PARITY_FAILED",
  "QUANTISED_BASE",
  "SEVERAL_SOURCES",
  "NOT_SERVABLE",
  "QUANTISED_TRAINING",
  "SEVERAL_TASKS",
  "FEW_TASKS",
  "SINGLE_TASK",
];

function decide(found: readonly AdviceReason[]): {
  recommendation: ServingAdvice["recommendation"];
  decided: string;
} {
  for (const code of DECIDES) {
    const favours = found.find((reason) => reason.code === code)?.favours;
    if (favours) return { recommendation: favours, decided: code };
  }
  throw new Error("nothing decides between merging and serving apart");
}

const PARITY: Readonly<Record<Verdict, { code: string; favours: AdviceReason["favours"] }>> = {
  PASSED: { code: "PARITY_PASSED", favours: "MERGE" },
  FAILED: { code: "PARITY_FAILED", favours: "SEPARATE" },
  INCONCLUSIVE: { code: "PARITY_OPEN", favours: null },
};

function parityReasons({ parity, paritySkipped }: ServingFacts): AdviceReason[] {
  if (parity === null) {
    const message = `Whether the merged model answers alike was not measured: ${paritySkipped ?? "no reason was given."}`;
    return [{ code: "PARITY_NOT_MEASURED", favours: null, message }];
  }
  const { verdict, codes, gate, meanKld, sameTop, documents } = parity;
  const numbers =
    meanKld && sameTop
      ? ` (mean KLD ${figure(meanKld.value)}, the same most likely token for ${percent(sameTop.value)}, ${documents} texts)`
      : "";
  const says: Readonly<Record<Verdict, string>> = {
    PASSED: `The merged model answers as base and adapter do: PASSED under the gate ${gate}${numbers}.`,
    FAILED: `The merged model is not what base and adapter are: FAILED under the gate ${gate}${numbers}: ${codes.join(", ")}.`,
    INCONCLUSIVE: `Whether the merged model answers alike is open: INCONCLUSIVE under the gate ${gate}${numbers}: ${codes.join(", ")}. ${codes.includes("LEVEL_NOT_MEASURED") ? "The models could not be run here: compare their answers with another tool" : "Evaluate it with more texts"} before it goes out.`,
  };
  return [{ ...PARITY[verdict], message: says[verdict] }];
}

function quantisationReasons({ quantisation, parity }: ServingFacts): AdviceReason[] {
  const { base, training } = quantisation;
  const passed = parity?.verdict === "PASSED";
  const found: AdviceReason[] = [];
  if (base !== null) {
    const message = passed
      ? `The base is quantised (${base}), so that a merge rounds its weights again; the measured loss is acceptable.`
      : `The base is quantised (${base}): merging needs it dequantised or rounds it again, and no evaluation has shown the loss to be acceptable. Keep the adapter beside it.`;
    found.push({ code: "QUANTISED_BASE", favours: passed ? null : "SEPARATE", message });
  }
  if (training !== null) {
    const message = passed
      ? `${training} What was measured is the loss of merging into the base named here; that this base is another than the one trained on is not in it, so try your tasks on the merged model.`
      : `${training} No evaluation has shown the loss of merging to be acceptable. Keep the adapter beside the base that it was trained on.`;
    found.push({ code: "QUANTISED_TRAINING", favours: passed ? null : "SEPARATE", message });
  }
  return found;
}

function servableReasons({ obstacles, labels }: ServingFacts): AdviceReason[] {
  const found: AdviceReason[] = [];
  if (labels.sources.length > 1) {
    const message =
      "Several adapters act together, and servers apply one adapter to a request: merged they are one model.";
    found.push({ code: "SEVERAL_SOURCES", favours: "MERGE", message });
  }
  if (obstacles.length > 0) {
    const message = `vLLM does not serve such an adapter beside its base: ${obstacles.join("; ")}.`;
    found.push({ code: "NOT_SERVABLE", favours: "MERGE", message });
  }
  return found;
}

function taskReason({ planned, disk, memory }: ServingFacts, even: ServingAdvice["breakEven"]): AdviceReason {
  if (planned <= 1) {
    const message =
      "One task is served: merged, the model is one standard checkpoint that any server opens, without a cost for each token.";
    return { code: "SINGLE_TASK", favours: "MERGE", message };
  }
  if (disk.merged === null || memory.merged === null) {
    const message = `${planned} adapters of this base are served: how much merged models would take is not known, as no merge into this base can be planned.`;
    return { code: "SEVERAL_TASKS", favours: null, message };
  }
  const from = even.memory === null || even.disk === null ? null : Math.max(even.memory, even.disk);
  if (from !== null && planned >= from) {
    const message = `${planned} adapters of this base are served: from ${from} on, one base with its adapters takes less memory and disk than that many merged models.`;
    return { code: "SEVERAL_TASKS", favours: "SEPARATE", message };
  }
  const message =
    from === null
      ? `${planned} adapters are served, but each is as large as the merged model: apart they save nothing.`
      : `${planned} adapters of this base are served: apart they take less memory and disk from ${from} on only.`;
  return { code: "FEW_TASKS", favours: "MERGE", message };
}

/** A stored change that is further from the meant one than half of it. */
const LOST = 0.5;

function retentionReasons({ retention, parity }: ServingFacts): AdviceReason[] {
  if (!retention || retention.relativeError === null) return [];
  const { relativeError, projection, moved } = retention;
  const facts = `the stored change differs from the meant one by ${percent(relativeError)} of its size, its projection on it is ${projection === null ? "unknown" : figure(projection)}, and ${percent(moved)} of the touched weights moved`;
  const dtype = parity ? ` to ${parity.dtype}` : "";
  if (relativeError < LOST) {
    return [{ code: "CHANGE_KEPT", favours: null, message: `Of rounding${dtype}: ${facts}.` }];
  }
  const message = `The adapter is light, and rounding${dtype} blurs it: ${facts}. Beside the base nothing of it is rounded; or merge with a wider --dtype.`;
  return [{ code: "CHANGE_BLURRED", favours: "SEPARATE", message }];
}

/** Below this share two timings are the same. */
const NOISE = 0.02;

function costReasons({ times, timesSkipped }: ServingFacts, cost: number | null): AdviceReason[] {
  if (times === null || cost === null) {
    const message = `Nothing was timed: ${timesSkipped ?? "a token took no time."}`;
    return [{ code: "NOT_TIMED", favours: null, message }];
  }
  const { separate, merged, processor, provider, threads } = times;
  const [slow, fast] = [separate, merged].map(({ perToken }) => figure(Number(perToken.toPrecision(3))));
  // Whoever serves on another engine should know that these are not its times.
  const where = `${processor}, ${counted(threads, "thread")}, in float32 by ${provider}; a server's own will differ`;
  const numbers = `${slow} ms a token instead of ${fast} ms (measured on ${where})`;
  if (cost <= NOISE) {
    const message = `Beside the base the adapter costs no time that can be told here: ${numbers}.`;
    return [{ code: "TOKEN_COST", favours: null, message }];
  }
  const message = `Beside the base the adapter costs ${Math.round(cost * 100)} % more time for each token: ${numbers}.`;
  return [{ code: "TOKEN_COST", favours: "MERGE", message }];
}
