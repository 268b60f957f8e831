import { describe, expect, it } from "vitest";
import { BUILTIN_TEXTS } from "../../../src/core/evaluation/builtin-texts.ts";
import { parseTexts, promptsOf } from "../../../src/core/evaluation/texts.ts";

const texts = BUILTIN_TEXTS.documents.map((document) => ("text" in document ? document.text : ""));
/** Chinese and Japanese put no spaces between words; two of their characters count as one. */
const lengthOf = (text: string) =>
  Math.max(
    text.split(/\s+/).length,
    (text.match(/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/gu)?.length ?? 0) / 2,
  );

describe("the built-in texts", () => {
  it("are 64 different documents of 60 to 200 words, without space around them", () => {
    expect(new Set(texts).size).toBe(64);
    const wrong = texts.filter((text) => lengthOf(text) < 60 || lengthOf(text) > 200 || text !== text.trim());
    expect(wrong.map((text) => `${lengthOf(text)} ${text.slice(0, 40)}`)).toEqual([]);
  });

  it("have a fixed digest: another one would be another text set, under another name", () => {
    expect(BUILTIN_TEXTS.name).toBe("built-in texts 1");
    expect(BUILTIN_TEXTS.digest).toBe(
      "sha256:2236a30a3664a86a87a54a8d4f3c4a930568d2f3a9287fdb85ca5c89a68fdfe7",
    );
  });

  it("can be written down as JSON Lines and read again", () => {
    const jsonl = BUILTIN_TEXTS.documents.map((document) => JSON.stringify(document)).join("\n");
    expect(parseTexts("copy", jsonl).digest).toBe(BUILTIN_TEXTS.digest);
  });

  it("are mixed from the beginning: prose, dialogue, a program, data, another language", () => {
    expect(texts.slice(0, 5).map((text) => text.slice(0, 12))).toEqual([
      "The ferry le",
      "User: My lap",
      "def merge_in",
      '{\n  "id": "t',
      "Als der Zug ",
    ]);
  });

  it("begin with prompts that end in a word", () => {
    const prompts = promptsOf(BUILTIN_TEXTS, 8);
    expect(prompts).toHaveLength(8);
    for (const [i, prompt] of prompts.entries()) {
      expect(texts[i]!.startsWith(prompt)).toBe(true);
      expect(prompt).toBe(prompt.trimEnd());
      expect(prompt.length).toBeLessThan(texts[i]!.length);
    }
  });
});
