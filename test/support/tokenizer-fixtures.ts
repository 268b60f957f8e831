import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { ChatMessage } from "../../src/core/evaluation/texts.ts";

/** Tokenizers made by test/fixtures/tokenizers/make.py. */
export const TOKENIZERS = resolve(import.meta.dirname, "../fixtures/tokenizers");
export const DEMO_BASE = resolve(import.meta.dirname, "../fixtures/demo/base");

interface Expected {
  readonly bos: number | null;
  readonly eos: number | null;
  readonly pad: number | null;
  readonly texts: readonly {
    readonly ids: number[];
    readonly plain?: number[];
    readonly decoded: string;
    readonly skipped?: string;
  }[];
  readonly chats: readonly (readonly [Rendered, Rendered])[] | null;
  readonly mixed: { readonly ids: number[]; readonly decoded: string };
}

/** What transformers writes, or what the template raises. */
export interface Rendered {
  readonly text?: string;
  readonly error?: string;
}

export const EXPECTED = JSON.parse(readFileSync(join(TOKENIZERS, "expected.json"), "utf8")) as {
  readonly texts: readonly string[];
  readonly conversations: readonly (readonly ChatMessage[])[];
  readonly tokenizers: Readonly<Record<string, Expected>>;
};

/** The files of a folder by name. */
export function filesOf(folder: string): Map<string, string> {
  return new Map(readdirSync(folder).map((name) => [name, join(folder, name)]));
}

// biome-ignore lint/suspicious/noExplicitAny: tests change JSON of any shape
export type AnyJson = any;

/** A copy of a tokenizer's JSON files, changed and written somewhere else. */
export async function changed(
  name: string,
  change: (files: Record<string, AnyJson>) => void,
): Promise<Map<string, string>> {
  const folder = await mkdtemp(join(tmpdir(), "graftwork-tokenizer-"));
  const from = filesOf(join(TOKENIZERS, name));
  const files = Object.fromEntries(
    [...from]
      .filter(([file]) => file.endsWith(".json"))
      .map(([file, path]) => [file, JSON.parse(readFileSync(path, "utf8"))]),
  );
  change(files);
  const paths = new Map<string, string>();
  for (const [file, value] of Object.entries(files)) {
    const path = join(folder, file);
    await writeFile(path, typeof value === "string" ? value : JSON.stringify(value));
    paths.set(file, path);
  }
  return paths;
}
