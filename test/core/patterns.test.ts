import fc from "fast-check";
import { RE2JS } from "re2js";
import { describe, expect, it } from "vitest";
import type { Finding } from "../../src/core/errors.ts";
import {
  compilePathPart,
  compilePattern,
  compilePatternKey,
  limitPatterns,
} from "../../src/core/patterns.ts";

const silent = () => {};
/** Short names over few characters, so that they often match. */
const name = fc.string({ unit: fc.constantFrom("a", "b", ".", "_", "1", "\n"), maxLength: 7 });
const plainKey = fc.string({ unit: fc.constantFrom("a", "b", ".", "_", "1", "-"), maxLength: 4 });
const fullMatch = (pattern: string, text: string) => RE2JS.compile(pattern).matcher(text).matches();

describe("a key that is a plain name", () => {
  it("matches what the regular expression that PEFT makes of it matches", () => {
    fc.assert(
      fc.property(plainKey, name, (key, text) => {
        const expected = fullMatch(`(?:.*\\.)?(?:${key})`, text);
        expect(compilePatternKey(key, "rank_pattern", silent).matchesAll(text)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
  });

  it("of modules_to_save matches what PEFT's regular expression matches", () => {
    fc.assert(
      fc.property(plainKey, name, (key, text) => {
        const expected = fullMatch(`(?:.*\\.)?(?:${key})(?:\\..*)?`, text);
        expect(compilePathPart(key, "modules_to_save", silent).matchesAll(text)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
  });

  it("is compared quickly with many modules", () => {
    const keys = Array.from({ length: 2000 }, (_, i) => `model.layers.${i}.self_attn.q_proj`);
    const patterns = limitPatterns(keys, "rank_pattern", silent).map((key) =>
      compilePatternKey(key, "x", silent),
    );
    const start = performance.now();
    const found = keys.map((module) => patterns.findIndex((pattern) => pattern.matchesAll(module)));
    expect(found).toEqual(keys.map((_, i) => i));
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

describe("a pattern that would take long", () => {
  const reported = (pattern: string) => {
    const findings: Finding[] = [];
    compilePattern(pattern, "target_modules", (finding) => findings.push(finding));
    return findings.map(({ code, message }) => [code, message.length < 1000]);
  };
  it.each([
    ["by nested repetition", "((a{100}){100}){100}"],
    ["by its length", "a|".repeat(20_000)],
    ["by its depth", `${"(".repeat(4000)}a${")".repeat(4000)}`],
    ["by a look-ahead", "(?=a)b"],
    ["by a back-reference", "(a)\\1"],
  ])("%s is refused in few words", (_, pattern) => {
    expect(reported(pattern)).toEqual([["UNSUPPORTED_PATTERN", true]]);
  });

  it("by the number of its matches is given up", () => {
    const pattern = compilePattern(`(?:${"x?".repeat(2000)})`, "target_modules", silent);
    const match = () => {
      for (let i = 0; i < 10_000_000; i++) pattern.matchesAll("y".repeat(50_000));
    };
    expect(match).toThrow(expect.objectContaining({ code: "UNSUPPORTED_PATTERN" }));
  });

  it("by the number of regular expressions in one field is refused, and names are not counted", () => {
    const findings: Finding[] = [];
    const report = (finding: Finding) => findings.push(finding);
    const expressions = Array.from({ length: 201 }, (_, i) => `.*layer${i}`);
    expect(limitPatterns(expressions, "rank_pattern", report)).toEqual([]);
    expect(findings).toMatchObject([{ code: "UNSUPPORTED_PATTERN", subject: "rank_pattern" }]);
    const names = Array.from({ length: 5000 }, (_, i) => `layers.${i}.q_proj`);
    expect(limitPatterns(names, "rank_pattern", report)).toBe(names);
    expect(findings).toHaveLength(1);
  });
});
