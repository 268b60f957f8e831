import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import { type AddedToken, namedToken, readAddedToken } from "./added-tokens.ts";
import { badTokenizer, unsupported } from "./parts.ts";

/** In the order in which transformers adds them, which decides ids of ones that no file gives an id. */
const NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** What tokenizer_config.json and its like say beside a tokenizer.json. */
export interface TokenizerSettings {
  /** Settings of tokens by their id, which go before the ones in tokenizer.json. */
  readonly added: ReadonlyMap<number, AddedToken>;
  /** Tokens with a name (`bos_token`, …) and extra ones, added where tokenizer.json has none like it. */
  readonly special: readonly AddedToken[];
  /** Special tokens in a text are text. */
  readonly splitSpecial: boolean;
  readonly cleanUpSpaces: boolean;
  /** Contents of tokens with a name: `bos_token`, …, and a model's own (`image_token`, …). */
  readonly names: Readonly<Record<string, string>>;
}

/**
 * What transformers takes from the files beside tokenizer.json (tokenization_utils_base.py, `_from_pretrained`, 5.18):
 * special_tokens_map.json only where tokenizer_config.json lists no added tokens, and then before it; `add_bos_token` and
 * `add_eos_token` not at all, because the post-processor in tokenizer.json says it.
 * @throws BAD_TOKENIZER, UNSUPPORTED_TOKENIZER
 */
export function readSettings(json: ReadonlyMap<string, JsonObject>): TokenizerSettings {
  const config = json.get("tokenizer_config.json") ?? {};
  const decoder = config.added_tokens_decoder;
  const map = decoder === undefined ? (json.get("special_tokens_map.json") ?? {}) : {};
  const merged: JsonObject = { ...config, ...map };
  requireAgreement(config, json.get("tokenizer.json") ?? {});
  const added = new Map<number, AddedToken>();
  for (const [id, token] of Object.entries(isJsonObject(decoder) ? decoder : {})) {
    if (!isJsonObject(token))
      throw badTokenizer(`added token ${id} of its tokenizer_config.json is no object`);
    added.set(Number(id), readAddedToken(token));
  }
  const named = namedTokens(merged);
  return {
    added,
    special: [...named.values(), ...extraTokens(merged)],
    splitSpecial: config.split_special_tokens === true,
    cleanUpSpaces: config.clean_up_tokenization_spaces === true,
    names: Object.fromEntries([...named].map(([name, token]) => [name, token.content])),
  };
}

function namedTokens(config: JsonObject): Map<string, AddedToken> {
  const own = Object.keys(config).filter((name) => name.endsWith("_token") && !NAMED.includes(name));
  const extra = config.extra_special_tokens;
  const values: JsonObject = { ...config, ...(isJsonObject(extra) && extra) };
  const names = [...NAMED, ...own, ...(isJsonObject(extra) ? Object.keys(extra) : [])];
  const found = new Map<string, AddedToken>();
  for (const name of names) {
    const token = namedToken(values[name]);
    if (token !== null) found.set(name, token);
  }
  return found;
}

function extraTokens(config: JsonObject): AddedToken[] {
  const extra = config.extra_special_tokens;
  const listed = isFilled(extra) ? extra : config.additional_special_tokens;
  if (!Array.isArray(listed)) return [];
  return listed.map((value: Json) => {
    if (isJsonObject(value)) return readAddedToken(value);
    const token = namedToken(value);
    if (token === null) throw badTokenizer("an extra special token is neither a string nor an object");
    return token;
  });
}

function isFilled(value: Json | undefined): boolean {
  return Array.isArray(value) ? value.length > 0 : isJsonObject(value) && Object.keys(value).length > 0;
}

/**
 * Settings that some classes of transformers put over the chain in tokenizer.json and others ignore: where the two
 * disagree, the ids depend on the class and its version.
 */
function requireAgreement(config: JsonObject, tokenizer: JsonObject): void {
  const bert = partsOf(tokenizer.normalizer, "normalizers").find(({ type }) => type === "BertNormalizer");
  const bytes = partsOf(tokenizer.pre_tokenizer, "pretokenizers").find(({ type }) => type === "ByteLevel");
  const pairs: [string, JsonObject | undefined, string][] = [
    ["do_lower_case", bert, "lowercase"],
    ["strip_accents", bert, "strip_accents"],
    ["tokenize_chinese_chars", bert, "handle_chinese_chars"],
    ["add_prefix_space", bytes, "add_prefix_space"],
  ];
  for (const [field, part, other] of pairs) {
    const said = config[field];
    if (part === undefined || typeof said !== "boolean" || typeof part[other] !== "boolean") continue;
    if (said === part[other]) continue;
    throw unsupported(
      `its ${String(part.type)} has ${other} ${String(part[other])}, but tokenizer_config.json says ${field} ${String(said)}`,
    );
  }
  if (
    config.fix_mistral_regex === true &&
    !JSON.stringify(tokenizer.pre_tokenizer).includes("\\\\p{Lu}\\\\p{Lt}")
  ) {
    throw unsupported("tokenizer_config.json asks for another pattern (fix_mistral_regex) than it has");
  }
}

function partsOf(value: Json | undefined, list: string): JsonObject[] {
  if (!isJsonObject(value)) return [];
  const inner = value[list];
  return Array.isArray(inner) ? inner.flatMap((part: Json) => partsOf(part, list)) : [value];
}
