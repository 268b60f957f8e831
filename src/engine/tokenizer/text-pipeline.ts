import { AppError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import { type AddedTokens, readAddedTokens } from "../../core/tokenizer-json/added-tokens.ts";
import { unsupported } from "../../core/tokenizer-json/parts.ts";
import type { TokenizerSettings } from "../../core/tokenizer-json/settings.ts";
import { readSpecialIds, type SpecialIds } from "../../core/tokenizer-json/special-ids.ts";
import { type CharacterTable, requireSureOf } from "./characters.ts";
import { type Decoder, readDecoder, withoutSpaces } from "./decoders.ts";
import { type Model, readModel } from "./models.ts";
import { type Normalizer, readNormalizer } from "./normalizers.ts";
import { type PreTokenizer, readPreTokenizer } from "./pre-tokenizers.ts";
import { TokenFinder } from "./token-finder.ts";

const FIELDS = [
  "version",
  // Only on request of a caller, which nobody makes here.
  "truncation",
  "padding",
  "added_tokens",
  "normalizer",
  "pre_tokenizer",
  "post_processor",
  "decoder",
  "model",
];

/**
 * A tokenizer.json at work: text to ids and back, with the very ids that `AutoTokenizer` of transformers gives.
 * Vocabularies are @huggingface/tokenizers'; what it does around them differs from the library in Rust (words cut with
 * ASCII classes, behaviours of splits, white space, stripping and single words of added tokens, unknown tokens fused
 * across words, byte fallback when decoding), so that is done here.
 */
export class TextPipeline {
  readonly #model: Model;
  readonly #normalizer: Normalizer;
  readonly #preTokenizer: PreTokenizer;
  readonly #decoder: Decoder;
  readonly #special: SpecialIds;
  readonly #added: AddedTokens;
  readonly #raw: TokenFinder;
  readonly #normalized: TokenFinder;
  readonly #tables: ReadonlySet<CharacterTable>;
  readonly #tokens: ReadonlyMap<number, string>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #cleanUpSpaces: boolean;

  /** @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER; the messages begin with "it" or "its": the file is the caller's */
  constructor(json: JsonObject, settings: TokenizerSettings) {
    const other = Object.keys(json).find((field) => !FIELDS.includes(field));
    if (other !== undefined) throw unsupported(`it has the field "${other}"`);
    this.#model = readModel(json.model);
    this.#normalizer = readNormalizer(json.normalizer);
    this.#preTokenizer = readPreTokenizer(json.pre_tokenizer);
    this.#decoder = readDecoder(json.decoder);
    this.#special = readSpecialIds(json.post_processor);
    this.#added = readAddedTokens(json, this.#model.ids, settings);
    if (this.#preTokenizer.asksForBeginning && json.normalizer) {
      // Whether a normalised text still begins where the text begins is a matter of the library's alignments.
      throw unsupported("its Metaspace prepends to the first word only, after a normalizer");
    }
    this.#tables = new Set([...this.#normalizer.tables, ...this.#preTokenizer.tables]);
    const skipSpecial = settings.splitSpecial;
    const entries = [...this.#added.entries()];
    const of = (normalized: boolean) => entries.filter(({ token }) => token.normalized === normalized);
    this.#raw = new TokenFinder(of(false), { written: (content) => content, skipSpecial });
    this.#normalized = new TokenFinder(of(true), { written: this.#normalizer.normalize, skipSpecial });
    this.#tokens = new Map([
      ...[...this.#model.ids].map(([token, id]): [number, string] => [id, token]),
      // The library keeps the normalised form of tokens that it looks for in normalised text.
      ...entries.map(({ token, id }): [number, string] => [
        id,
        token.normalized ? this.#normalizer.normalize(token.content) : token.content,
      ]),
    ]);
    const special = new Set(entries.flatMap(({ token }) => (token.special ? [token.content] : [])));
    this.#specialIds = new Set([...this.#tokens].flatMap(([id, token]) => (special.has(token) ? [id] : [])));
    this.#cleanUpSpaces = settings.cleanUpSpaces && this.#model.type !== "BPE";
  }

  /** @throws BAD_TEXTS for half a surrogate pair, UNSUPPORTED_CHARACTER */
  encode(text: string, specialTokens: boolean): number[] {
    if (!text.isWellFormed()) {
      throw new AppError(
        "BAD_TEXTS",
        "the text holds half of a surrogate pair, which has no bytes in UTF-8.",
      );
    }
    requireSureOf(text, this.#tables);
    const ids: number[] = specialTokens ? [...this.#special.before] : [];
    for (const section of this.#raw.split(text, true)) {
      if (section.id !== null) ids.push(section.id);
      else this.#encodeSection(section.text, section.first, ids);
    }
    if (specialTokens) ids.push(...this.#special.after);
    return ids;
  }

  #encodeSection(text: string, first: boolean, ids: number[]): void {
    for (const section of this.#normalized.split(this.#normalizer.normalize(text), first)) {
      if (section.id !== null) {
        ids.push(section.id);
        continue;
      }
      for (const piece of this.#preTokenizer.split([section])) {
        for (const id of this.#model.encode(piece.text)) ids.push(id);
      }
    }
  }

  /** Ids without a token are left out, as transformers does. */
  decode(ids: Iterable<number>, skipSpecial: boolean): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.#tokens.get(id);
      if (token !== undefined && !(skipSpecial && this.#specialIds.has(id))) tokens.push(token);
    }
    const text = this.#decoder(tokens);
    return this.#cleanUpSpaces ? withoutSpaces(text) : text;
  }

  /** The token as the vocabulary writes it; `null` where the id has none. */
  token(id: number): string | null {
    return this.#tokens.get(id) ?? null;
  }

  id(token: string): number | null {
    return this.#added.id(token);
  }

  isAdded(token: string): boolean {
    return this.#added.has(token);
  }
}
