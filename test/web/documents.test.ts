import { readFileSync } from "node:fs";
import { buildSchema, parse, validate } from "graphql";
import { describe, expect, test } from "vitest";
import type { Document } from "../../src/client/document.ts";
import * as documents from "../../web/src/documents.ts";
import * as evaluations from "../../web/src/evaluation-documents.ts";
import { compareTypes } from "../support/compare-types.ts";
import { documentTypes } from "../support/document-types.ts";

const schema = buildSchema(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));
const files = { documents, "evaluation-documents": evaluations };
const all = Object.values(files)
  .flatMap((file) => Object.entries(file))
  .map(([name, value]): [string, Document<unknown, never>] => [name, value]);

describe("what the console asks for", () => {
  test.each(all)("%s is valid against schema.graphql", (_, document) => {
    expect(validate(schema, parse(document.text)).map((error) => error.message)).toEqual([]);
  });

  test.each(Object.entries(files))(
    "every answer in %s.ts has the type that is written there, with every null",
    async (name, file) => {
      const lines = Object.entries(file).flatMap(([name, { text }]) => {
        const { result, variables } = documentTypes(schema, parse(text));
        return [
          `fits<ResultOf<typeof documents.${name}>, ${result}>(); // answers of ${name} fit the type`,
          `fits<${variables}, VariablesOf<typeof documents.${name}>>(); // variables of ${name} are accepted`,
        ];
      });
      expect(await compareTypes(`console-${name}`, `web/src/${name}.ts`, lines)).toBe("");
    },
  );

  test("every operation has a name of its own, so that logs tell them apart", () => {
    const names = all.map(([, { name }]) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => name.startsWith("Console"))).toBe(true);
  });
});
