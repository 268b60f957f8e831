import type { DeviceName } from "../../core/devices.ts";
import { AppError } from "../../core/errors.ts";
import { counted } from "../../core/evaluation/wording.ts";
import type { EngineEvent, EngineOptions } from "../events.ts";
import { encodeDocument } from "./encode.ts";
import { forwardDevice, keptBytes } from "./model-sides.ts";
import { alignSides, type NamedSide } from "./pair.ts";
import { relayed } from "./relay.ts";
import type { TextTokenizer } from "./tokenizer.ts";

export interface GreedyRequest {
  /** They run in lockstep; all read the same tokens. */
  readonly sides: readonly NamedSide[];
  readonly tokenizer: TextTokenizer;
  readonly prompts: readonly string[];
  /** Write each prompt as a user's message with the chat template, and let the assistant answer. */
  readonly chat: boolean;
  readonly maxNewTokens: number;
  readonly device: DeviceName;
  /** Called after each token, with it for every side and prompt; null where a text has ended. */
  readonly told?: (next: readonly (readonly (number | null)[])[]) => void;
}

export interface Continuation {
  readonly tokens: readonly number[];
  /** Special tokens left out. */
  readonly text: string;
  /** Ended by itself; else it was cut off. */
  readonly ended: boolean;
}

/**
 * Greedy continuations of prompts, by side and prompt.
 * @throws NOT_GENERATIVE, UNSUPPORTED_ARCHITECTURE, MODEL_DIFFERS, CHAT_TEMPLATE_MISSING, DEVICE_UNAVAILABLE, DEVICE_FAILED
 */
export async function* continueGreedily(
  request: GreedyRequest,
  options: EngineOptions,
): AsyncGenerator<EngineEvent, readonly (readonly Continuation[])[]> {
  const { tokenizer, prompts, maxNewTokens, chat } = request;
  const pair = alignSides(request.sides);
  const { model, sides } = pair;
  if (model.head.form !== "vocabulary" || model.direction !== "decoder") {
    throw new AppError(
      "NOT_GENERATIVE",
      `this ${model.family} classifies texts: it has no next token. Its logits are written by "graftwork logits".`,
    );
  }
  const device = await forwardDevice(request.device);
  const encoded = prompts.map((prompt) =>
    Int32Array.from(encodeDocument(tokenizer, { text: prompt }, { chat, prompting: true })),
  );
  yield {
    type: "stage",
    stage: "text",
    message: `up to ${counted(maxNewTokens, "token")} for ${counted(prompts.length, "prompt")}`,
  };
  let done = 0;
  const last = yield* relayed(
    {
      type: "generate",
      setup: { model, sides, device, threads: options.threads, cacheBytes: keptBytes(pair) },
      prompts: encoded,
      maxNewTokens,
      ends: tokenizer.eosIds,
    },
    options,
    (message) => {
      if (message.type !== "tokens") return null;
      request.told?.(message.next);
      return { type: "progress", stage: "text", done: ++done, total: maxNewTokens };
    },
  );
  if (last.type !== "generated") throw new Error(`a generation ended with ${last.type}`);
  const ends = new Set(tokenizer.eosIds);
  return last.texts.map((side) =>
    side.map((tokens) => ({
      tokens,
      text: tokenizer.decode(tokens, { skipSpecial: true }),
      ended: tokens.length > 0 && ends.has(tokens.at(-1)!),
    })),
  );
}

/** Text that grows with its tokens: each call gives what is new and will not change any more. */
export class GrowingText {
  readonly #tokenizer: Pick<TextTokenizer, "decode">;
  readonly #ids: number[] = [];
  #shown = "";

  constructor(tokenizer: Pick<TextTokenizer, "decode">) {
    this.#tokenizer = tokenizer;
  }

  add(id: number): string {
    this.#ids.push(id);
    const text = this.#tokenizer.decode(this.#ids, { skipSpecial: true });
    // A character of several tokens is not one yet; a decoder may also still change what came before.
    if (text.endsWith("\uFFFD") || !text.startsWith(this.#shown)) return "";
    return this.#advance(text);
  }

  /** What is left once no token follows. */
  rest(): string {
    const text = this.#tokenizer.decode(this.#ids, { skipSpecial: true });
    return text.startsWith(this.#shown) ? this.#advance(text) : `\n${text}`;
  }

  #advance(text: string): string {
    const more = text.slice(this.#shown.length);
    this.#shown = text;
    return more;
  }
}
