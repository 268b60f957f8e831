import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { renderChat } from "../../../src/engine/evaluation/chat-template.ts";
import { TextTokenizer } from "../../../src/engine/evaluation/tokenizer.ts";
import { changed, EXPECTED, filesOf, type Rendered, TOKENIZERS } from "../../support/tokenizer-fixtures.ts";

const open = (name: string) => TextTokenizer.open(filesOf(join(TOKENIZERS, name)));
const hello = [{ role: "user", content: "Hello" }];
const render = (template: string, date?: string) =>
  renderChat(template, {
    messages: hello,
    addGenerationPrompt: false,
    names: { bos_token: "<s>" },
    ...(date !== undefined && { date }),
  });

describe("a conversation is written as apply_chat_template of transformers writes it", () => {
  const templates: [string, string][] = [
    ["ChatML", "qwen"],
    ["Llama 3, with a date", "llama3"],
    ["Mistral, the default of several named ones", "llama2"],
    ["Gemma, in a file of its own", "gemma"],
  ];
  it.each(templates)("%s", async (_, name) => {
    const tokenizer = await open(name);
    const { chats } = EXPECTED.tokenizers[name]!;
    const write = (
      messages: (typeof EXPECTED.conversations)[number],
      addGenerationPrompt: boolean,
    ): Rendered => {
      try {
        return { text: tokenizer.chat(messages, { addGenerationPrompt }) };
      } catch (error) {
        return { error: (error as Error).message };
      }
    };
    let raised = 0;
    for (const [i, messages] of EXPECTED.conversations.entries()) {
      for (const [prompt, rendered] of [false, true].map((flag, k) => [flag, chats![i]![k]!] as const)) {
        const got = write(messages, prompt);
        if (rendered.error === undefined) expect(got).toEqual(rendered);
        else {
          expect(got.error).toContain(rendered.error);
          raised++;
        }
      }
    }
    // The alternation of roles is checked by the last two.
    expect(raised > 0).toBe(name === "llama2" || name === "gemma");
  });

  it("keeps a message's own braces as they are", async () => {
    const tokenizer = await open("qwen");
    const text = tokenizer.chat([{ role: "user", content: "{{ bos_token }} {% if %}" }], {
      addGenerationPrompt: true,
    });
    expect(text).toContain("{{ bos_token }} {% if %}<|im_end|>");
  });
});

describe("what a template is told", () => {
  it("is the special tokens by name, no tools, and a day that is always the same unless it is given", () => {
    expect(render("{{ bos_token }}|{{ eos_token }}|{{ tools is none }}|{{ documents is none }}")).toBe(
      "<s>||True|True",
    );
    expect(render("{{ strftime_now('%d %b %Y, %A') }}")).toBe("26 Jul 2024, Friday");
    expect(render("{{ strftime_now('%Y-%m-%d %H:%M %B %-d %j %p %%') }}", "2025-03-04")).toBe(
      "2025-03-04 00:00 March 4 063 AM %",
    );
  });

  it("is not more than 100,000 numbers of range()", () => {
    expect(render("{% for i in range(1, 8, 3) %}{{ i }},{% endfor %}{{ range(3) | length }}")).toBe(
      "1,4,7,3",
    );
    expect(() => render("{{ range(1000000000) | length }}")).toThrow("range() of 1000000000 numbers");
  });
});

describe("a template that does not work out", () => {
  it("fails with its own words, and with what to do", () => {
    const failing = () => render("{{ raise_exception('Only one system message!') }}");
    expect(failing).toThrow("the chat template refuses this conversation: Only one system message!");
    expect(failing).toThrow(expect.objectContaining({ code: "CHAT_TEMPLATE_FAILED" }));
    expect(() => render("{% for %}")).toThrow(expect.objectContaining({ code: "CHAT_TEMPLATE_FAILED" }));
    expect(() => render("{{ strftime_now('%Q') }}")).toThrow("%Q, which is not known here");
  });

  it("is missing by name", async () => {
    const none = await open("bert");
    expect(none.hasChatTemplate).toBe(false);
    expect(() => none.chat(hello, { addGenerationPrompt: false })).toThrow(
      expect.objectContaining({ code: "CHAT_TEMPLATE_MISSING" }),
    );
    const named = await TextTokenizer.open(
      await changed("bert", (files) => {
        files["tokenizer_config.json"].chat_template = [{ name: "tool_use", template: "x" }];
      }),
    );
    expect(() => named.chat(hello, { addGenerationPrompt: false })).toThrow("only templates called tool_use");
  });

  it("is refused where it is neither a text nor a list", async () => {
    const files = await changed("bert", (all) => {
      all["tokenizer_config.json"].chat_template = [{ name: "default" }];
    });
    await expect(TextTokenizer.open(files)).rejects.toMatchObject({ code: "BAD_TOKENIZER" });
  });
});

describe("a template says what Jinja2 says, not what JavaScript would", () => {
  it.each([
    [
      "{{ ' x\n'.rstrip('\n') }}|{{ 'xxaxx'.strip('x') }}|{{ 'xxaxx' .lstrip('x') }}|{{ '\n a'.lstrip('\n') }}",
      " x|a|axx| a",
    ],
    ["{{ ' \u001c\u0085a\ufeff ' | trim }}", "a\ufeff"],
    ["{{ 'hELLO wORLD'.capitalize() }} {{ 'hELLO wORLD' | title }}", "Hello world Hello World"],
    ["{{ true }}{{ none }}{{ 1 == 1 and false }}{{ nothing }}{{ 'a' in ['a'] }}", "TrueNoneFalseTrue"],
    ["{{ 1 ~ true }}{{ false | string }}{{ none ~ 'x' }}", "1TrueFalseNonex"],
    ["{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(true) }}{{ m('a') }}", "[True][a]"],
    ["{{ {'a': none, 'b': [true, 1, 'é<']} | tojson }}", '{"a": null, "b": [true, 1, "é<"]}'],
  ])("%j", (template, text) => {
    expect(render(template)).toBe(text);
  });

  it.each([
    ["{{ messages }}", "it writes a list or an object"],
    ["{{ 4 / 2 if true }}", "it writes a number that may be 2 or 2.0"],
    ["{{ [1] == [1] }}", "it compares with a list or an object"],
    ["{{ 5 | trim }}", "it uses trim on something that is no text"],
    ["{{ 'a' | wordcount }}", "wordcount"],
  ])("or is refused: %j", (template, why) => {
    expect(() => render(template)).toThrow(`the chat template cannot be run here: `);
    expect(() => render(template)).toThrow(why);
  });
});
