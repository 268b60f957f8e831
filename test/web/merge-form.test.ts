import { parse } from "graphql";
import { describe, expect, test } from "vitest";
import { suggestOutput } from "../../web/src/pages/merge-name.ts";
import { reproduceCli, reproduceMutation, shellQuote } from "../../web/src/pages/reproduce.ts";

describe("the name suggested for a merge", () => {
  test.each([
    ["demo/base@1", "demo/polite@2", "demo/base-polite"],
    ["meta/llama-3@12", "me/tone@1", "me/llama-3-tone"],
    ["", "me/tone@1", ""],
    ["demo/base@1", "", ""],
    ["@sha256:ab", "me/tone@1", ""],
  ])("of %j and %j is %j", (base, adapter, name) => {
    expect(suggestOutput(base, adapter)).toBe(name);
  });

  test("is never longer than a name may be", () => {
    const name = suggestOutput(`a/${"b".repeat(90)}`, `c/${"d".repeat(90)}`).split("/")[1]!;
    expect(name).toHaveLength(96);
  });
});

describe("the commands that reproduce a merge", () => {
  test("quote what a shell would touch, and nothing else", () => {
    expect(shellQuote("/models/llama-3_8b@v1.0")).toBe("/models/llama-3_8b@v1.0");
    expect(shellQuote("/my models/it's $HOME")).toBe(`'/my models/it'\\''s $HOME'`);
  });

  test("name base, adapter and a new folder", () => {
    expect(reproduceCli({ base: "/m/b", adapters: ["/m/a"] })).toBe(
      "npm run -s graftwork -- merge \\\n  --base /m/b \\\n  --adapter /m/a \\\n  --out merged",
    );
  });

  test("are one valid mutation, with the weights", () => {
    const text = reproduceMutation({
      base: "demo/base@1",
      adapters: [{ ref: "demo/a@1", weight: 0.5 }],
      output: "demo/m",
    });
    expect(() => parse(text)).not.toThrow();
    expect(text).toContain('{ version: { ref: "demo/a@1" }, weight: 0.5 }');
  });
});
