import { AppError } from "../core/errors.ts";
import { EXACT_NUMERICS, NUMERICS } from "../core/numerics-versions.ts";
import type { ModuleSelection, RecipeChoices } from "../core/recipe.ts";
import { readLayers, readNames } from "../core/selection-text.ts";
import { textOf, type Values } from "./command.ts";

/** `--dtype` words and the storage types they mean. */
export const CLI_DTYPES = {
  bf16: "BF16",
  bfloat16: "BF16",
  fp16: "F16",
  float16: "F16",
  fp32: "F32",
  float32: "F32",
} as const;

/** The options that go into a recipe. */
export function recipeChoicesOf(values: Values): RecipeChoices {
  const dtype = textOf(values, "dtype") as keyof typeof CLI_DTYPES | undefined;
  return {
    dtype: dtype === undefined ? null : CLI_DTYPES[dtype],
    numerics: values.numerics === "exact" ? EXACT_NUMERICS : NUMERICS,
    ties: values.ties === "peft" ? "peft" : "preserve",
    include: selectionOf(values, "include"),
    exclude: selectionOf(values, "exclude"),
  };
}

const RECIPE_OPTIONS = ["dtype", "numerics", "ties", "tokenizer"];

/** Whether any option says something of the recipe. */
export function choosesRecipe(values: Values): boolean {
  return Object.entries(values).some(
    ([name, value]) => value !== undefined && (RECIPE_OPTIONS.includes(name) || /^(in|ex)clude/.test(name)),
  );
}

function selectionOf(values: Values, word: "include" | "exclude"): ModuleSelection | null {
  const names = textOf(values, word);
  const pattern = textOf(values, `${word}-pattern`);
  const layers = textOf(values, `${word}-layers`);
  if (names !== undefined && pattern !== undefined) {
    throw new AppError("BAD_INPUT", `give --${word} or --${word}-pattern, not both.`, { field: word });
  }
  if (names === undefined && pattern === undefined && layers === undefined) return null;
  const list = names === undefined ? null : readNames(names);
  return { modules: pattern ?? list, layers: layers === undefined ? null : readLayers(layers) };
}
