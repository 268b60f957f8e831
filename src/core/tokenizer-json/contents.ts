import type { JsonObject } from "../json.ts";

/** What stands in the files of a tokenizer. */
export interface TokenizerContents {
  /** Parsed, by name: tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json. */
  readonly json: ReadonlyMap<string, JsonObject>;
  /** Chat templates in files of their own: "default" and named ones. */
  readonly templates: ReadonlyMap<string, string>;
}
