import { z } from "zod";
import { AppError } from "../errors.ts";

const whole = (least: number, most: number) => {
  const message = `must be a whole number from ${least} to ${most}`;
  return z.int(message).min(least, message).max(most, message);
};

/** Longer prompts say no more, and each is a run of its own through both sides. */
const MOST_PROMPTS = 200;
const MOST_PROMPT = 20_000;
const PROMPTS = `must be a list of at most ${MOST_PROMPTS} texts`;
const PROMPT = `must be a text of 1 to ${MOST_PROMPT} characters, without NUL and halves of surrogate pairs`;

const optionsSchema = z.strictObject({
  /** Of the bootstrap, and of whatever else is drawn. */
  seed: whole(0, 2 ** 31 - 1).default(0),
  /** Tokens of the longest window that a document is cut into; null: what the model was made for, within reason. */
  window: whole(2, 1_000_000).nullable().default(null),
  /** How far the window moves for longer documents; null: half of it. */
  stride: whole(1, 1_000_000).nullable().default(null),
  /** Write texts as one message of a user with the model's chat template; chats are always written with it. */
  chatTemplate: z.boolean("must be true or false").default(false),
  /** Tokens that the noise floor is measured over; 0: no floor. */
  floorTokens: whole(0, 1_000_000).default(2048),
  /** Longest continuation of a prompt. */
  maxNewTokens: whole(1, 4096).default(32),
  /** What level 3 continues; null: beginnings of the texts; none: no level 3. */
  prompts: z
    .array(
      z
        .string(PROMPT)
        .min(1, PROMPT)
        .max(MOST_PROMPT, PROMPT)
        .refine((text) => !text.includes("\0") && text.isWellFormed(), PROMPT),
      PROMPTS,
    )
    .max(MOST_PROMPTS, PROMPTS)
    .nullable()
    .default(null),
});

/** How an evaluation runs, beside what it compares, over what and under which gate. */
export type EvaluationOptions = Readonly<z.infer<typeof optionsSchema>>;

/**
 * Reads options, every field present afterwards.
 * @throws BAD_INPUT naming the first field that is wrong
 */
export function parseOptions(value: Readonly<Record<string, unknown>>): EvaluationOptions {
  const parsed = optionsSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = issue?.path.join(".") ?? "";
    throw new AppError("BAD_INPUT", `${field} ${issue?.message ?? "is wrong"}.`, { field });
  }
  const { window, stride } = parsed.data;
  if (stride !== null && window !== null && stride > window) {
    throw new AppError(
      "BAD_INPUT",
      `stride ${stride} is more than the window ${window}: tokens between two windows would not be predicted.`,
      { field: "stride" },
    );
  }
  return parsed.data;
}
