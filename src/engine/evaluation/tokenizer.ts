import { AppError } from "../../core/errors.ts";
import type { ChatMessage } from "../../core/evaluation/texts.ts";
import { type Digest, digestJson } from "../../core/identity.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { chatTemplates } from "../../core/tokenizer-json/chat-templates.ts";
import type { TokenizerContents } from "../../core/tokenizer-json/contents.ts";
import { readSettings, type TokenizerSettings } from "../../core/tokenizer-json/settings.ts";
import { textAsBytes } from "../tokenizer/byte-level.ts";
import { TextPipeline } from "../tokenizer/text-pipeline.ts";
import { type ChatOptions, defaultTemplate, renderChat } from "./chat-template.ts";
import { readTokenizerFiles, requireTokenizerJson, type TokenizerPaths } from "./tokenizer-files.ts";

export interface TokenizerOptions {
  /** Rows of the model's embedding; ids beyond them are refused when they come up. */
  readonly rows?: number;
}

/** A tokenizer as the files of a model describe it, with the ids that `AutoTokenizer` of transformers gives. */
export class TextTokenizer {
  readonly bos: number | null;
  readonly eos: number | null;
  readonly pad: number | null;
  /** Ids that end generated text: generation_config.json's, else config.json's, else the tokenizer's own. */
  readonly eosIds: readonly number[];
  /** Of what the tokenizer files say, whatever their spacing and order of keys. */
  readonly digest: Digest;
  readonly hasChatTemplate: boolean;
  readonly #pipeline: TextPipeline;
  readonly #names: Readonly<Record<string, string>>;
  readonly #templates: ReadonlyMap<string, string>;
  readonly #rows: number;
  readonly #byteLevel: boolean;

  /**
   * Reads a tokenizer from its files; `chosenFiles` and `ownFiles` say where they lie.
   * @throws TOKENIZER_MISSING, BAD_JSON, BAD_TOKENIZER, UNSUPPORTED_TOKENIZER naming the file
   */
  static async open(paths: TokenizerPaths, options: TokenizerOptions = {}): Promise<TextTokenizer> {
    const path = requireTokenizerJson(paths);
    const contents = await readTokenizerFiles(paths);
    try {
      return new TextTokenizer(contents, options);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      throw new AppError(error.code, `${path}: ${error.message}`, { cause: error });
    }
  }

  private constructor(contents: TokenizerContents, { rows }: TokenizerOptions) {
    const settings = readSettings(contents.json);
    const tokenizer = contents.json.get("tokenizer.json")!;
    this.#pipeline = new TextPipeline(tokenizer, settings);
    this.#names = settings.names;
    this.#templates = chatTemplates(contents);
    this.hasChatTemplate = this.#templates.has("default");
    this.#rows = rows ?? Number.POSITIVE_INFINITY;
    this.#byteLevel = JSON.stringify(tokenizer.decoder ?? null).includes('"ByteLevel"');
    this.bos = this.#named(settings, "bos_token");
    this.eos = this.#named(settings, "eos_token");
    this.pad = this.#named(settings, "pad_token");
    this.eosIds = endIds(contents.json) ?? (this.eos === null ? [] : [this.eos]);
    this.digest = digestContents(contents);
  }

  #named({ names }: TokenizerSettings, name: string): number | null {
    const content = names[name];
    return content === undefined ? null : this.#pipeline.id(content);
  }

  /**
   * Ids of a text, with the special tokens around it that the tokenizer adds, or without.
   * @throws BAD_TEXTS, UNSUPPORTED_CHARACTER, TOKEN_BEYOND_EMBEDDING
   */
  encode(text: string, { specialTokens }: { readonly specialTokens: boolean }): number[] {
    const ids = this.#pipeline.encode(text, specialTokens);
    for (const id of ids) {
      if (id < this.#rows) continue;
      throw new AppError(
        "TOKEN_BEYOND_EMBEDDING",
        `the tokenizer makes ${JSON.stringify(this.#pipeline.token(id))} token ${id}, but the embedding has ${this.#rows} rows: ` +
          "the model cannot read this text. Take the tokenizer that belongs to the model, or leave the token out.",
        { details: { id, rows: this.#rows } },
      );
    }
    return ids;
  }

  /** Text of ids; ids that no token has are left out, as transformers does. */
  decode(ids: Iterable<number>, { skipSpecial }: { readonly skipSpecial: boolean }): string {
    return this.#pipeline.decode(ids, skipSpecial);
  }

  /** One token for people: its text with its spaces, its bytes as `<0xE2>` where they are no text by themselves. */
  token(id: number): string {
    const token = this.#pipeline.token(id);
    if (token === null) return `<id ${id}>`;
    if (this.#pipeline.isAdded(token)) return token;
    if (!this.#byteLevel) return token.replaceAll("▁", " ");
    const bytes = textAsBytes(token);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return [...bytes].map((byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`).join("");
    }
  }

  /**
   * A conversation as text; encode it without special tokens, which the template writes itself.
   * @throws CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_FAILED
   */
  chat(messages: readonly ChatMessage[], options: ChatOptions): string {
    return renderChat(defaultTemplate(this.#templates), { ...options, messages, names: this.#names });
  }
}

/** Ids that end a text, from the first file that names any. */
function endIds(json: ReadonlyMap<string, JsonObject>): number[] | null {
  for (const file of ["generation_config.json", "config.json"]) {
    const ids = idList(json.get(file)?.eos_token_id);
    if (ids.length > 0) return ids;
  }
  return null;
}

function idList(value: Json | undefined): number[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => typeof id === "number" && Number.isSafeInteger(id) && id >= 0);
}

const MODEL_FILES = ["generation_config.json", "config.json"];

function digestContents({ json, templates }: TokenizerContents): Digest {
  const files = [...json].filter(([name]) => !MODEL_FILES.includes(name));
  return digestJson({ files: Object.fromEntries(files), templates: Object.fromEntries(templates) });
}
