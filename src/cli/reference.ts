import { parseDigest } from "../core/identity.ts";
import type { MergeChoices } from "../core/recipe.ts";
import type { LocalAdapter } from "../engine/evaluation/local.ts";
import { exists } from "../storage/staging.ts";
import { recipeChoicesOf } from "./choices.ts";
import { textOf, textsOf, type Values } from "./command.ts";

const WEIGHTED = /^(.+)=([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)$/;

/** `--adapter DIR[=WEIGHT]`, each; a folder whose own name ends in `=0.5` is taken for what it is. */
export async function adaptersOf(values: Values): Promise<LocalAdapter[]> {
  const adapters: LocalAdapter[] = [];
  for (const text of textsOf(values, "adapter")) {
    const [, folder, weight] = (await exists(text)) ? [] : (WEIGHTED.exec(text) ?? []);
    adapters.push(folder === undefined ? { folder: text, weight: 1 } : { folder, weight: Number(weight) });
  }
  return adapters;
}

export function choicesOf(values: Values): Omit<MergeChoices, "weights"> {
  const tokenizer = (textOf(values, "tokenizer") as "base" | "adapter" | undefined) ?? null;
  return { ...recipeChoicesOf(values), tokenizer };
}

export function pinsOf(values: Values) {
  const digest = (option: string) => {
    const text = textOf(values, option);
    return text === undefined ? null : parseDigest(text, `--${option}`);
  };
  return { base: digest("base-digest"), adapter: digest("adapter-digest") };
}
