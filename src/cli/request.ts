import type { Finding } from "../core/errors.ts";
import { parseDigest } from "../core/identity.ts";
import type { LocalMerge } from "../engine/local.ts";
import { recipeChoicesOf } from "./choices.ts";
import { textOf, type Values } from "./command.ts";

/** The merge that the options of `plan` and `merge` describe. */
export function localMerge(values: Values): LocalMerge {
  const digest = (option: string) => {
    const text = textOf(values, option);
    return text === undefined ? null : parseDigest(text, `--${option}`);
  };
  return {
    base: textOf(values, "base")!,
    adapter: textOf(values, "adapter")!,
    choices: {
      ...recipeChoicesOf(values),
      weights: [1],
      tokenizer: (textOf(values, "tokenizer") as "base" | "adapter" | undefined) ?? null,
    },
    strictBase: values["strict-base"] === true,
    pins: { base: digest("base-digest"), adapter: digest("adapter-digest") },
  };
}

export function findingLines(label: string, findings: readonly Finding[]): string[] {
  return findings.map((finding) => `${label} ${finding.code}: ${finding.message}`);
}
