import { Tokenizer } from "@huggingface/tokenizers";
import type { Json, JsonObject } from "../../core/json.ts";

interface Wanted {
  readonly model?: JsonObject;
  readonly preTokenizer?: JsonObject;
}

/**
 * Single parts of @huggingface/tokenizers, whose types let one at them through a whole tokenizer only: a vocabulary's
 * pieces of words, and Oniguruma's syntax rewritten for JavaScript (which throws SyntaxError where it cannot).
 */
export function libraryParts({ model, preTokenizer }: Wanted): {
  readonly encode: (piece: string) => string[];
  readonly pattern: RegExp;
} {
  const tokenizer = new Tokenizer(
    {
      normalizer: null,
      pre_tokenizer: preTokenizer ?? null,
      model: model ?? ({ type: "WordPiece", vocab: {}, unk_token: "" } satisfies Json),
      post_processor: null,
      decoder: null,
      added_tokens: [],
    },
    {},
  );
  return {
    encode: (piece) => tokenizer.model!.encode([piece]),
    pattern: (tokenizer.pre_tokenizer as unknown as { readonly pattern: RegExp } | null)?.pattern ?? /$^/u,
  };
}
