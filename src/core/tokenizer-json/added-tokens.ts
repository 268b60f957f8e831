import { isJsonObject, type JsonObject } from "../json.ts";
import { badTokenizer, partList, unsupported } from "./parts.ts";

/** A token that is found in a text before anything else is done to it. */
export interface AddedToken {
  readonly content: string;
  /** Found only where no letter or digit touches it. */
  readonly singleWord: boolean;
  /** Takes the white space before or after it along. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Looked for in the normalised text. */
  readonly normalized: boolean;
  /** Left out of decoded text on request. */
  readonly special: boolean;
}

/** Settings that JSON leaves out have the tokenizers library's defaults. */
export function readAddedToken(value: JsonObject, special = false): AddedToken {
  if (typeof value.content !== "string") throw badTokenizer("an added token has no content");
  const flag = (name: string, fallback: boolean) => {
    const set = value[name] ?? fallback;
    if (typeof set !== "boolean")
      throw badTokenizer(`"${name}" of added token ${String(value.content)} is not true or false`);
    return set;
  };
  const isSpecial = special || flag("special", false);
  return {
    content: value.content,
    singleWord: flag("single_word", false),
    lstrip: flag("lstrip", false),
    rstrip: flag("rstrip", false),
    normalized: flag("normalized", !isSpecial),
    special: isSpecial,
  };
}

/** The added tokens of a tokenizer with their ids. */
export class AddedTokens {
  readonly #tokens = new Map<string, AddedToken>();
  readonly #ids = new Map<string, number>();
  readonly #vocabulary: ReadonlyMap<string, number>;

  constructor(vocabulary: ReadonlyMap<string, number>) {
    this.#vocabulary = vocabulary;
  }

  /** Adds a token, or gives one new settings; its id is the vocabulary's, or the next after all. */
  add(token: AddedToken): number {
    if (token.content === "") throw unsupported("it has an added token without content");
    const id = this.#ids.get(token.content) ?? this.#vocabulary.get(token.content) ?? this.#next();
    this.#tokens.set(token.content, token);
    this.#ids.set(token.content, id);
    return id;
  }

  #next(): number {
    let next = this.#vocabulary.size;
    for (const id of this.#ids.values()) if (id >= next) next = id + 1;
    return next;
  }

  has(content: string): boolean {
    return this.#tokens.has(content);
  }

  id(content: string): number | null {
    return this.#ids.get(content) ?? this.#vocabulary.get(content) ?? null;
  }

  *entries(): Iterable<{ readonly token: AddedToken; readonly id: number }> {
    for (const [content, token] of this.#tokens) yield { token, id: this.#ids.get(content)! };
  }
}

/** An added token in a settings file: a string, or an object with settings. */
export function namedToken(value: unknown): AddedToken | null {
  // transformers makes special tokens of the names: they are found before normalisation.
  if (typeof value === "string" && value !== "") return readAddedToken({ content: value }, true);
  return isJsonObject(value) && typeof value.content === "string" ? readAddedToken(value, true) : null;
}

/**
 * All tokens that transformers would have added after loading a tokenizer with these settings.
 * @throws BAD_TOKENIZER where a file states another id than loading would give
 */
export function readAddedTokens(
  json: JsonObject,
  vocabulary: ReadonlyMap<string, number>,
  settings: { readonly added: ReadonlyMap<number, AddedToken>; readonly special: readonly AddedToken[] },
): AddedTokens {
  const added = new AddedTokens(vocabulary);
  for (const value of partList(json.added_tokens ?? [], "list of added tokens")) {
    if (!isJsonObject(value)) throw badTokenizer("an added token is not an object");
    requireSameId(added.add(readAddedToken(value)), value.id, String(value.content));
  }
  for (const [id, token] of [...settings.added].sort(([a], [b]) => a - b)) {
    requireSameId(added.add(token), id, token.content);
  }
  for (const token of settings.special) if (!added.has(token.content)) added.add(token);
  return added;
}

function requireSameId(id: number, stated: unknown, content: string): void {
  if (id === stated) return;
  throw badTokenizer(
    `added token ${JSON.stringify(content)} is said to have id ${JSON.stringify(stated)}, but the vocabulary makes it ${id}`,
  );
}
