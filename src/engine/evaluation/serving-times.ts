import type { DeviceName } from "../../core/devices.ts";
import { AppError } from "../../core/errors.ts";
import type { ServingFacts } from "../../core/evaluation/advice.ts";
import type { MergeChoices } from "../../core/recipe.ts";
import type { EngineEvent, EngineOptions, Located } from "../events.ts";
import type { SideTimes } from "../forward/protocol.ts";
import { environmentOf } from "./environment.ts";
import { forwardDevice, keptBytes } from "./model-sides.ts";
import { type AlignedSides, alignSides, widenedBytes } from "./pair.ts";
import { relayed } from "./relay.ts";
import { declared } from "./side-forms.ts";
import { checkpointSide, referenceSide } from "./sides.ts";

export interface TimesRequest {
  readonly base: Located;
  readonly sources: readonly (Located & { readonly weight: number })[];
  readonly merged: Located | null;
  readonly choices: MergeChoices;
  readonly device: DeviceName;
  /** Most bytes of widened weights to keep in memory; default: half of what is free. */
  readonly keep?: number;
}

export type ServingTimes = Pick<ServingFacts, "times" | "timesSkipped">;

const PROMPT_TOKENS = 128;
const NEW_TOKENS = 16;
/** Each side is timed so often, in turn, and its shortest time counts: the first one also reads from the disk. */
const ROUNDS = 3;

/** What leaves sizes and parity standing: the advice then says why nothing was timed. */
const SKIPS = new Set([
  "UNSUPPORTED_ARCHITECTURE",
  "UNSUPPORTED_DTYPE",
  "UNSUPPORTED_QUANTISATION",
  "MODEL_DIFFERS",
  "BAD_CHECKPOINT",
  "QUANTISED_CHECKPOINT",
]);

/**
 * Time to load, to the first token and for each token after it, of the adapters beside their base and of the merged
 * model. A merge that was not written is timed on its base, whose tensors have the same shapes and types.
 */
export async function* timeServing(
  request: TimesRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, ServingTimes> {
  const pair = alignedSides(request);
  if (typeof pair === "string") return { times: null, timesSkipped: pair };
  const { model } = pair;
  if (model.head.form !== "vocabulary" || model.direction !== "decoder") {
    return { times: null, timesSkipped: "A classifier generates no tokens." };
  }
  const device = await forwardDevice(request.device);
  const newTokens = NEW_TOKENS;
  const room = model.maxPositions === null ? PROMPT_TOKENS : model.maxPositions - newTokens - 1;
  const prompt = somePrompt(pair, Math.max(1, Math.min(PROMPT_TOKENS, room)));
  const cacheBytes = Math.min(keptBytes(pair), request.keep ?? Number.POSITIVE_INFINITY);
  yield {
    type: "stage",
    stage: "measure",
    message: `timing both sides over ${prompt.length} tokens and ${newTokens} new ones`,
  };
  const sides = Array.from({ length: ROUNDS }, () => pair.sides).flat();
  const setup = { model, sides, device, threads: options.threads, cacheBytes };
  const last = yield* relayed({ type: "measure", setup, prompt, newTokens }, options, () => null);
  if (last.type !== "measured") throw new Error(`a timing ended with ${last.type}`);
  const [separate, merged] = pair.sides.map((_, side) =>
    shortest(last.sides.filter((_, i) => i % pair.sides.length === side)),
  );
  const { provider, processor } = environmentOf(request.device, { runtime: "", threads: options.threads });
  return {
    times: {
      separate: separate!,
      merged: merged!,
      standIn: request.merged === null,
      promptTokens: prompt.length,
      newTokens,
      weightsKept: cacheBytes >= widenedBytes(pair),
      device: request.device,
      provider,
      processor,
      threads: options.threads,
    },
    timesSkipped: null,
  };
}

/** The two sides; or why there are none. */
function alignedSides({ base, sources, merged, choices }: TimesRequest): AlignedSides | string {
  try {
    const separate = referenceSide({ base, sources, choices });
    return alignSides([separate, checkpointSide(merged ?? base, "merged")]);
  } catch (error) {
    if (error instanceof AppError && SKIPS.has(error.code)) return error.message;
    throw error;
  }
}

/** Ids all over the vocabulary: what they mean does not change how long they take. */
function somePrompt({ model, sides }: AlignedSides, length: number): Int32Array {
  const rows = declared(sides[0]!.weights[model.embedding.tokens]!).shape[0]!;
  return Int32Array.from({ length }, (_, i) => (i * 7919 + 1) % rows);
}

function shortest(rounds: readonly SideTimes[]): SideTimes {
  const least = (of: (times: SideTimes) => number) => Math.min(...rounds.map(of));
  return {
    load: least(({ load }) => load),
    prefill: least(({ prefill }) => prefill),
    perToken: least(({ perToken }) => perToken),
  };
}
