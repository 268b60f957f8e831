import { AppError } from "../errors.ts";
import { type Digest, digestJson } from "../identity.ts";
import { isJsonObject, type JsonLimits, type JsonObject, jsonExcess } from "../json.ts";
import { MOST_PROMPT, MOST_PROMPTS } from "./options.ts";

/** A turn of a conversation. Templates of models decide which roles there are: "system", "user", "assistant", … */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** What a model reads: a text as it stands, or a conversation that the model's chat template turns into one. */
export type TextDocument = { readonly text: string } | { readonly messages: readonly ChatMessage[] };

export interface TextSet {
  readonly name: string;
  /** Of the documents in their order, whatever the spacing of the file. */
  readonly digest: Digest;
  readonly documents: readonly TextDocument[];
}

export interface TaskExample {
  readonly prompt: string;
  /** The answer that counts as right. */
  readonly expected: string;
}

export interface TaskSet {
  readonly name: string;
  readonly digest: Digest;
  readonly examples: readonly TaskExample[];
}

/** An evaluation reads a text set as a whole; far more would run for days. */
export const TEXT_LIMITS = {
  /** UTF-16 units of a file: at least so many bytes. */
  length: 32_000_000,
  documents: 20_000,
  /** UTF-16 units of one document. */
  documentLength: 2_000_000,
  /** Messages of one conversation. */
  messages: 1_000,
} as const;

const LINE: JsonLimits = { containers: 5_000, commas: 20_000 };

/**
 * Reads a text set: JSON Lines, each `{"text": "…"}` or `{"messages": [{"role": "…", "content": "…"}, …]}`. Blank lines
 * are left out; an empty document is an error, as is any field that would have no effect.
 * @throws BAD_TEXTS naming the line
 */
export function parseTexts(name: string, jsonl: string): TextSet {
  const documents = parseLines(jsonl, { code: "BAD_TEXTS", name, what: "documents" }, readDocument);
  return textSet(name, documents);
}

/** A set of documents with its digest. */
export function textSet(name: string, documents: readonly TextDocument[]): TextSet {
  return { name, digest: digestJson({ texts: documents }), documents };
}

/**
 * Reads labelled examples: JSON Lines, each `{"prompt": "…", "expected": "…"}`.
 * @throws BAD_TASKS naming the line
 */
export function parseTasks(name: string, jsonl: string): TaskSet {
  const examples = parseLines(jsonl, { code: "BAD_TASKS", name, what: "examples" }, readExample);
  return { name, digest: digestJson({ tasks: examples }), examples };
}

/**
 * Reads prompts to continue: JSON Lines, each `{"prompt": "…"}`.
 * @throws BAD_PROMPTS naming the line
 */
export function parsePrompts(name: string, jsonl: string): string[] {
  const prompts = parseLines(jsonl, { code: "BAD_PROMPTS", name, what: "prompts" }, readPrompt);
  if (prompts.length <= MOST_PROMPTS) return prompts;
  throw new AppError(
    "BAD_PROMPTS",
    `${name}: it has ${prompts.length} prompts, the limit is ${MOST_PROMPTS}. Take a sample of them.`,
  );
}

/** Explains what is wrong with one line; `parseLines` adds where it stands. */
class LineError extends Error {}

interface Source {
  readonly code: "BAD_TEXTS" | "BAD_TASKS" | "BAD_PROMPTS";
  readonly name: string;
  readonly what: string;
}

function parseLines<Item>(jsonl: string, source: Source, read: (line: JsonObject) => Item): Item[] {
  const { code, name, what } = source;
  const bad = (why: string) => new AppError(code, `${name}: ${why}`);
  if (jsonl.length > TEXT_LIMITS.length) {
    throw bad(`it has ${jsonl.length} characters, the limit is ${TEXT_LIMITS.length}. Take a sample of it.`);
  }
  const items: Item[] = [];
  const lines = new Map<string, number>();
  // A byte order mark is an editor's, not the text's.
  for (const [index, line] of jsonl
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    if (line.trim() === "") continue;
    if (items.length === TEXT_LIMITS.documents) {
      throw bad(`line ${index + 1}: more than ${TEXT_LIMITS.documents} ${what}. Take a sample of them.`);
    }
    try {
      const item = read(parseLine(line));
      requireNew(item, { lines, line: index + 1 });
      items.push(item);
    } catch (error) {
      if (!(error instanceof LineError)) throw error;
      throw bad(`line ${index + 1}: ${error.message}`);
    }
  }
  if (items.length === 0) throw bad(`there is no line with a JSON object in it, so there are no ${what}.`);
  return items;
}

/** Intervals take what is counted for independent: the same text thirty times is one text, not thirty. */
function requireNew(item: unknown, { lines, line }: { lines: Map<string, number>; line: number }): void {
  const text = JSON.stringify(item);
  const earlier = lines.get(text);
  if (earlier !== undefined) {
    throw new LineError(
      `it says the same as line ${earlier}, and would count twice. Leave it out (\`sort -u\` does).`,
    );
  }
  lines.set(text, line);
}

function parseLine(line: string): JsonObject {
  const excess = jsonExcess(line, LINE);
  if (excess !== null) throw new LineError(`it ${excess}.`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new LineError(`this is not JSON (${why}). Write one JSON object on each line.`);
  }
  if (!isJsonObject(value)) throw new LineError("this is JSON, but not an object.");
  return value;
}

function readDocument(line: JsonObject): TextDocument {
  const fields = Object.keys(line);
  if (fields.length !== 1 || (fields[0] !== "text" && fields[0] !== "messages")) {
    throw new LineError(
      `it has ${fields.length === 0 ? "no fields" : `the fields ${fields.slice(0, 8).join(", ")}`}: ` +
        'give either {"text": "…"} or {"messages": [{"role": "…", "content": "…"}]} and nothing else.',
    );
  }
  if ("text" in line) return { text: readText(line.text, "text") };
  const { messages } = line;
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new LineError("messages must be a list with at least one message.");
  }
  if (messages.length > TEXT_LIMITS.messages) {
    throw new LineError(`it has ${messages.length} messages, the limit is ${TEXT_LIMITS.messages}.`);
  }
  return { messages: messages.map(readMessage) };
}

function readMessage(message: unknown, index: number): ChatMessage {
  const where = `messages[${index}]`;
  if (!isJsonObject(message)) throw new LineError(`${where} must be an object with role and content.`);
  const other = Object.keys(message).find((field) => field !== "role" && field !== "content");
  if (other !== undefined) {
    throw new LineError(`${where} has a field ${other}: only role and content are read. Remove it.`);
  }
  const { role, content } = message;
  if (typeof role !== "string" || role === "") throw new LineError(`${where}.role must be a string.`);
  // An empty turn is a turn: templates write its frame.
  if (typeof content !== "string") throw new LineError(`${where}.content must be a string.`);
  requireText(content, `${where}.content`);
  return { role, content };
}

function readExample(line: JsonObject): TaskExample {
  const other = Object.keys(line).find((field) => field !== "prompt" && field !== "expected");
  if (other !== undefined) {
    throw new LineError(`it has a field ${other}: give {"prompt": "…", "expected": "…"} and nothing else.`);
  }
  return { prompt: readText(line.prompt, "prompt"), expected: readText(line.expected, "expected") };
}

function readPrompt(line: JsonObject): string {
  const other = Object.keys(line).find((field) => field !== "prompt");
  if (other !== undefined) {
    throw new LineError(`it has a field ${other}: give {"prompt": "…"} and nothing else.`);
  }
  const prompt = readText(line.prompt, "prompt");
  if (prompt.length > MOST_PROMPT) {
    throw new LineError(`prompt has ${prompt.length} characters, the limit is ${MOST_PROMPT}. Shorten it.`);
  }
  if (prompt.includes("\0")) throw new LineError("prompt holds NUL (\\u0000). Remove it.");
  return prompt;
}

function readText(value: unknown, field: string): string {
  if (typeof value !== "string") throw new LineError(`${field} must be a string.`);
  if (value.trim() === "") throw new LineError(`${field} is empty.`);
  return requireText(value, field);
}

function requireText(text: string, field: string): string {
  if (text.length > TEXT_LIMITS.documentLength) {
    throw new LineError(
      `${field} has ${text.length} characters, the limit for one is ${TEXT_LIMITS.documentLength}. Split it.`,
    );
  }
  if (!text.isWellFormed()) {
    throw new LineError(`${field} holds half of a surrogate pair, which has no bytes in UTF-8. Repair it.`);
  }
  return text;
}

/**
 * Beginnings of the first `count` documents that are texts, for greedy continuations: about a third of each, at least
 * 8 words where there are more, cut before a word. Conversations have no beginning to continue, and are left out.
 */
export function promptsOf(texts: Pick<TextSet, "documents">, count: number): string[] {
  const prompts: string[] = [];
  for (const document of texts.documents) {
    if (prompts.length === count) break;
    if ("text" in document) prompts.push(beginningOf(document.text));
  }
  return prompts;
}

const WORDS = { least: 8, most: 40, share: 1 / 3 };

function beginningOf(text: string): string {
  const words = [...text.matchAll(/\S+/g)];
  const wanted = Math.min(WORDS.most, Math.max(WORDS.least, Math.floor(words.length * WORDS.share)));
  const last = words[Math.min(wanted, words.length) - 1];
  // The space after the last word is left to the model: in most vocabularies it belongs to the next word.
  return last === undefined ? text : text.slice(0, last.index + last[0].length);
}
