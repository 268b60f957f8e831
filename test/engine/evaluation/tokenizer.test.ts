import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TextTokenizer } from "../../../src/engine/evaluation/tokenizer.ts";
import {
  type AnyJson,
  changed,
  DEMO_BASE,
  EXPECTED,
  filesOf,
  TOKENIZERS,
} from "../../support/tokenizer-fixtures.ts";

const open = (name: string) => TextTokenizer.open(filesOf(join(TOKENIZERS, name)));
const names = Object.keys(EXPECTED.tokenizers);

describe("a tokenizer gives what AutoTokenizer of transformers gives", () => {
  it.each(names)("%s: ids, with and without special tokens", async (name) => {
    const tokenizer = await open(name);
    const { texts } = EXPECTED.tokenizers[name]!;
    for (const [i, text] of EXPECTED.texts.entries()) {
      const { ids, plain = ids } = texts[i]!;
      expect([text, tokenizer.encode(text, { specialTokens: true })]).toEqual([text, ids]);
      expect([text, tokenizer.encode(text, { specialTokens: false })]).toEqual([text, plain]);
    }
  });

  it.each(names)("%s: decoded text, with and without special tokens", async (name) => {
    const tokenizer = await open(name);
    const { texts, mixed } = EXPECTED.tokenizers[name]!;
    for (const { ids, decoded, skipped = decoded } of texts) {
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(skipped);
    }
    expect(tokenizer.decode([...mixed.ids, 99_999], { skipSpecial: false })).toBe(mixed.decoded);
  });

  it.each(names)("%s: the ids of special tokens", async (name) => {
    const { bos, eos, pad } = await open(name);
    const { bos: b, eos: e, pad: p } = EXPECTED.tokenizers[name]!;
    expect({ bos, eos, pad }).toEqual({ bos: b, eos: e, pad: p });
  });

  it("has tried every kind of chain", () => {
    expect(EXPECTED.texts.length).toBeGreaterThan(20);
    expect(names).toEqual(["llama3", "qwen", "added", "llama2", "metaspace", "gemma", "bert", "unigram"]);
  });
});

describe("the demo model's tokenizer", () => {
  const { adapters } = JSON.parse(readFileSync(join(DEMO_BASE, "../behaviour.json"), "utf8"));

  it("gives the ids of the recorded prompts, and the text of the recorded completions", async () => {
    const tokenizer = await TextTokenizer.open(filesOf(DEMO_BASE));
    let seen = 0;
    for (const { prompts } of Object.values<AnyJson>(adapters)) {
      for (const { prompt, prompt_tokens, base, adapter, merged } of prompts) {
        expect(tokenizer.encode(prompt, { specialTokens: true })).toEqual(prompt_tokens);
        for (const { tokens, text } of [base, adapter, merged]) {
          expect(tokenizer.decode(tokens, { skipSpecial: true })).toBe(text);
          seen++;
        }
      }
    }
    expect(seen).toBeGreaterThan(30);
  });

  it("ends texts with the id of generation_config.json", async () => {
    const tokenizer = await TextTokenizer.open(filesOf(DEMO_BASE));
    expect(tokenizer.eosIds).toEqual([0]);
    const alone = new Map([["tokenizer.json", join(DEMO_BASE, "tokenizer.json")]]);
    expect((await TextTokenizer.open(alone)).eosIds).toEqual([]);
  });
});

describe("eosIds", () => {
  it("come from generation_config.json, else config.json, else the tokenizer", async () => {
    const generation = {
      "generation_config.json": { eos_token_id: [7, 9] },
      "config.json": { eos_token_id: 3 },
    };
    const from = async (files: object) =>
      (await TextTokenizer.open(await changed("llama3", (json) => Object.assign(json, files)))).eosIds;
    expect(await from(generation)).toEqual([7, 9]);
    expect(await from({ "generation_config.json": {}, "config.json": { eos_token_id: 3 } })).toEqual([3]);
    expect(await from({})).toEqual([EXPECTED.tokenizers.llama3!.eos]);
  });
});

describe("single tokens for people", () => {
  it("show spaces, bytes that are no text, special tokens and ids without a token", async () => {
    const llama3 = await open("llama3");
    const [first] = llama3.encode("🙂", { specialTokens: false });
    expect(llama3.token(first!)).toMatch(/^(<0x[0-9A-F]{2}>)+$/);
    expect(llama3.token(llama3.encode(" the", { specialTokens: false })[0]!)).toMatch(/^ /);
    expect(llama3.token(llama3.bos!)).toBe("<|begin_of_text|>");
    expect(llama3.token(12_345)).toBe("<id 12345>");
    const llama2 = await open("llama2");
    expect(
      llama2
        .encode("the", { specialTokens: false })
        .map((id) => llama2.token(id))
        .join(""),
    ).toBe(" the");
  });
});

describe("the digest of a tokenizer", () => {
  it("is that of what the files say, not of their spacing or the order of keys", async () => {
    const { digest } = await open("bert");
    const spaced = await changed("bert", (files) => {
      files["tokenizer_config.json"] = JSON.stringify(
        Object.fromEntries(Object.entries(files["tokenizer_config.json"]).reverse()),
        null,
        4,
      );
    });
    expect((await TextTokenizer.open(spaced)).digest).toBe(digest);
    const other = await changed("bert", (files) => {
      files["tokenizer.json"].model.vocab["##zzz"] = Object.keys(files["tokenizer.json"].model.vocab).length;
    });
    expect((await TextTokenizer.open(other)).digest).not.toBe(digest);
  });
});
