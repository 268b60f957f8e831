import { canonicalJson } from "../identity.ts";
import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import { type AddedToken, readAddedTokens } from "../tokenizer-json/added-tokens.ts";
import { plainDecoder, plainPart } from "../tokenizer-json/chain.ts";
import { chatTemplates } from "../tokenizer-json/chat-templates.ts";
import type { TokenizerContents } from "../tokenizer-json/contents.ts";
import { readSettings, type TokenizerSettings } from "../tokenizer-json/settings.ts";
import { readSpecialIds } from "../tokenizer-json/special-ids.ts";
import type { Reason } from "./report.ts";

/*
 * Whether a candidate's tokenizer is the recipe's. Files are not compared by their bytes: `save_pretrained` of
 * transformers writes tokenizer.json anew (a post-processor that adds nothing where there was none, scores a unit in the
 * last place off), moves the chat template into a file, drops add_bos_token and special_tokens_map.json, and adds
 * backend, is_local and model_max_length to tokenizer_config.json. What counts is what makes ids: vocabulary, merges,
 * added tokens, normalizer, pre-tokenizer, decoder, tokens around a text, special tokens by name, and chat templates.
 */

type Say = (file: string, field: string, what: string) => void;

/**
 * Findings of level 0: TOKENIZER_DIFFERS and CHAT_TEMPLATE_DIFFERS, each naming file and field. Both sides must have a
 * tokenizer.json.
 * @throws BAD_TOKENIZER, UNSUPPORTED_TOKENIZER where the contents of either cannot be understood
 */
export function tokenizerDifferences(reference: TokenizerContents, candidate: TokenizerContents): Reason[] {
  const reasons: Reason[] = [];
  const say =
    (code: string): Say =>
    (file, field, what) => {
      reasons.push({
        code,
        level: 0,
        message: `the candidate's ${file} is not the recipe's: ${what}. Copy the tokenizer files of the recipe into the merged folder.`,
        subject: `${file}: ${field}`,
        value: null,
        threshold: null,
      });
    };
  const different = say("TOKENIZER_DIFFERS");
  const ours = tokenizerJson(reference);
  const theirs = tokenizerJson(candidate);
  compareModels(ours.model, theirs.model, different);
  for (const field of ["normalizer", "pre_tokenizer"]) {
    comparePart(field, [plainPart(ours[field]), plainPart(theirs[field])], different);
  }
  comparePart("decoder", [plainDecoder(ours.decoder), plainDecoder(theirs.decoder)], different);
  comparePart("post_processor", [around(ours.post_processor), around(theirs.post_processor)], different);
  compareTokens([reference, candidate], different);
  compareTemplates(chatTemplates(reference), chatTemplates(candidate), say("CHAT_TEMPLATE_DIFFERS"));
  return reasons;
}

const tokenizerJson = (contents: TokenizerContents): JsonObject => contents.json.get("tokenizer.json") ?? {};

/** Tokens put around a text; in the file's own words where those are not understood. */
function around(value: Json | undefined): Json {
  try {
    const { before, after } = readSpecialIds(value);
    return { before, after };
  } catch {
    return plainPart(value);
  }
}

function comparePart(field: string, [ours, theirs]: readonly [Json, Json], say: Say): void {
  if (canonicalJson(ours) === canonicalJson(theirs)) return;
  say("tokenizer.json", field, `its ${field} is ${short(theirs)} instead of ${short(ours)}`);
}

function short(value: Json): string {
  const text = value === null ? "none" : canonicalJson(value);
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

function compareModels(ours: Json | undefined, theirs: Json | undefined, say: Say): void {
  const settings = (model: Json | undefined) => {
    const { vocab: _, merges: __, ...rest } = isJsonObject(model) ? model : {};
    return plainPart(rest);
  };
  comparePart("model", [settings(ours), settings(theirs)], say);
  const vocabulary = firstChange(vocabularyOf(ours), vocabularyOf(theirs));
  if (vocabulary !== null) say("tokenizer.json", "model.vocab", vocabulary);
  const ourMerges = mergesOf(ours);
  const theirMerges = mergesOf(theirs);
  const at = ourMerges.findIndex((merge, i) => merge !== theirMerges[i]);
  if (at >= 0 || ourMerges.length !== theirMerges.length) {
    const where = at >= 0 ? `merge ${at} is another` : "it has more merges";
    say(
      "tokenizer.json",
      "model.merges",
      `${where} (${theirMerges.length} merges, the recipe's has ${ourMerges.length})`,
    );
  }
}

/** Token → id, and its score where it has one. */
function vocabularyOf(model: Json | undefined): ReadonlyMap<string, number | readonly [number, number]> {
  const vocabulary = isJsonObject(model) ? model.vocab : null;
  if (!Array.isArray(vocabulary)) {
    const entries = Object.entries(isJsonObject(vocabulary) ? vocabulary : {});
    return new Map(entries.map(([token, id]) => [token, Number(id)]));
  }
  return new Map(
    vocabulary.map((entry: Json, id) => {
      const [token, score] = Array.isArray(entry) ? entry : [];
      return [String(token), [id, Number(score)]];
    }),
  );
}

function firstChange(
  ours: ReturnType<typeof vocabularyOf>,
  theirs: ReturnType<typeof vocabularyOf>,
): string | null {
  for (const [token, value] of ours) {
    const other = theirs.get(token);
    const name = JSON.stringify(token);
    if (other === undefined)
      return `token ${name} is missing (${theirs.size} tokens, the recipe's has ${ours.size})`;
    if (!sameEntry(value, other)) return `token ${name} is ${String(other)} instead of ${String(value)}`;
  }
  const added = [...theirs.keys()].find((token) => !ours.has(token));
  return added === undefined
    ? null
    : `token ${JSON.stringify(added)} is new (${theirs.size} tokens, the recipe's has ${ours.size})`;
}

/** Scores that Rust read and wrote again are a unit in the last place off. */
const SCORE_TOLERANCE = 1e-13;

function sameEntry(a: number | readonly [number, number], b: number | readonly [number, number]): boolean {
  if (typeof a === "number" || typeof b === "number") return a === b;
  return a[0] === b[0] && Math.abs(a[1] - b[1]) <= SCORE_TOLERANCE * Math.max(1, Math.abs(a[1]));
}

function mergesOf(model: Json | undefined): string[] {
  const merges = isJsonObject(model) && Array.isArray(model.merges) ? model.merges : [];
  return merges.map((merge: Json) => (Array.isArray(merge) ? merge.join(" ") : String(merge)));
}

interface Tokens {
  readonly settings: TokenizerSettings;
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly added: ReadonlyMap<string, { readonly id: number; readonly token: AddedToken }>;
}

function tokensOf(contents: TokenizerContents): Tokens {
  const settings = readSettings(contents.json);
  const json = tokenizerJson(contents);
  const vocabulary = new Map(
    [...vocabularyOf(json.model)].map(([token, value]) => [
      token,
      typeof value === "number" ? value : value[0],
    ]),
  );
  const added = [...readAddedTokens(json, vocabulary, settings).entries()];
  return { settings, vocabulary, added: new Map(added.map((entry) => [entry.token.content, entry])) };
}

function compareTokens(
  [reference, candidate]: readonly [TokenizerContents, TokenizerContents],
  say: Say,
): void {
  const ours = tokensOf(reference);
  const theirs = tokensOf(candidate);
  const change = addedChange(ours, theirs);
  if (change !== null) say("tokenizer.json", "added_tokens", change);
  compareNames(ours, theirs, say);
  if (ours.settings.splitSpecial !== theirs.settings.splitSpecial) {
    const now = String(theirs.settings.splitSpecial);
    say("tokenizer_config.json", "split_special_tokens", `split_special_tokens is ${now}`);
  }
  for (const field of ["add_bos_token", "add_eos_token"]) {
    const [was, is] = [reference, candidate].map(({ json }) => json.get("tokenizer_config.json")?.[field]);
    // transformers 5 leaves them out: tokenizer.json says it.
    if (typeof was !== "boolean" || typeof is !== "boolean" || was === is) continue;
    say("tokenizer_config.json", field, `${field} is ${is} instead of ${was}`);
  }
}

function addedChange(ours: Tokens, theirs: Tokens): string | null {
  for (const [content, { id, token }] of ours.added) {
    const other = theirs.added.get(content);
    const name = JSON.stringify(content);
    if (other === undefined) return `added token ${name} is missing`;
    if (other.id !== id) return `added token ${name} has id ${other.id} instead of ${id}`;
    if (canonicalJson(other.token) !== canonicalJson(token)) return `added token ${name} has other settings`;
  }
  for (const [content, { id }] of theirs.added) {
    // Loading makes added tokens of special ones that the vocabulary has already.
    const named = Object.values(theirs.settings.names).includes(content);
    if (ours.added.has(content) || (named && ours.vocabulary.get(content) === id)) continue;
    return `added token ${JSON.stringify(content)} is new, with id ${id}`;
  }
  return null;
}

/** Names that only the candidate has are the defaults of a class, which saving writes down. */
function compareNames(ours: Tokens, theirs: Tokens, say: Say): void {
  for (const [name, content] of Object.entries(ours.settings.names)) {
    const other = theirs.settings.names[name];
    if (other === content) continue;
    const is = other === undefined ? "missing" : JSON.stringify(other);
    say("tokenizer_config.json", name, `${name} is ${is} instead of ${JSON.stringify(content)}`);
  }
}

function compareTemplates(
  ours: ReadonlyMap<string, string>,
  theirs: ReadonlyMap<string, string>,
  say: Say,
): void {
  // Jinja drops one line end at the end.
  const plain = (template: string | undefined) => template?.replaceAll("\r\n", "\n").replace(/\n$/, "");
  for (const name of new Set([...ours.keys(), ...theirs.keys()])) {
    const [was, is] = [plain(ours.get(name)), plain(theirs.get(name))];
    if (was === is) continue;
    const what = is === undefined ? "is missing" : was === undefined ? "is new" : changedAt(was, is);
    say("chat template", name, `the template "${name}" ${what}`);
  }
}

function changedAt(was: string, is: string): string {
  const lines = was.split("\n");
  const others = is.split("\n");
  const line = lines.findIndex((text, i) => text !== others[i]);
  return `is another from line ${(line < 0 ? lines.length : line) + 1} on`;
}
