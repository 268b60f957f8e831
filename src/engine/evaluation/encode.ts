import { AppError } from "../../core/errors.ts";
import type { TextDocument } from "../../core/evaluation/texts.ts";
import type { TextTokenizer } from "./tokenizer.ts";

export interface EncodeOptions {
  /** Write a plain text as one message of a user with the chat template; conversations always have it. */
  readonly chat: boolean;
  /** The template opens the assistant's turn. */
  readonly prompting: boolean;
}

/**
 * Tokens of a document. Plain texts get the tokenizer's usual special tokens; a chat's template writes its own.
 * @throws CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_FAILED, TOKEN_BEYOND_EMBEDDING; BAD_TEXTS for a text without a token
 */
export function encodeDocument(
  tokenizer: Pick<TextTokenizer, "encode" | "chat">,
  document: TextDocument,
  { chat, prompting }: EncodeOptions,
): number[] {
  const ids = encoded(tokenizer, document, { chat, prompting });
  if (ids.length > 0) return ids;
  const text = "text" in document ? document.text : "a conversation";
  throw new AppError("BAD_TEXTS", `${JSON.stringify(text.slice(0, 40))} has no token: write something.`);
}

function encoded(
  tokenizer: Pick<TextTokenizer, "encode" | "chat">,
  document: TextDocument,
  { chat, prompting }: EncodeOptions,
): number[] {
  if ("text" in document && !chat) return tokenizer.encode(document.text, { specialTokens: true });
  const messages = "messages" in document ? document.messages : [{ role: "user", content: document.text }];
  return tokenizer.encode(tokenizer.chat(messages, { addGenerationPrompt: prompting }), {
    specialTokens: false,
  });
}
