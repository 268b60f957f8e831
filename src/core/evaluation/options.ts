import { z } from "zod";
import { AppError } from "../errors.ts";

/** The least and the most that the numbers among the options may be. */
export const OPTION_RANGES = {
  seed: [0, 2 ** 31 - 1],
  window: [2, 1_000_000],
  stride: [1, 1_000_000],
  floorTokens: [0, 1_000_000],
  maxNewTokens: [1, 4096],
} as const;

/** What is wrong with a number that is not whole or not within its range. */
export const rangeMessage = ([least, most]: readonly [number, number]) =>
  `must be a whole number from ${least} to ${most}`;

const whole = (range: readonly [number, number]) => {
  const [least, most] = range;
  const message = rangeMessage(range);
  return z.int(message).min(least, message).max(most, message);
};

/** Longer prompts say no more, and each is a run of its own through both sides. */
export const MOST_PROMPTS = 200;
/** UTF-16 units of one. */
export const MOST_PROMPT = 20_000;
const PROMPTS = `must be a list of at most ${MOST_PROMPTS} texts`;
const PROMPT = `must be a text of 1 to ${MOST_PROMPT} characters, without NUL and halves of surrogate pairs`;

const optionsSchema = z.strictObject({
  /** Of the bootstrap, and of whatever else is drawn. */
  seed: whole(OPTION_RANGES.seed).default(0),
  /** Tokens of the longest window that a document is cut into; null: what the model was made for, within reason. */
  window: whole(OPTION_RANGES.window).nullable().default(null),
  /** How far the window moves for longer documents; null: half of it. */
  stride: whole(OPTION_RANGES.stride).nullable().default(null),
  /** Write texts as one message of a user with the model's chat template; chats are always written with it. */
  chatTemplate: z.boolean("must be true or false").default(false),
  /** Tokens that the noise floor is measured over; 0: no floor. */
  floorTokens: whole(OPTION_RANGES.floorTokens).default(2048),
  /** Longest continuation of a prompt. */
  maxNewTokens: whole(OPTION_RANGES.maxNewTokens).default(32),
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
