import { AppError } from "../core/errors.ts";
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
    adapters.push((await exists(text)) ? { folder: text, weight: 1 } : await weighted(text));
  }
  return adapters;
}

/** @throws BAD_INPUT for a folder that exists with something behind it that is no weight */
async function weighted(text: string): Promise<LocalAdapter> {
  const [, folder, digits] = WEIGHTED.exec(text) ?? [];
  const weight = Number(digits);
  if (folder !== undefined && Number.isFinite(weight) && weight !== 0) return { folder, weight };
  const at = text.lastIndexOf("=");
  if (at > 0 && (folder !== undefined || (await exists(text.slice(0, at))))) {
    const given = text.slice(at + 1);
    throw new AppError(
      "BAD_INPUT",
      `--adapter ${text}: "${given}" is not a weight. Write a finite number other than 0, such as ${text.slice(0, at)}=0.5.`,
      { field: "adapter" },
    );
  }
  return { folder: text, weight: 1 };
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
