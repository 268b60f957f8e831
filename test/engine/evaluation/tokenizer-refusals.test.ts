import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TextTokenizer } from "../../../src/engine/evaluation/tokenizer.ts";
import { type AnyJson, changed, filesOf, TOKENIZERS } from "../../support/tokenizer-fixtures.ts";

const opened = async (name: string, change: (tokenizer: AnyJson, files: Record<string, AnyJson>) => void) =>
  TextTokenizer.open(await changed(name, (files) => change(files["tokenizer.json"], files)));

describe("a tokenizer that might give other ids is refused by name", () => {
  const cases: [string, string, (tokenizer: AnyJson, files: Record<string, AnyJson>) => void, string][] = [
    [
      "a charsmap of sentencepiece",
      "unigram",
      (t) => (t.normalizer = { type: "Precompiled", precompiled_charsmap: "" }),
      "normalizer Precompiled",
    ],
    [
      "an unknown pre-tokenizer",
      "bert",
      (t) => (t.pre_tokenizer = { type: "UnicodeScripts" }),
      "pre-tokenizer UnicodeScripts",
    ],
    [
      "an unknown decoder",
      "bert",
      (t) => (t.decoder = { type: "CTC", pad_token: "", word_delimiter_token: "", cleanup: true }),
      "decoder CTC",
    ],
    [
      "an unknown post-processor",
      "bert",
      (t) => (t.post_processor = { type: "Other" }),
      "post-processor Other",
    ],
    [
      "a model of whole words",
      "bert",
      (t) => (t.model = { type: "WordLevel", vocab: {}, unk_token: "" }),
      "model WordLevel",
    ],
    [
      "an unknown setting",
      "bert",
      (t) => (t.normalizer.fold = true),
      'normalizer BertNormalizer has the setting "fold"',
    ],
    ["an unknown field", "bert", (t) => (t.extra = 1), 'has the field "extra"'],
    ["merges dropped at random", "llama3", (t) => (t.model.dropout = 0.1), "drops merges at random"],
    [
      "marked ends of words",
      "llama3",
      (t) => (t.model.end_of_word_suffix = "</w>"),
      "marks the insides or ends of words",
    ],
    [
      "a missing byte",
      "llama2",
      (t) => {
        t.model.vocab["<0xZZ>"] = t.model.vocab["<0xFF>"];
        delete t.model.vocab["<0xFF>"];
      },
      "lacks <0xFF>",
    ],
    ["bytes in Unigram", "unigram", (t) => (t.model.byte_fallback = true), "Unigram falls back to bytes"],
    [
      "a first word after a normalizer",
      "metaspace",
      (t) => (t.normalizer = { type: "NFC" }),
      "prepends to the first word only",
    ],
    [
      "a possessive quantifier",
      "qwen",
      (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "\\s++$|\\S+"),
      "uses ++",
    ],
    [
      "an atomic group",
      "qwen",
      (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "(?>a|ab)c"),
      "uses (?>",
    ],
    ["inline flags", "qwen", (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "(?m:.)"), "uses (?"],
    ["a reference", "qwen", (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "(a)\\1"), "uses \\1"],
    [
      "ligatures without case",
      "qwen",
      (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "(?i:straße|ss)"),
      "which ignores case",
    ],
    [
      "a broken pattern",
      "qwen",
      (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "a{2,1}("),
      "cannot be read",
    ],
    [
      "settings that classes disagree about",
      "bert",
      (_, files) => (files["tokenizer_config.json"].do_lower_case = false),
      "do_lower_case false",
    ],
    [
      "another prefix space",
      "qwen",
      (_, files) => (files["tokenizer_config.json"].add_prefix_space = true),
      "add_prefix_space true",
    ],
  ];
  it.each(cases)("%s", async (_, name, change, why) => {
    const refused = opened(name, change);
    await expect(refused).rejects.toThrow(why);
    await expect(refused).rejects.toMatchObject({ code: "UNSUPPORTED_TOKENIZER" });
    await expect(refused).rejects.toThrow(/tokenizer\.json: /);
  });
});

describe("a tokenizer.json that transformers would not load, or load as something else", () => {
  const cases: [string, string, (tokenizer: AnyJson) => void, string][] = [
    ["no model", "bert", (t) => delete t.model, "has no model"],
    [
      "a part without a type",
      "bert",
      (t) => delete t.normalizer.type,
      "normalizer is not an object with a type",
    ],
    ["two tokens with one id", "bert", (t) => (t.model.vocab["##zz"] = 7), "which is none or another's"],
    [
      "a merge of strangers",
      "llama3",
      (t) => t.model.merges.push(["zz", "qq"]),
      'uses "zz", which is not in the vocabulary',
    ],
    ["a merge that is none", "llama3", (t) => t.model.merges.push("a b c"), "is not a pair of tokens"],
    [
      "an added token with another id",
      "llama3",
      (t) => (t.added_tokens.at(-1).id = 900),
      "is said to have id 900",
    ],
    ["an unknown token that is not there", "bert", (t) => (t.model.unk_token = "[X]"), 'unknown token "[X]"'],
    [
      "a template without ids",
      "bert",
      (t) => (t.post_processor.special_tokens = {}),
      "without saying its ids",
    ],
    ["a flag that is none", "added", (t) => (t.added_tokens[1].lstrip = 1), '"lstrip" of added token <left>'],
  ];
  it.each(cases)("%s", async (_, name, change, why) => {
    const refused = opened(name, change);
    await expect(refused).rejects.toThrow(why);
    await expect(refused).rejects.toMatchObject({ code: "BAD_TOKENIZER" });
  });

  it("is named with what the parser says where it is no JSON", async () => {
    const files = await changed("bert", (all) => {
      all["tokenizer.json"] = '{"model":';
    });
    await expect(TextTokenizer.open(files)).rejects.toThrow(/tokenizer\.json is not valid JSON/);
    await expect(TextTokenizer.open(files)).rejects.toMatchObject({ code: "BAD_JSON" });
  });
});

describe("a missing tokenizer.json", () => {
  it("says how to write one where there is a slow tokenizer", async () => {
    const opening = TextTokenizer.open(new Map([["tokenizer.model", "/models/x/tokenizer.model"]]));
    await expect(opening).rejects.toThrow(
      /\/models\/x\/tokenizer\.model, but no tokenizer\.json.*AutoTokenizer\.from_pretrained\(DIR\)\.save_pretrained\(DIR\)/s,
    );
    await expect(opening).rejects.toMatchObject({ code: "TOKENIZER_MISSING" });
  });

  it("says what to copy where there is none at all", async () => {
    await expect(TextTokenizer.open(new Map())).rejects.toThrow(
      "neither the base nor the adapter ships a tokenizer",
    );
  });
});

describe("a text is refused where its ids cannot be promised", () => {
  const open = (name: string, rows?: number) =>
    TextTokenizer.open(filesOf(join(TOKENIZERS, name)), rows === undefined ? {} : { rows });

  it("half a surrogate pair", async () => {
    const tokenizer = await open("llama3");
    expect(() => tokenizer.encode("a\ud83d", { specialTokens: true })).toThrow("half of a surrogate pair");
  });

  it("a character that is newer than the tokenizers library's tables, if the chain asks for its class", async () => {
    const text = "new: \u{1fac8}";
    const byClass = await open("llama3");
    expect(() => byClass.encode(text, { specialTokens: true })).toThrow(/U\+1FAC8/);
    const byMark = await open("llama2");
    expect(byMark.decode(byMark.encode(text, { specialTokens: true }), { skipSpecial: true })).toBe(text);
  });

  it("a token beyond the rows of the embedding, with its name and id", async () => {
    const full = await open("llama3");
    const id = full.eos!;
    const small = await open("llama3", id);
    expect(small.encode("fine", { specialTokens: true })).toEqual(
      full.encode("fine", { specialTokens: true }),
    );
    expect(() => small.encode("<|eot_id|>", { specialTokens: true })).toThrow(
      `makes "<|eot_id|>" token ${id}, but the embedding has ${id} rows`,
    );
    expect(() => small.encode("<|eot_id|>", { specialTokens: true })).toThrow(
      expect.objectContaining({ code: "TOKEN_BEYOND_EMBEDDING" }),
    );
  });
});
