import { readFileSync } from "node:fs";
import { buildSchema, parse, validate } from "graphql";
import { describe, expect, test } from "vitest";
import type { Document } from "../../src/client/document.ts";
import * as documents from "../../web/src/documents.ts";

const schema = buildSchema(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));
const all = Object.entries(documents).map(([name, value]): [string, Document<unknown, never>] => [
  name,
  value,
]);

describe("what the console asks for", () => {
  test.each(all)("%s is valid against schema.graphql", (_, document) => {
    expect(validate(schema, parse(document.text)).map((error) => error.message)).toEqual([]);
  });

  test("every operation has a name of its own, so that logs tell them apart", () => {
    const names = all.map(([, { name }]) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.startsWith("Console"))).toBe(true);
  });
});
