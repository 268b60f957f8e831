import type { AddedToken } from "../../core/tokenizer-json/added-tokens.ts";
import { unsupported } from "../../core/tokenizer-json/parts.ts";
import { escapePattern, WHITE_SPACE, WORD } from "./patterns.ts";

/** A part of a text: a token that was found, or text for the rest of the chain. */
export interface Section {
  readonly text: string;
  readonly id: number | null;
  /** Whether it begins where the text begins. */
  readonly first: boolean;
}

/** Finds added tokens in texts, the leftmost first and of several the longest. */
export class TokenFinder {
  readonly #found = new Map<string, { readonly token: AddedToken; readonly id: number }>();
  readonly #pattern: RegExp | null;
  readonly #skipSpecial: boolean;

  /**
   * `written` says how a token looks in the texts (its normalised form, or itself); with `skipSpecial`, special ones are
   * text like any other.
   */
  constructor(
    tokens: Iterable<{ readonly token: AddedToken; readonly id: number }>,
    {
      written,
      skipSpecial,
    }: { readonly written: (content: string) => string; readonly skipSpecial: boolean },
  ) {
    for (const entry of tokens) {
      const text = written(entry.token.content);
      if (text === "")
        throw unsupported(`nothing is left of added token ${entry.token.content} when normalised`);
      if (this.#found.has(text))
        throw unsupported(`two added tokens look like ${JSON.stringify(text)} when normalised`);
      this.#found.set(text, entry);
    }
    const longestFirst = [...this.#found.keys()].sort((a, b) => b.length - a.length);
    this.#pattern =
      longestFirst.length > 0 ? new RegExp(longestFirst.map(escapePattern).join("|"), "g") : null;
    this.#skipSpecial = skipSpecial;
  }

  split(text: string, first: boolean): Section[] {
    if (text === "") return [];
    if (this.#pattern === null) return [{ text, id: null, first }];
    const sections: Section[] = [];
    let from = 0;
    const rest = (end: number) => {
      if (from < end) sections.push({ text: text.slice(from, end), id: null, first: first && from === 0 });
    };
    for (const match of text.matchAll(this.#pattern)) {
      const { token, id } = this.#found.get(match[0])!;
      const end = match.index + match[0].length;
      if (this.#skipSpecial && token.special) continue;
      if (token.singleWord && touchesWord(text, match.index, end)) continue;
      const begin = token.lstrip ? Math.max(from, spaceBefore(text, match.index)) : match.index;
      rest(begin);
      sections.push({ text: match[0], id, first: false });
      from = token.rstrip ? spaceAfter(text, end) : end;
    }
    rest(text.length);
    return sections;
  }
}

const WORD_CHARACTER = new RegExp(`[${WORD}]`, "u");
const SPACE = new RegExp(WHITE_SPACE, "u");

function touchesWord(text: string, begin: number, end: number): boolean {
  const before = begin === 0 ? "" : String.fromCodePoint(codePointBefore(text, begin));
  const after = end === text.length ? "" : String.fromCodePoint(text.codePointAt(end)!);
  return WORD_CHARACTER.test(before) || WORD_CHARACTER.test(after);
}

function codePointBefore(text: string, index: number): number {
  const pair = index >= 2 ? text.codePointAt(index - 2)! : 0;
  return pair > 0xffff ? pair : text.charCodeAt(index - 1);
}

function spaceBefore(text: string, index: number): number {
  let begin = index;
  while (begin > 0 && SPACE.test(text[begin - 1]!)) begin--;
  return begin;
}

function spaceAfter(text: string, index: number): number {
  let end = index;
  while (end < text.length && SPACE.test(text[end]!)) end++;
  return end;
}
