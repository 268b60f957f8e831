import { join } from "node:path";
import type { CheckpointFacts } from "../../core/checkpoint.ts";
import { AppError } from "../../core/errors.ts";
import { type JsonObject, parseJsonObject, TOKENIZER_JSON } from "../../core/json.ts";
import type { TokenizerChoice } from "../../core/tokenizer.ts";
import type { TokenizerContents } from "../../core/tokenizer-json/contents.ts";
import { readText } from "../../storage/folder.ts";
import type { Located } from "../events.ts";

/** The files that ids, decoded text and chats depend on; a slow tokenizer's own are only asked about. */
const READ_JSON = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
/** Not of a tokenizer, but they say which ids end a text. */
const MODEL_JSON = ["generation_config.json", "config.json"];
export const CHAT_TEMPLATE_FILE = "chat_template.jinja";
const NAMED_TEMPLATE = /^(?:additional_)?chat_templates\/([^/]+)\.jinja$/;
/** Files from which transformers would build a tokenizer anew. */
const SLOW = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt"];

/** Name of a file → its absolute path. */
export type TokenizerPaths = ReadonlyMap<string, string>;

interface Owners {
  readonly base: Located;
  /** The adapter whose tokenizer the choice may take; `null` where there is none. */
  readonly adapter: Located | null;
}

/** Where the files of a recipe's tokenizer lie, with the base's own word on which ids end a text. */
export function chosenFiles(choice: TokenizerChoice, { base, adapter }: Owners): Map<string, string> {
  const paths = new Map<string, string>();
  for (const name of MODEL_JSON) if (hasFile(base.facts, name)) paths.set(name, join(base.folder, name));
  for (const { path, from } of choice.files) {
    const owner = from === "base" ? base : adapter;
    if (owner === null) throw new Error(`the tokenizer takes ${path} from an adapter that is not there`);
    paths.set(path, join(owner.folder, path));
  }
  return paths;
}

/** Where the tokenizer files of one folder lie: a base's own, or a merged checkpoint's. */
export function ownFiles({ folder, facts }: Located): Map<string, string> {
  const files = facts.files.filter(({ role, path }) => role === "TOKENIZER" || MODEL_JSON.includes(path));
  return new Map(files.map(({ path }) => [path, join(folder, path)]));
}

function hasFile(facts: CheckpointFacts, name: string): boolean {
  return facts.files.some(({ path }) => path === name);
}

/**
 * Reads what there is of a tokenizer's files.
 * @throws BAD_JSON naming the file, NOT_FOUND, FILE_TOO_LARGE
 */
export async function readTokenizerFiles(paths: TokenizerPaths): Promise<TokenizerContents> {
  const json = new Map<string, JsonObject>();
  const templates = new Map<string, string>();
  for (const [name, path] of paths) {
    const template = name === CHAT_TEMPLATE_FILE ? "default" : NAMED_TEMPLATE.exec(name)?.[1];
    if (template !== undefined) templates.set(template, await readText(path));
    else if (READ_JSON.includes(name) || MODEL_JSON.includes(name)) {
      json.set(name, parseJsonObject(await readText(path), path, TOKENIZER_JSON));
    }
  }
  return { json, templates };
}

/** Where tokenizer.json lies; @throws TOKENIZER_MISSING saying how to make one where that can be done */
export function requireTokenizerJson(paths: TokenizerPaths): string {
  const path = paths.get("tokenizer.json");
  if (path !== undefined) return path;
  const slow = SLOW.find((name) => paths.has(name));
  if (slow === undefined) {
    throw new AppError(
      "TOKENIZER_MISSING",
      "neither the base nor the adapter ships a tokenizer: copy tokenizer.json and tokenizer_config.json into the base's folder. Without one only `graftwork logits` runs, on token ids.",
    );
  }
  throw new AppError(
    "TOKENIZER_MISSING",
    `there is ${paths.get(slow)}, but no tokenizer.json beside it, which is what is read. Write one with Python: ` +
      "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR).",
    { details: { found: slow } },
  );
}
