import { parse } from "graphql";
import { describe, expect, test } from "vitest";
import { readLayers } from "../../src/core/selection-text.ts";
import { describeAdapter } from "../../web/src/pages/adapter-facts.ts";
import { gateHint, gateOptions } from "../../web/src/pages/merge-gate.ts";
import { suggestOutput } from "../../web/src/pages/merge-name.ts";
import { choicesOf } from "../../web/src/pages/merge-options.tsx";
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

  test("say whose tokenizer, and name the request after the recipe", () => {
    const options = { tokenizer: "base" };
    expect(reproduceCli({ base: "/b", adapters: ["/a"], options })).toContain("--tokenizer base");
    const text = reproduceMutation({ base: "b/b", adapters: [], output: "o/m", options, key: "sha256:ab" });
    expect(() => parse(text)).not.toThrow();
    expect(text).toContain("tokenizer: BASE");
    expect(text).toContain('idempotencyKey: "again sha256:ab"');
  });

  test("say every choice of the recipe that is not a default, and none that is", () => {
    const options = {
      dtype: "F32",
      numerics: "exact-1",
      ties: "peft",
      include: { modules: ["q_proj", "v_proj"], layers: [0, 1] },
      exclude: { modules: ".*mlp.*", layers: null },
    };
    expect(reproduceCli({ base: "/b", adapters: ["/a"], options })).toBe(
      "npm run -s graftwork -- merge \\\n  --base /b \\\n  --adapter /a \\\n  --dtype fp32 \\\n  --numerics exact \\\n" +
        "  --ties peft \\\n  --include q_proj,v_proj \\\n  --include-layers 0,1 \\\n  --exclude-pattern '.*mlp.*' \\\n  --out merged",
    );
    const text = reproduceMutation({ base: "b/b", adapters: [], output: "o/m", options });
    expect(() => parse(text)).not.toThrow();
    expect(text).toContain(
      'choices: { dtype: F32, numerics: EXACT, ties: PEFT, include: { modules: ["q_proj","v_proj"], layers: [0,1] }, exclude: { pattern: ".*mlp.*" } }',
    );
    const plain = { dtype: null, numerics: "peft-1", ties: "preserve", include: null, exclude: null };
    expect(reproduceMutation({ base: "b/b", adapters: [], output: "o/m", options: plain })).not.toContain(
      "choices",
    );
  });
});

describe("the options of the merge form", () => {
  test("become the API's choices, and nothing where all are defaults", () => {
    expect(choicesOf({})).toBeUndefined();
    expect(
      choicesOf({ dtype: "F32", include: " q_proj , v_proj,", layers: "0-2,7", exclude: "lm_head" }),
    ).toEqual({
      dtype: "F32",
      include: { modules: ["q_proj", "v_proj"], layers: [0, 1, 2, 7] },
      exclude: { modules: ["lm_head"] },
    });
  });

  test.each(["a", "3-1", "1,,2", "0-99999"])("layers %j are not understood", (text) => {
    expect(readLayers(text)).toBeNull();
  });
});

describe("the gates that a merge may be evaluated under", () => {
  const gates = [
    { name: "default", description: "Thresholds by storage type." },
    null,
    { name: "demo/strict", description: "" },
  ];

  test("are offered by name, so that the newest version of each is taken", () => {
    expect(gateOptions(gates, "")).toEqual([
      { value: "default", text: "default" },
      { value: "demo/strict", text: "demo/strict" },
    ]);
  });

  test("include what the address names, whether it is listed or not", () => {
    expect(gateOptions(gates, "demo/strict").map(({ value }) => value)).toEqual(["default", "demo/strict"]);
    expect(gateOptions([], "demo/strict@1")).toEqual([{ value: "demo/strict@1", text: "demo/strict@1" }]);
  });

  test("say what they ask for, where that is known", () => {
    expect(gateHint(gates, "default")).toBe(
      "Thresholds by storage type. The evaluation follows by itself: base and adapter run beside the result.",
    );
    expect(gateHint(gates, "demo/strict")).toMatch(/^The evaluation/);
    expect(gateHint(gates, "")).toMatch(/^The evaluation/);
  });

  test("say nothing of the merge itself", () => {
    expect(choicesOf({ gate: "default" })).toBeUndefined();
  });
});

describe("an adapter in a few words", () => {
  test.each([
    [{ peft_type: "LORA", r: 8, lora_alpha: 16 }, "LORA, rank 8, alpha 16"],
    [
      { peft_type: "LORA", r: 8, use_dora: true, use_rslora: true },
      "LORA, rank 8, rank-stabilised, with magnitudes (DoRA)",
    ],
    [{ peft_type: "IA3", target_modules: ["k_proj"] }, "IA3"],
    [
      { peft_type: "LORA", r: 4, target_parameters: ["mlp.experts.down_proj"], modules_to_save: ["lm_head"] },
      "LORA, rank 4, also parameters mlp.experts.down_proj, and whole copies of lm_head",
    ],
    [{}, "of no stated kind"],
  ])("%j is %j", (config, text) => {
    expect(describeAdapter(config)).toBe(text);
  });
});
