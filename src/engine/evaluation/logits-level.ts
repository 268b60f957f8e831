import type { OnnxDevice } from "../../core/devices.ts";
import type { LayerDistance } from "../../core/evaluation/measures.ts";
import type { LogitsReport, WorstPosition } from "../../core/evaluation/report.ts";
import { type LogitsSummary, summariseLogits, worstPredictions } from "../../core/evaluation/summary.ts";
import type { EngineEvent, EngineOptions } from "../events.ts";
import type { Comparison } from "../forward/compare.ts";
import type { TokenSequence } from "../forward/sequences.ts";
import type { Side } from "../forward/side.ts";
import { type AlignedSides, floorOf, widenedBytes, widestOf } from "./pair.ts";
import { relayed } from "./relay.ts";

/** Memory for hidden states and what is made of them in a layer, of all sides together. */
const ACTIVATION_BYTES = 640 * 2 ** 20;
/** Widened weights of a model that fits stay in memory from chunk to chunk. */
const CACHE_BYTES = 256 * 2 ** 20;
const WORST = 20;
/** Tokens of context that are shown of a worst position. */
const CONTEXT = 32;

export interface LogitsRequest {
  readonly pair: AlignedSides;
  /** The base without adapters, by roles; null where it cannot run beside them. */
  readonly base: Side | null;
  readonly sequences: readonly TokenSequence[];
  readonly device: OnnxDevice;
  readonly floorTokens: number;
  readonly seed: number;
  /** Of what the candidate stores. */
  readonly dtype: "F32" | "F16" | "BF16";
  readonly decode: (ids: readonly number[]) => string;
}

export interface LogitsOutcome {
  readonly report: LogitsReport;
  readonly runtime: string;
}

const HOW = "the same base and adapter, every product summed in two halves";

/** Level 2: both sides over the same tokens, and the reference a second time for the noise floor. */
export async function* logitsLevel(
  request: LogitsRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, LogitsOutcome> {
  const { threads } = options;
  const { pair, sequences, device, seed } = request;
  const otherSequences = withinTokens(sequences, request.floorTokens);
  const [reference] = pair.sides;
  const others = otherSequences > 0 ? [floorOf(reference!), ...(request.base ? [request.base] : [])] : [];
  const sides = [...pair.sides, ...others];
  const tokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
  yield { type: "stage", stage: "logits", message: `running both sides over ${tokens} tokens` };
  const last = yield* relayed(
    {
      type: "compare",
      setup: { model: pair.model, sides, device, threads, cacheBytes: cacheFor(pair) },
      sequences,
      otherSequences,
      chunkTokens: chunkTokens(pair, sides.length),
    },
    options,
    (message) => (message.type === "progress" ? { ...message, stage: "logits" } : null),
  );
  if (last.type !== "compared") throw new Error(`a comparison ended with ${last.type}`);
  const { comparison, runtime } = last;
  const { measures, others: found } = comparison;
  const summary = summariseLogits({ measures, floor: found[0] ?? null, seed });
  const effect = found[1] && summariseLogits({ measures: found[1], floor: null, seed });
  return {
    runtime,
    report: {
      ...summary,
      floor: summary.floor && { ...summary.floor, how: HOW },
      effect: effect ? effectOf(effect, summary) : null,
      layers: [...comparison.layers],
      firstApart: firstApart(comparison.layers, request.dtype),
      worst: worstOf(comparison, request),
    },
  };
}

/** How much of what the adapter does at all is lost. */
function effectOf(
  { documents, predictions, kld }: LogitsSummary,
  { kld: found }: LogitsSummary,
): LogitsReport["effect"] {
  const meanKld = kld.mean.value;
  return { documents, predictions, meanKld, share: meanKld > 0 ? found.mean.value / meanKld : null };
}

/** How many sequences from the first on have so many tokens together; whole documents. */
function withinTokens(sequences: readonly TokenSequence[], tokens: number): number {
  let [sum, count] = [0, 0];
  sequences.forEach(({ ids, document }, i) => {
    sum += ids.length;
    const ends = sequences[i + 1]?.document !== document;
    if (ends && sum <= tokens) count = i + 1;
  });
  // A first document that is longer than that is the floor's all the same.
  if (count === 0 && tokens > 0)
    return sequences.filter(({ document }) => document === sequences[0]?.document).length;
  return count;
}

/** Rows of every side that a chunk has: hidden states, what attention and the MLP make of them. */
export function chunkTokens(pair: AlignedSides, sides: number): number {
  const perToken = 4 * sides * (6 * pair.model.hidden + 2.5 * widestOf(pair));
  return Math.max(256, Math.min(16_384, Math.floor(ACTIVATION_BYTES / perToken)));
}

function cacheFor(pair: AlignedSides): number {
  return widenedBytes(pair) * 2 <= CACHE_BYTES ? CACHE_BYTES : 0;
}

/** Unit roundoff of storage: what one rounding may do to a weight, relatively. */
const ROUNDOFF = { F32: 2 ** -24, F16: 2 ** -11, BF16: 2 ** -8 } as const;

/** The first layer after which the sides are further apart than rounding the weights and the noise floor explain. */
function firstApart(layers: Comparison["layers"], dtype: LogitsRequest["dtype"]): LogitsReport["firstApart"] {
  const rounding = 8 * ROUNDOFF[dtype];
  const isApart = ({ relativeError, floor }: LayerDistance & { floor: number | null }) =>
    relativeError === null || relativeError > Math.max(rounding, 10 * (floor ?? 0));
  const found = layers.find(isApart);
  if (!found) return null;
  if (found.relativeError === null) {
    return { layer: found.name, why: "the hidden states hold numbers that are NaN or infinite" };
  }
  const floor =
    found.floor === null
      ? ""
      : `, ${(found.relativeError / (found.floor || Number.EPSILON)).toPrecision(2)} times the noise floor`;
  return {
    layer: found.name,
    why: `the hidden states differ by ${found.relativeError.toPrecision(2)} of their size${floor}; rounding weights to ${dtype} explains up to about ${rounding.toPrecision(1)}`,
  };
}

function worstOf({ measures }: Comparison, { sequences, decode }: LogitsRequest): WorstPosition[] {
  const documents = joinDocuments(sequences);
  return worstPredictions(measures, WORST).map(({ document: nth, position, index, kld }) => {
    const { document, ids } = documents[nth]!;
    const label = measures.label[index]!;
    const isClassifier = label < 0;
    // The first prediction of a text is of its second token.
    const at = isClassifier ? ids.length : position + 1;
    const show = (id: number) => (isClassifier ? `label ${id}` : decode([id]));
    return {
      document,
      position: isClassifier ? 0 : at,
      kld,
      context: decode(ids.slice(Math.max(0, at - CONTEXT), at)),
      token: isClassifier ? null : decode([label]),
      probabilityReference: probability(measures.nllReference[index]!),
      probabilityCandidate: probability(measures.nllCandidate[index]!),
      topReference: show(measures.topReference[index]!),
      topCandidate: show(measures.topCandidate[index]!),
    };
  });
}

/** Null for a classifier, and where a logit is NaN or infinite. */
function probability(nll: number): number | null {
  return Number.isFinite(nll) ? Math.exp(-nll) : null;
}

/** Tokens of each document that has predictions, windows put together again. */
function joinDocuments(sequences: readonly TokenSequence[]): { document: number; ids: number[] }[] {
  const documents: { document: number; ids: number[] }[] = [];
  sequences.forEach(({ ids, first, document }, i) => {
    if (sequences[i - 1]?.document !== document) documents.push({ document, ids: [...ids] });
    else documents.at(-1)!.ids.push(...ids.subarray(first));
  });
  return documents;
}
