import { AppError } from "../errors.ts";
import { isJsonObject, type Json } from "../json.ts";
import type { TokenizerContents } from "./contents.ts";

/**
 * The templates of a tokenizer by name, as transformers finds them: files of their own go before `chat_template` in
 * tokenizer_config.json, which is one template or a list of named ones.
 * @throws BAD_TOKENIZER
 */
export function chatTemplates({ json, templates }: TokenizerContents): ReadonlyMap<string, string> {
  if (templates.size > 0) return templates;
  const value = json.get("tokenizer_config.json")?.chat_template;
  if (value === undefined || value === null) return templates;
  if (typeof value === "string") return new Map([["default", value]]);
  const named = Array.isArray(value)
    ? value.map((entry: Json) => (isJsonObject(entry) ? [entry.name, entry.template] : []))
    : Object.entries(isJsonObject(value) ? value : { "": null });
  return new Map(
    named.map(([name, template]) => {
      if (typeof name === "string" && typeof template === "string") return [name, template];
      throw new AppError(
        "BAD_TOKENIZER",
        "chat_template in tokenizer_config.json is neither a text nor a list of templates with name and template. Restore the file from its source.",
      );
    }),
  );
}
