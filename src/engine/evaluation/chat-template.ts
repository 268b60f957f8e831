import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { AppError } from "../../core/errors.ts";
import type { ChatMessage } from "../../core/evaluation/texts.ts";
import { asPython, pythonHelpers } from "./chat-python.ts";

/**
 * The day that templates believe it is, so that a report can be reproduced: the one that templates of Llama 3 fall back
 * to where nobody tells them.
 */
export const TEMPLATE_DATE = "2024-07-26";

export interface ChatOptions {
  /** End with the beginning of an assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** What `strftime_now` of a template says, as YYYY-MM-DD at midnight; default `TEMPLATE_DATE`. */
  readonly date?: string;
}

/** @throws CHAT_TEMPLATE_MISSING */
export function defaultTemplate(templates: ReadonlyMap<string, string>): string {
  const template = templates.get("default");
  if (template !== undefined) return template;
  const others =
    templates.size > 0
      ? `only templates called ${[...templates.keys()].sort().join(", ")}`
      : "no chat template";
  throw new AppError(
    "CHAT_TEMPLATE_MISSING",
    `the tokenizer has ${others}, so conversations cannot be written as text: give texts instead of messages, without asking for a chat template, or add a chat_template.jinja beside tokenizer.json.`,
  );
}

/** What a template raises itself. */
class Refusal extends Error {}

interface RenderInput extends ChatOptions {
  readonly messages: readonly ChatMessage[];
  /** Contents of special tokens by name: `bos_token`, … */
  readonly names: Readonly<Record<string, string>>;
}

/** Of Jinja, in both spellings. What `Template.render` sets besides reads the clock, and counts without an end. */
const CONSTANTS = { true: true, false: false, none: null, True: true, False: false, None: null };

/** Longer ones are endless, or as good as that. */
const MAX_RANGE = 100_000;

/**
 * A conversation as the text that the model was trained on, as `apply_chat_template(tokenize=False)` of transformers
 * writes it. Tokenize it without special tokens: the template writes its own.
 * @throws CHAT_TEMPLATE_FAILED with what the template or its interpreter says
 */
export function renderChat(template: string, input: RenderInput): string {
  const { messages, names, addGenerationPrompt, date = TEMPLATE_DATE } = input;
  try {
    const environment = new Environment();
    const variables = {
      ...CONSTANTS,
      ...names,
      messages: messages.map(({ role, content }) => ({ role, content })),
      tools: null,
      documents: null,
      add_generation_prompt: addGenerationPrompt,
      range: boundedRange,
      strftime_now: (format: string) => strftime(format, date),
      raise_exception: (message: unknown) => {
        throw new Refusal(String(message));
      },
      ...pythonHelpers(template),
    };
    for (const [name, value] of Object.entries(variables)) environment.set(name, value);
    return String(new Interpreter(environment).run(asPython(new Template(template).parsed)).value);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const why =
      error instanceof Refusal
        ? `the chat template refuses this conversation: ${error.message}. Change the messages`
        : `the chat template cannot be run here: ${error.message}. Give texts instead of messages`;
    throw new AppError("CHAT_TEMPLATE_FAILED", `${why}.`, { cause: error });
  }
}

function boundedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0) throw new Error("range() with a step of 0");
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= MAX_RANGE)) throw new Error(`range() of ${count} numbers`);
  return Array.from({ length: count }, (_, i) => from + i * step);
}

const MONTHS = "January February March April May June July August September October November December".split(
  " ",
);
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
const two = (value: number) => String(value).padStart(2, "0");

/** Python's `strftime` of a day at midnight, in English. */
function strftime(format: string, date: string): string {
  const day = new Date(`${date}T00:00:00Z`);
  if (Number.isNaN(day.getTime()))
    throw new AppError("BAD_INPUT", `${date} is not a date: write YYYY-MM-DD.`);
  const ofYear = (day.getTime() - Date.UTC(day.getUTCFullYear(), 0, 1)) / 86_400_000 + 1;
  const fields: Readonly<Record<string, string>> = {
    Y: String(day.getUTCFullYear()),
    y: two(day.getUTCFullYear() % 100),
    m: two(day.getUTCMonth() + 1),
    d: two(day.getUTCDate()),
    e: String(day.getUTCDate()).padStart(2, " "),
    "-d": String(day.getUTCDate()),
    "-m": String(day.getUTCMonth() + 1),
    B: MONTHS[day.getUTCMonth()]!,
    b: MONTHS[day.getUTCMonth()]!.slice(0, 3),
    A: DAYS[day.getUTCDay()]!,
    a: DAYS[day.getUTCDay()]!.slice(0, 3),
    j: String(ofYear).padStart(3, "0"),
    H: "00",
    I: "12",
    M: "00",
    S: "00",
    p: "AM",
    F: date,
    T: "00:00:00",
    "%": "%",
  };
  return format.replace(/%(-?.)/gs, (directive, name: string) => {
    const value = fields[name];
    if (value === undefined)
      throw new Error(`strftime_now("${format}") uses ${directive}, which is not known here`);
    return value;
  });
}
