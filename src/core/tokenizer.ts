import type { CheckpointFacts, FileFacts } from "./checkpoint.ts";
import type { Finding } from "./errors.ts";
import { isJsonObject, type JsonObject } from "./json.ts";

/** Which tokenizer files a merge takes along, and why. */
export interface TokenizerChoice {
  readonly from: "base" | "adapter";
  /** Path in the output → where it comes from. */
  readonly files: readonly { readonly path: string; readonly from: "base" | "adapter" }[];
  /** Files that differ between the two, or stand in one of them only. */
  readonly differences: readonly string[];
}

/** Files that make a tokenizer by themselves; the rest are settings and templates laid over one. */
const VOCABULARY = new Set(["tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"]);

/**
 * Default: the adapter's tokenizer if it ships a tokenizer or chat template that differs from the base's, else the
 * base's. An adapter that ships a vocabulary replaces the whole set; one that ships only a template or settings is
 * laid over the base's files.
 */
export function chooseTokenizer(
  base: CheckpointFacts,
  adapter: CheckpointFacts,
  wanted: "base" | "adapter" | null,
): TokenizerChoice {
  const baseFiles = tokenizerFiles(base);
  const adapterFiles = tokenizerFiles(adapter);
  const differences = [...adapterFiles]
    .filter(([path, file]) => baseFiles.get(path)?.digest !== file.digest)
    .map(([path]) => path);
  const from = wanted ?? (differences.length > 0 ? "adapter" : "base");
  if (from === "base" || adapterFiles.size === 0)
    return { from, files: listed(baseFiles, "base"), differences };
  const whole = [...adapterFiles.keys()].some((path) => VOCABULARY.has(path));
  const kept = whole ? [] : listed(baseFiles, "base").filter(({ path }) => !adapterFiles.has(path));
  return { from, files: [...kept, ...listed(adapterFiles, "adapter")], differences };
}

function tokenizerFiles(facts: CheckpointFacts): Map<string, FileFacts> {
  return new Map(facts.files.filter((f) => f.role === "TOKENIZER").map((f) => [f.path, f]));
}

function listed(files: ReadonlyMap<string, FileFacts>, from: "base" | "adapter") {
  return [...files.keys()].map((path) => ({ path, from }));
}

/** Says so where the adapter's tokenizer was asked for and there is none: the output has the base's. */
export function missingTokenizer(adapter: CheckpointFacts, wanted: "base" | "adapter" | null): Finding[] {
  if (wanted !== "adapter" || tokenizerFiles(adapter).size > 0) return [];
  return [
    {
      code: "TOKENIZER_MISSING",
      subject: "tokenizer",
      message:
        "the adapter's tokenizer was asked for, but the adapter ships none: the output takes the base's.",
    },
  ];
}

/**
 * Whether the chosen tokenizer can produce an id for which the embedding has no row. Such ids that the base's own
 * tokenizer has as well are the base's affair and a warning (gemma-3-1b is published like that); others a refusal.
 */
export function tokenizerProblems(
  choice: TokenizerChoice,
  facts: { readonly base: CheckpointFacts; readonly adapter: CheckpointFacts },
  embeddingRows: number | null,
): { readonly refusals: Finding[]; readonly warnings: Finding[] } {
  const none = { refusals: [], warnings: [] };
  const largest = (owner: "base" | "adapter") => facts[owner].tokenizer?.maxId ?? -1;
  const owners = [...new Set(choice.files.map((file) => file.from))];
  const [owner] = owners.sort((a, b) => largest(b) - largest(a));
  if (owner === undefined || embeddingRows === null || largest(owner) < embeddingRows) return none;
  const say = (end: string): Finding => ({
    code: "TOKENIZER_BEYOND_EMBEDDING",
    subject: "tokenizer",
    message: `the ${owner}'s tokenizer produces ids up to ${largest(owner)}, but the embedding has ${embeddingRows} rows: ${end}`,
  });
  if (largest(owner) <= largest("base")) {
    return {
      ...none,
      warnings: [say("so it is in the base too, and the merged model fails on them as the base does.")],
    };
  }
  const advice =
    "the merged model would fail on them. Choose the base's tokenizer, or the base with the resized vocabulary.";
  return { ...none, refusals: [say(advice)] };
}

/** The tokenizer files that state ids, by name; others are settings, templates or binary. */
export const ID_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "added_tokens.json",
  "vocab.json",
] as const;

/** The largest id that any of a folder's tokenizer files states; `null` where none does. */
export function largestTokenId(
  files: Readonly<Partial<Record<(typeof ID_FILES)[number], JsonObject>>>,
): number | null {
  const decoder = files["tokenizer_config.json"]?.added_tokens_decoder;
  const ids = [
    files["tokenizer.json"] && maxTokenId(files["tokenizer.json"]),
    ...Object.keys(isJsonObject(decoder) ? decoder : {}).map(Number),
    ...Object.values(files["added_tokens.json"] ?? {}),
    ...Object.values(files["vocab.json"] ?? {}),
  ];
  let max = -1;
  for (const id of ids) if (typeof id === "number" && id > max) max = id;
  return max < 0 ? null : max;
}

/** The largest id in a tokenizer.json (vocabulary and added tokens); `null` where it states none. */
export function maxTokenId(tokenizer: JsonObject): number | null {
  let max = -1;
  const model = isJsonObject(tokenizer.model) ? tokenizer.model : {};
  if (isJsonObject(model.vocab)) {
    for (const id of Object.values(model.vocab)) if (typeof id === "number" && id > max) max = id;
  } else if (Array.isArray(model.vocab)) {
    // Unigram models list [token, score] pairs: the position is the id.
    max = model.vocab.length - 1;
  }
  if (Array.isArray(tokenizer.added_tokens)) {
    for (const token of tokenizer.added_tokens) {
      if (isJsonObject(token) && typeof token.id === "number" && token.id > max) max = token.id;
    }
  }
  return max < 0 ? null : max;
}
