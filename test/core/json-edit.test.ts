import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Json } from "../../src/core/json.ts";
import { editJson } from "../../src/core/json-edit.ts";

describe("editing a JSON document", () => {
  it("changes one value and keeps every other byte, numbers of Python among them", () => {
    const text = '{\n  "a": 1e-05,\n  "softcap": 3.0,\n  "vocab_size": 128\n}\n';
    expect(editJson(text, [{ path: ["vocab_size"], value: 136 }])).toBe(text.replace("128", "136"));
  });

  it("adds a field at the end, printed as the others are", () => {
    expect(editJson('{\n  "a": 1\n}\n', [{ path: ["b"], value: [1, "x"] }])).toBe(
      '{\n  "a": 1,\n  "b": [\n    1,\n    "x"\n  ]\n}\n',
    );
    expect(editJson('{"a":1}', [{ path: ["b"], value: false }])).toBe('{"a":1,"b":false}');
    expect(editJson("{}", [{ path: ["b"], value: null }])).toBe('{"b": null}');
  });

  it("reaches into objects, past braces and quotes in text", () => {
    const text = '{"x": "}\\"{", "list": [{"in": "]"}, 2], "text_config": {"n": 2, "n": 3}}';
    expect(editJson(text, [{ path: ["text_config", "n"], value: 4 }])).toBe(text.replace('"n": 3', '"n": 4'));
  });

  it("gives what changing the parsed document gives, for any document", () => {
    const name = fc.constantFrom("a", 'b"', "{", "text_config", "\\", "\n");
    const document = fc.dictionary(name, fc.jsonValue({ maxDepth: 3 }));
    const space = fc.constantFrom(0, 1, 2, "\t");
    fc.assert(
      fc.property(document, name, fc.jsonValue({ maxDepth: 2 }), space, (before, field, value, indent) => {
        const text = JSON.stringify(before, null, indent);
        const after = JSON.parse(editJson(text, [{ path: [field], value: value as Json }]));
        expect(after).toEqual(JSON.parse(JSON.stringify({ ...before, [field]: value })));
      }),
    );
  });
});
