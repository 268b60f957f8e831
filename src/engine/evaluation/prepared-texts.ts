import type { ModelSpec } from "../../core/decoder/spec.ts";
import { AppError } from "../../core/errors.ts";
import type { EvaluationReport } from "../../core/evaluation/report.ts";
import { promptsOf, type TextDocument, type TextSet } from "../../core/evaluation/texts.ts";
import { windowsOf } from "../../core/evaluation/windows.ts";
import type { TokenSequence } from "../forward/sequences.ts";
import { encodeDocument } from "./encode.ts";
import type { EvaluationInputs } from "./evaluate.ts";
import { TextTokenizer } from "./tokenizer.ts";
import type { TokenizerPaths } from "./tokenizer-files.ts";

/** The longest window unless another one is asked for: most models were made for it, and attention takes its square. */
const MAX_WINDOW = 2_048;
const DEFAULT_PROMPTS = 8;

/** Texts in the tokens of the recipe's tokenizer, for both sides. */
export interface PreparedTexts {
  readonly tokenizer: TextTokenizer;
  readonly sequences: readonly TokenSequence[];
  readonly prompts: readonly string[];
  readonly encode: (prompt: string) => number[];
  readonly texts: NonNullable<EvaluationReport["texts"]>;
}

/** @throws TOKENIZER_MISSING, BAD_TOKENIZER, CHAT_TEMPLATE_MISSING, BAD_FILE, TEXT_TOO_LONG for a prompt */
export async function prepareTexts(
  inputs: EvaluationInputs,
  { texts, tokenizer: paths, model }: { texts: TextSet; tokenizer: TokenizerPaths; model: ModelSpec },
): Promise<PreparedTexts> {
  const tokenizer = await TextTokenizer.open(paths);
  const { chatTemplate } = inputs.options;
  const encode = (document: TextDocument) =>
    encodeDocument(tokenizer, document, { chat: chatTemplate, prompting: false });
  const encodePrompt = (prompt: string) =>
    encodeDocument(tokenizer, { text: prompt }, { chat: chatTemplate, prompting: true });
  const fits = (prompt: string) => encodePrompt(prompt).length <= positionsOf(model);
  requireFitting([...(inputs.prompts ?? []), ...promptsOfTasks(inputs)], fits, model);
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
  return {
    tokenizer,
    sequences: sequences.filter(({ ids, first }) => ids.length > 0 && (isClassifier || ids.length > first)),
    prompts: inputs.prompts ?? promptsOf(texts, DEFAULT_PROMPTS).filter(fits),
    encode: encodePrompt,
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
  };
}

/** Where positions are learnt, as many tokens as there are of them; any number where they are computed. */
function positionsOf({ embedding, maxPositions, head }: ModelSpec): number {
  const isRead = head.form === "vocabulary" && embedding.positions !== null;
  return (isRead ? maxPositions : null) ?? Number.POSITIVE_INFINITY;
}

const promptsOfTasks = ({ tasks }: EvaluationInputs) => tasks?.examples.map(({ prompt }) => prompt) ?? [];

/** Before anything runs for minutes. */
function requireFitting(
  prompts: readonly string[],
  fits: (prompt: string) => boolean,
  model: ModelSpec,
): void {
  const long = prompts.find((prompt) => !fits(prompt));
  if (long === undefined) return;
  throw new AppError(
    "TEXT_TOO_LONG",
    `the prompt ${JSON.stringify(`${long.slice(0, 40)}…`)} has more tokens than the ${positionsOf(model)} positions that the model has learnt: shorten it.`,
    { field: "prompts" },
  );
}

function startsDocument(sequences: readonly TokenSequence[], i: number): boolean {
  return sequences[i - 1]?.document !== sequences[i]!.document;
}
