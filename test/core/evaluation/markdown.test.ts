import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { codeSpan, escapeMarkdown, renderMarkdown } from "../../../src/core/evaluation/markdown.ts";
import { exampleLogits, exampleReport, exampleUnjudged } from "../../support/example-report.ts";

describe("the summary for a model card", () => {
  it("has verdict, gate, numbers with bounds, floor, what was not measured, and digests", () => {
    const report = exampleReport({ tasks: null });
    const lines = renderMarkdown(report).split("\n");
    expect(lines).toContain("### Parity: ✓ PASSED");
    expect(lines).toContain(
      "`acme/support-merged@2` against `acme/support@7` on `acme/llama-1b@3`, un-merged, under the gate `default@1` for BF16.",
    );
    expect(lines).toContain("| 2 | mean KLD, nats | 1.1e-5 ± 0.2e-5 | 7.2e-6 to 1.54e-5 | ≤ 1e-3 |");
    expect(lines).toContain(
      "| 2 | same most likely token | 99.81 % ± 0.04 % | 99.71 % to 99.88 % | ≥ 99 % |",
    );
    expect(lines).toContain("- Level 4 (tasks) was not measured: no labelled set was given.");
    expect(lines).toContain(`- Candidate: \`${report.candidate.version}\``);
    expect(lines).toContain(`- Gate: \`${report.gateDigest}\``);
    expect(lines.join("\n")).toContain("The candidate's mean KLD: 3.2× the noise floor.");
    expect(lines.length).toBeLessThan(40);
  });

  it("says why it FAILED, and that a number the gate asks for was not measured", () => {
    const failed = exampleReport({ logits: { ...exampleLogits(), nonFiniteLogits: 3 } });
    expect(renderMarkdown(failed)).toContain(
      "- **NON\\_FINITE\\_LOGITS**: 3 logits of the candidate are NaN or infinite; none may be.",
    );
    const open = renderMarkdown(
      exampleReport({ logits: null, logitsSkipped: "no texts were given.", text: null }),
    );
    expect(open).toContain("### Parity: ? INCONCLUSIVE");
    expect(open).toContain("|  | mean KLD, nats | not measured | – | ≤ 1e-3 |");
    expect(open).toContain("- Level 2 (logits) was not measured: no texts were given.");
  });

  it("stays short where there are many reasons", () => {
    const checks = Array.from({ length: 40 }, (_, i) => ({
      level: 0 as const,
      name: `c${i}`,
      passed: false,
      detail: "no.",
    }));
    expect(renderMarkdown(exampleReport({ checks }))).toContain("- 28 more in the report");
  });

  it("keeps hostile names in code and out of tables", () => {
    const { candidate } = exampleUnjudged();
    const label = "a`b | [x](https://evil.example) <b>\n# big";
    const lines = renderMarkdown(exampleReport({ candidate: { ...candidate, label } })).split("\n");
    expect(lines).toContainEqual(
      expect.stringContaining("``a`b | [x](https://evil.example) <b> # big`` against"),
    );
    expect(lines.filter((line) => line.startsWith("#"))).toHaveLength(1);
    expect(
      lines.filter((line) => line.startsWith("|")).every((line) => line.match(/(?<!\\)\|/g)!.length === 6),
    ).toBe(true);
  });
});

describe("escaping", () => {
  it.each([
    ["a_b*c`d|e", "a\\_b\\*c\\`d\\|e"],
    ["[x](y) ![z](w)", "\\[x\\](y) !\\[z\\](w)"],
    ["<img src=x> &amp;", "&lt;img src=x&gt; &amp;amp;"],
    ["# title", "\\# title"],
    ["- item", "\\- item"],
    ["1. item", "1\u2060. item"],
    ["1e-5 - 2", "1e-5 - 2"],
    ["two\nlines", "two lines"],
    [
      "see https://evil.example or www.evil.example or a@b.example",
      "see https:\u2060//evil.example or w\u2060ww.evil.example or a@\u2060b.example",
    ],
    ["a\u202eb", "a⟨U+202E⟩b"],
  ])("takes %j for text", (text, escaped) => {
    expect(escapeMarkdown(text)).toBe(escaped);
  });

  it("leaves no character with a meaning, whatever the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const escaped = escapeMarkdown(text).replace(/\\[\\`*_{}[\]|~$#+=-]/g, "");
        expect(escaped).not.toMatch(/[\\`*_{}[\]|~$<>\n\r]|&(?!amp;|lt;|gt;)/);
      }),
    );
  });

  it("closes code with the fence that opened it, and with no other", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("`", "a", " ", "\n", "|") }), (text) => {
        const span = codeSpan(text);
        const fence = /^`+/.exec(span)![0];
        expect(span.endsWith(fence)).toBe(true);
        const inner = span.slice(fence.length, -fence.length);
        expect([...inner.matchAll(/`+/g)].map((run) => run[0])).not.toContain(fence);
        expect(inner).not.toMatch(/^`|`$|\n/);
      }),
    );
  });
});
