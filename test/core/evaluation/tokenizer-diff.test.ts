import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { tokenizerDifferences } from "../../../src/core/evaluation/tokenizer-diff.ts";
import type { TokenizerContents } from "../../../src/core/tokenizer-json/contents.ts";
import { type AnyJson, filesOf, TOKENIZERS } from "../../support/tokenizer-fixtures.ts";

function contents(name: string): { json: Map<string, AnyJson>; templates: Map<string, string> } {
  const json = new Map<string, AnyJson>();
  const templates = new Map<string, string>();
  for (const [file, path] of filesOf(join(TOKENIZERS, name))) {
    const text = readFileSync(path, "utf8");
    if (file.endsWith(".json")) json.set(file, JSON.parse(text));
    else templates.set("default", text);
  }
  return { json, templates };
}

/** What a change to a candidate's files is found to be. */
function found(name: string, change: (tokenizer: AnyJson, all: ReturnType<typeof contents>) => void) {
  const candidate = contents(name);
  change(candidate.json.get("tokenizer.json"), candidate);
  return tokenizerDifferences(contents(name), candidate as TokenizerContents);
}

const nothing = (name: string, change: Parameters<typeof found>[1]) =>
  expect(found(name, change)).toEqual([]);

describe("a candidate's tokenizer is the recipe's", () => {
  it.each(["qwen", "unigram"])("after save_pretrained of transformers (%s)", (name) => {
    const [before, after] = [contents(name), contents(`resaved/${name}`)];
    expect(after.json.get("tokenizer.json")).not.toEqual(before.json.get("tokenizer.json"));
    expect(after.json.get("tokenizer_config.json")).not.toEqual(before.json.get("tokenizer_config.json"));
    expect(tokenizerDifferences(before, after)).toEqual([]);
    expect(tokenizerDifferences(after, before)).toEqual([]);
  });

  it("where nothing but the writing differs", () => {
    nothing("llama3", (t) => {
      t.model.merges = t.model.merges.map((pair: string[]) => pair.join(" "));
      delete t.model.unk_token;
      delete t.model.byte_fallback;
      t.truncation = { max_length: 512, strategy: "LongestFirst", stride: 0, direction: "Right" };
      t.padding = { strategy: "BatchLongest", direction: "Left", pad_id: 0, pad_type_id: 0, pad_token: "x" };
    });
    nothing("metaspace", (t) => {
      t.pre_tokenizer.add_prefix_space = true;
      t.pre_tokenizer.str_rep = "▁";
    });
    nothing("llama3", (_, { json }) => {
      Object.assign(json.get("tokenizer_config.json"), {
        backend: "tokenizers",
        is_local: true,
        padding_side: "left",
      });
    });
  });

  it("where the template moved from the settings into a file, or lost the line end that Jinja drops", () => {
    nothing("qwen", (_, { json, templates }) => {
      templates.set("default", `${json.get("tokenizer_config.json").chat_template}\n`);
      delete json.get("tokenizer_config.json").chat_template;
    });
  });

  it("where saving wrote down a class's default tokens, which the vocabulary has", () => {
    nothing("added", (t, { json }) => {
      json.get("tokenizer_config.json").unk_token = "a";
      t.added_tokens.push({ id: t.model.vocab.a, content: "a", special: true, normalized: false });
    });
  });
});

describe("a candidate's tokenizer is another", () => {
  const cases: [string, string, Parameters<typeof found>[1], string, string][] = [
    [
      "two tokens exchanged",
      "llama3",
      (t) => {
        const { vocab } = t.model;
        [vocab.a, vocab.b] = [vocab.b, vocab.a];
      },
      "tokenizer.json: model.vocab",
      'token "a" is',
    ],
    [
      "a token lost",
      "bert",
      (t) => delete t.model.vocab["##a"],
      "tokenizer.json: model.vocab",
      'token "##a" is missing',
    ],
    [
      "a token more",
      "bert",
      (t) => (t.model.vocab.zzz = 999),
      "tokenizer.json: model.vocab",
      'token "zzz" is new',
    ],
    ["a score", "unigram", (t) => (t.model.vocab[50][1] -= 0.01), "tokenizer.json: model.vocab", "is 50,"],
    [
      "merges in another order",
      "llama3",
      (t) => t.model.merges.reverse(),
      "tokenizer.json: model.merges",
      "merge 0 is another",
    ],
    [
      "a merge more",
      "llama3",
      (t) => t.model.merges.push(["a", "b"]),
      "tokenizer.json: model.merges",
      "it has more merges",
    ],
    [
      "a setting of the model",
      "llama3",
      (t) => (t.model.ignore_merges = false),
      "tokenizer.json: model",
      "its model is",
    ],
    [
      "a normalizer",
      "qwen",
      (t) => (t.normalizer = null),
      "tokenizer.json: normalizer",
      'is none instead of {"type":"NFC"}',
    ],
    [
      "a pattern",
      "qwen",
      (t) => (t.pre_tokenizer.pretokenizers[0].pattern.Regex = "\\s"),
      "tokenizer.json: pre_tokenizer",
      "instead of",
    ],
    ["a decoder", "llama2", (t) => t.decoder.decoders.pop(), "tokenizer.json: decoder", "its decoder is"],
    [
      "no token before a text",
      "llama3",
      (t) => t.post_processor.processors.pop(),
      "tokenizer.json: post_processor",
      '{"after":[],"before":[]} instead of',
    ],
    [
      "an added token lost",
      "llama3",
      (t) => t.added_tokens.splice(1, 1),
      "tokenizer.json: added_tokens",
      'added token "<|end_of_text|>" is missing',
    ],
    [
      "an added token more",
      "llama3",
      (t) => t.added_tokens.push({ id: t.added_tokens.at(-1).id + 1, content: "<x>", special: true }),
      "tokenizer.json: added_tokens",
      '"<x>" is new',
    ],
    [
      "an added token that strips",
      "llama3",
      (t) => (t.added_tokens[0].rstrip = true),
      "tokenizer.json: added_tokens",
      "has other settings",
    ],
    [
      "another end",
      "llama3",
      (_, { json }) => (json.get("tokenizer_config.json").eos_token = "<|end_of_text|>"),
      "tokenizer_config.json: eos_token",
      'is "<|end_of_text|>" instead of "<|eot_id|>"',
    ],
    [
      "split special tokens",
      "llama3",
      (_, { json }) => (json.get("tokenizer_config.json").split_special_tokens = true),
      "tokenizer_config.json: split_special_tokens",
      "is true",
    ],
    [
      "a token before a text, by the settings",
      "qwen",
      (_, { json }) => (json.get("tokenizer_config.json").add_bos_token = true),
      "tokenizer_config.json: add_bos_token",
      "is true instead of false",
    ],
  ];
  it.each(cases)("%s", (_, name, change, subject, why) => {
    const reasons = found(name, change);
    expect(reasons.map((reason) => reason.subject)).toContain(subject);
    const reason = reasons.find((one) => one.subject === subject)!;
    expect(reason).toMatchObject({ code: "TOKENIZER_DIFFERS", level: 0 });
    expect(reason.message).toContain(why);
  });

  it("has another chat template, and says from which line on", () => {
    const [reason, ...others] = found("gemma", (_, { templates }) => {
      templates.set(
        "default",
        templates.get("default")!.replace("<start_of_turn>model\n", "<start_of_turn>assistant\n"),
      );
    });
    expect(others).toEqual([]);
    expect(reason).toMatchObject({ code: "CHAT_TEMPLATE_DIFFERS", subject: "chat template: default" });
    expect(reason!.message).toMatch(/the template "default" is another from line \d+ on/);
  });

  it("lost its chat template, or has one that the recipe has not", () => {
    const [lost] = found("gemma", (_, { templates }) => void templates.clear());
    expect(lost!.message).toContain('the template "default" is missing');
    const [gained] = found("bert", (_, { templates }) => void templates.set("default", "x"));
    expect(gained).toMatchObject({ code: "CHAT_TEMPLATE_DIFFERS" });
    expect(gained!.message).toContain("is new");
  });

  it("cannot be understood, and says so", () => {
    expect(() => found("bert", (t) => (t.added_tokens[0].id = 77))).toThrow("is said to have id 77");
  });
});
