import type { ModelSpec } from "../../core/decoder/spec.ts";
import type { EvaluationReport, Reason } from "../../core/evaluation/report.ts";
import { promptsOf, type TextDocument, type TextSet } from "../../core/evaluation/texts.ts";
import { windowsOf } from "../../core/evaluation/windows.ts";
import type { MergePlan } from "../../core/plan.ts";
import type { TokenSequence } from "../forward/sequences.ts";
import type { EvaluationInputs } from "./evaluate.ts";
import { TextTokenizer } from "./tokenizer.ts";
import { recipeTokenizer, tokenizerReasons } from "./tokenizer-reasons.ts";

/** The longest window unless another one is asked for: what 24 GB of memory and patience allow. */
const MAX_WINDOW = 2_048;
const DEFAULT_PROMPTS = 8;

/** Texts in the tokens of the recipe's tokenizer, for both sides. */
export interface PreparedTexts {
  readonly tokenizer: TextTokenizer;
  readonly sequences: readonly TokenSequence[];
  readonly prompts: readonly string[];
  readonly encode: (prompt: string) => number[];
  readonly texts: NonNullable<EvaluationReport["texts"]>;
  readonly reasons: readonly Reason[];
  readonly checks: EvaluationReport["checks"];
}

/** @throws TOKENIZER_MISSING, BAD_TOKENIZER, CHAT_TEMPLATE_MISSING, BAD_FILE */
export async function prepareTexts(
  inputs: EvaluationInputs,
  { texts, plan, model }: { texts: TextSet; plan: MergePlan | null; model: ModelSpec },
): Promise<PreparedTexts> {
  const tokenizer = await TextTokenizer.open(recipeTokenizer(inputs, plan));
  const { chatTemplate } = inputs.options;
  const encode = (document: TextDocument) => encoded(tokenizer, document, { chatTemplate, prompting: false });
  const window = Math.min(inputs.options.window ?? MAX_WINDOW, model.maxPositions ?? MAX_WINDOW);
  const stride = Math.min(inputs.options.stride ?? Math.ceil(window / 2), window - 1);
  const isClassifier = model.head.form !== "vocabulary";
  const sequences = texts.documents.flatMap((document, i) => {
    const ids = Int32Array.from(encode(document));
    // A classifier reads one window of a text; a text of one token predicts nothing.
    if (isClassifier) return [{ ids: ids.subarray(0, window), first: 1, document: i }];
    return windowsOf(ids.length, { window, stride }).map(({ begin, end, firstPrediction }) => ({
      ids: ids.subarray(begin, end),
      first: firstPrediction - begin,
      document: i,
    }));
  });
  const found = await tokenizerReasons(inputs, plan);
  return {
    tokenizer,
    sequences: sequences.filter(({ ids, first }) => ids.length > 0 && (isClassifier || ids.length > first)),
    prompts: inputs.prompts ?? promptsOf(texts, DEFAULT_PROMPTS),
    encode: (prompt) => encoded(tokenizer, { text: prompt }, { chatTemplate, prompting: true }),
    texts: {
      name: texts.name,
      digest: texts.digest,
      documents: texts.documents.length,
      tokens: sequences.reduce(
        (sum, { ids, first }, i) => sum + ids.length - (startsDocument(sequences, i) ? 0 : first),
        0,
      ),
      window,
      stride,
      tokenizer: tokenizer.digest,
      specialTokens: true,
      chatTemplate,
    },
    ...found,
  };
}

function startsDocument(sequences: readonly TokenSequence[], i: number): boolean {
  return sequences[i - 1]?.document !== sequences[i]!.document;
}

/** Plain texts get the tokenizer's usual special tokens; a chat's template writes its own. */
function encoded(
  tokenizer: TextTokenizer,
  document: TextDocument,
  { chatTemplate, prompting }: { chatTemplate: boolean; prompting: boolean },
): number[] {
  if ("text" in document && !chatTemplate) return tokenizer.encode(document.text, { specialTokens: true });
  const messages = "messages" in document ? document.messages : [{ role: "user", content: document.text }];
  return tokenizer.encode(tokenizer.chat(messages, { addGenerationPrompt: prompting }), {
    specialTokens: false,
  });
}
