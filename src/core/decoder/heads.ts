import { AppError } from "../errors.ts";
import type { Source } from "./family.ts";
import type { HeadSpec, LinearSpec } from "./spec.ts";

/**
 * The embedding and the head of a vocabulary. Tied ones may be stored once, under either name; where a tied pair is
 * stored twice, each is used as it is: transformers 5 ties them only where both are equal.
 * The head is null where the model has one for classes.
 */
export function tiedTensors(
  { tensors, task, fields }: Source,
  names: { embedding: string; head: string; hidden: number; tied: boolean },
): { embedding: string; head: LinearSpec | null } {
  // transformers loads no other number of rows.
  const shape = [fields.maybeCount("vocab_size", null), names.hidden];
  const wanted = task === "vocabulary";
  const swapped = wanted && names.tied && !tensors.has(names.embedding) && tensors.has(names.head);
  const embedding = tensors.take(swapped ? names.head : names.embedding, shape);
  if (!wanted) return { embedding, head: null };
  if (!tensors.has(names.head) && !names.tied) {
    const why = fields.has("tie_word_embeddings")
      ? "tie_word_embeddings is false"
      : `tie_word_embeddings is false unless config.json says otherwise (model_type "${fields.family}")`;
    throw new AppError(
      "BAD_CHECKPOINT",
      `The checkpoint has no tensor ${names.head}, and ${why}: transformers would fill the head with random numbers. ` +
        "Restore the tensor, or set tie_word_embeddings to true where head and embedding are one.",
      {
        field: "tie_word_embeddings",
        details: { tensor: names.head, expected: `[any, ${names.hidden}]` },
      },
    );
  }
  const weight = tensors.has(names.head) ? tensors.take(names.head, shape) : embedding;
  return { embedding, head: { weight, bias: null, layout: "out-in" } };
}

/** `pad_token_id` where the file leaves it out; null for the other families. */
const PAD_BY_DEFAULT: Readonly<Record<string, number>> = {
  gemma2: 0,
  gemma3_text: 0,
  olmo2: 1,
  phi3: 32_000,
  smollm3: 128_004,
};

/** The head over the vocabulary, or over classes at the last token (`score`). */
export function headOf(
  { fields, tensors, task }: Source,
  {
    hidden,
    head,
    scale = 1,
    softcap = null,
  }: { hidden: number; head: LinearSpec | null; scale?: number; softcap?: number | null },
): HeadSpec {
  if (task === "vocabulary" && head) return { form: "vocabulary", linear: head, scale, softcap };
  return {
    form: "last-token",
    linear: tensors.linear(`${tensors.headPrefix}score`, [null, hidden]),
    padToken: fields.maybeNumber("pad_token_id", PAD_BY_DEFAULT[fields.family] ?? null),
  };
}
