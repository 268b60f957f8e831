import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import { badTokenizer, onlyFields, partList, readPart, unsupported } from "./parts.ts";

/** Ids that a post-processor puts around those of one text. */
export interface SpecialIds {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** What a tokenizer.json adds to a single text. @throws UNSUPPORTED_TOKENIZER, BAD_TOKENIZER */
export function readSpecialIds(value: Json | undefined): SpecialIds {
  if (value === null || value === undefined) return { before: [], after: [] };
  const { type, part } = readPart(value, "post-processor");
  switch (type) {
    case "ByteLevel":
      // Offsets only.
      onlyFields(part, "post-processor", ["add_prefix_space", "trim_offsets", "use_regex"]);
      return { before: [], after: [] };
    case "BertProcessing":
    case "RobertaProcessing":
      onlyFields(part, "post-processor", ["sep", "cls", "trim_offsets", "add_prefix_space"]);
      return { before: [pairId(part.cls, type)], after: [pairId(part.sep, type)] };
    case "TemplateProcessing":
      onlyFields(part, "post-processor", ["single", "pair", "special_tokens"]);
      return template(part);
    case "Sequence": {
      onlyFields(part, "post-processor", ["processors"]);
      return partList(part.processors, "post-processor").reduce<SpecialIds>(
        (inner, processor) => {
          const { before, after } = readSpecialIds(processor);
          return { before: [...before, ...inner.before], after: [...inner.after, ...after] };
        },
        { before: [], after: [] },
      );
    }
    default:
      throw unsupported(`its post-processor ${type} is not known here`);
  }
}

function pairId(value: Json | undefined, type: string): number {
  const id = Array.isArray(value) && value.length === 2 ? value[1] : undefined;
  return requireId(id, `a ${type} names no id`);
}

function requireId(id: unknown, otherwise: string): number {
  if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) throw badTokenizer(otherwise);
  return id;
}

function template(part: JsonObject): SpecialIds {
  const before: number[] = [];
  const after: number[] = [];
  let texts = 0;
  for (const piece of partList(part.single, "post-processor")) {
    if (!isJsonObject(piece))
      throw badTokenizer("its post-processor's template has a piece that is no object");
    if (isJsonObject(piece.Sequence) && piece.Sequence.id === "A") texts++;
    else if (isJsonObject(piece.SpecialToken)) {
      (texts === 0 ? before : after).push(...tokenIds(part, piece.SpecialToken.id));
    } else
      throw badTokenizer("its post-processor's template has a piece that is neither the text nor a token");
  }
  if (texts !== 1) throw unsupported(`its post-processor's template has the text ${texts} times`);
  return { before, after };
}

function tokenIds(part: JsonObject, name: Json | undefined): number[] {
  const tokens = isJsonObject(part.special_tokens) ? part.special_tokens : {};
  const entry = typeof name === "string" ? tokens[name] : undefined;
  if (!isJsonObject(entry) || !Array.isArray(entry.ids)) {
    throw badTokenizer(`its post-processor's template uses ${JSON.stringify(name)} without saying its ids`);
  }
  return entry.ids.map((id) => requireId(id, `its post-processor gives ${String(name)} an id that is none`));
}
