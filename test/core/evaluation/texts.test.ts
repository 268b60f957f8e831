import { describe, expect, it } from "vitest";
import {
  parsePrompts,
  parseTasks,
  parseTexts,
  promptsOf,
  TEXT_LIMITS,
  textSet,
} from "../../../src/core/evaluation/texts.ts";

const lines = (...values: unknown[]) => values.map((value) => JSON.stringify(value)).join("\n");

describe("parseTexts", () => {
  it("reads texts and conversations, one on each line, and leaves out blank lines", () => {
    const messages = [
      { role: "user", content: "Hello" },
      { role: "assistant", content: "" },
    ];
    const set = parseTexts(
      "t.jsonl",
      `\uFEFF${lines({ text: " One.\n" })}\r\n\n  \n${lines({ messages })}\n`,
    );
    expect(set.name).toBe("t.jsonl");
    expect(set.documents).toEqual([{ text: " One.\n" }, { messages }]);
  });

  it("has a digest of the documents, not of the file's spacing or name", () => {
    const one = parseTexts("a", '{"text":"x"}\n{"text":"y"}');
    expect(parseTexts("b", '\n{ "text" : "\\u0078" }\n{"text":"y"}\n').digest).toBe(one.digest);
    expect(parseTexts("a", '{"text":"y"}\n{"text":"x"}').digest).not.toBe(one.digest);
    expect(textSet("c", [{ text: "x" }, { text: "y" }]).digest).toBe(one.digest);
  });

  it.each([
    ["", "there is no line with a JSON object"],
    ["\n\n", "there is no line with a JSON object"],
    ['{"text":"a"}\n{"text":', "line 2: this is not JSON"],
    ["[1]", "line 1: this is JSON, but not an object"],
    ['{"text":"a"}\n\n{"prompt":"b"}', "line 3: it has the fields prompt"],
    ['{"text":"a","id":1}', "line 1: it has the fields text, id"],
    ["{}", "line 1: it has no fields"],
    ['{"text":"  \\n"}', "line 1: text is empty"],
    ['{"text":7}', "line 1: text must be a string"],
    ['{"text":"\\ud83d"}', "line 1: text holds half of a surrogate pair"],
    ['{"messages":[]}', "line 1: messages must be a list"],
    ['{"messages":[{"role":"user"}]}', "line 1: messages[0].content must be a string"],
    ['{"messages":[{"role":"","content":""}]}', "line 1: messages[0].role must be a string"],
    ['{"messages":[{"role":"user","content":"a","name":"b"}]}', "line 1: messages[0] has a field name"],
    [`{"text":${"[".repeat(200)}`, "line 1: it nests deeper"],
  ])("refuses %j", (jsonl, why) => {
    expect(() => parseTexts("t.jsonl", jsonl)).toThrow(`t.jsonl: ${why}`);
    expect(() => parseTexts("t.jsonl", jsonl)).toThrow(expect.objectContaining({ code: "BAD_TEXTS" }));
  });

  it("refuses more documents, longer ones and larger files than an evaluation can run", () => {
    const many = Array.from({ length: TEXT_LIMITS.documents + 1 }, (_, i) => ({ text: `${i}` }));
    expect(() => parseTexts("t", lines(...many))).toThrow(`line ${TEXT_LIMITS.documents + 1}: more than`);
    const long = "x".repeat(TEXT_LIMITS.documentLength + 1);
    expect(() => parseTexts("t", lines({ text: long }))).toThrow("line 1: text has 2000001 characters");
    expect(() => parseTexts("t", " ".repeat(TEXT_LIMITS.length + 1))).toThrow("the limit is 32000000");
    const messages = Array.from({ length: 1001 }, () => ({ role: "user", content: "a" }));
    expect(() => parseTexts("t", lines({ messages }))).toThrow("1001 messages");
  });
});

describe("what stands twice", () => {
  it("is refused by both lines in texts, tasks and prompts: it would count as two that are independent", () => {
    const says = "line 3: it says the same as line 1, and would count twice";
    const texts = '{"text":"a b"}\n{"text":"c"}\n{ "text": "a\\u0020b" }\n';
    expect(() => parseTexts("t", texts)).toThrow(`t: ${says}`);
    const task = { prompt: "a", expected: "b" };
    expect(() => parseTasks("t", lines(task, { ...task, expected: "c" }, task))).toThrow(`t: ${says}`);
    expect(() => parsePrompts("t", lines({ prompt: "a" }, { prompt: "b" }, { prompt: "a" }))).toThrow(says);
  });
});

describe("parsePrompts", () => {
  it.each([
    ["a NUL", lines({ prompt: "a" }, { prompt: "x\0y" }), "line 2: prompt holds NUL"],
    ["20,001 characters", lines({ prompt: "x".repeat(20_001) }), "line 1: prompt has 20001 characters"],
    [
      "201 prompts",
      lines(...Array.from({ length: 201 }, (_, i) => ({ prompt: `${i}` }))),
      "it has 201 prompts, the limit is 200",
    ],
  ])("refuses %s, by its line", (_, jsonl, why) => {
    expect(() => parsePrompts("p.jsonl", jsonl)).toThrow(`p.jsonl: ${why}`);
  });
});

describe("parseTasks", () => {
  it("reads prompts with their labels", () => {
    const set = parseTasks("tasks", lines({ prompt: "1+1=", expected: "2" }, { expected: "b", prompt: "a" }));
    expect(set.examples).toEqual([
      { prompt: "1+1=", expected: "2" },
      { prompt: "a", expected: "b" },
    ]);
    expect(set.digest).not.toBe(parseTasks("tasks", lines({ prompt: "1+1=", expected: "3" })).digest);
  });

  it.each([
    ['{"prompt":"a"}', "line 1: expected must be a string"],
    ['{"prompt":"a","expected":""}', "line 1: expected is empty"],
    ['{"prompt":"a","expected":"b","label":"c"}', "line 1: it has a field label"],
  ])("refuses %j", (jsonl, why) => {
    expect(() => parseTasks("tasks", jsonl)).toThrow(`tasks: ${why}`);
    expect(() => parseTasks("tasks", jsonl)).toThrow(expect.objectContaining({ code: "BAD_TASKS" }));
  });
});

describe("promptsOf", () => {
  it("cuts texts between words and leaves the space to the model", () => {
    const words = Array.from({ length: 60 }, (_, i) => `w${i}`).join(" ");
    const documents = [
      { text: words },
      { messages: [{ role: "user", content: "a" }] },
      { text: "only  a few\nwords" },
      { text: "never reached" },
    ];
    const prompts = promptsOf({ documents }, 2);
    expect(prompts[0]).toBe(Array.from({ length: 20 }, (_, i) => `w${i}`).join(" "));
    expect(prompts[1]).toBe("only  a few\nwords");
    expect(prompts).toHaveLength(2);
  });
});
