import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { buildSchema, parse, validate } from "graphql";
import { describe, expect, it } from "vitest";
import type { Document } from "../../src/client/document.ts";
import * as documents from "../../src/client/documents.ts";
import * as serving from "../../src/client/serving-documents.ts";
import { compareTypes } from "../support/compare-types.ts";
import { documentTypes } from "../support/document-types.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const DOCUMENTS = "src/client/documents.ts";
const schema = buildSchema(await readFile(join(ROOT, "schema.graphql"), "utf8"));
const files: Record<string, object> = { documents, "serving-documents": serving };
const entriesOf = (file: object) => Object.entries(file as Record<string, Document<unknown, unknown>>);

describe("the documents of the client", () => {
  it.each(Object.values(files).flatMap(entriesOf))("%s fits schema.graphql", (_, document) => {
    expect(validate(schema, parse(document.text)).map(({ message }) => message)).toEqual([]);
    expect(parse(document.text).definitions[0]).toMatchObject({
      operation: document.kind,
      name: { value: document.name },
    });
  });

  describe("have the types that the schema gives them", () => {
    it.each(Object.entries(files))("field by field, with every null: %s.ts", async (name, file) => {
      const lines = entriesOf(file).flatMap(([name, document]) => {
        const { result, variables } = documentTypes(schema, parse(document.text));
        return [
          `fits<ResultOf<typeof documents.${name}>, ${result}>(); // answers of ${name} fit the type`,
          `fits<${result}, ResultOf<typeof documents.${name}>>(); // the type of ${name} promises no more`,
          `fits<${variables}, VariablesOf<typeof documents.${name}>>(); // variables of ${name} are accepted`,
        ];
      });
      expect(await compareTypes(name, `src/client/${name}.ts`, lines)).toBe("");
    });

    it("and a wrong one would be noticed", async () => {
      const { result, variables } = documentTypes(schema, parse(documents.jobQuery.text));
      const wrong = [
        `fits<ResultOf<typeof documents.jobQuery>, ${result.replace('readonly kind: "IMPORT_VERSION"', "readonly kind: null")}>();`,
        `fits<ResultOf<typeof documents.viewerQuery>, ${result}>();`,
        `fits<${variables.replace("string", "number")}, VariablesOf<typeof documents.jobQuery>>();`,
      ];
      const found = await compareTypes("wrong", DOCUMENTS, wrong);
      expect(found.match(/^\S.*: error TS/gm)).toHaveLength(wrong.length);
    });
  });
});

describe("the client", () => {
  it("runs in a browser: it imports nothing of Node", async () => {
    const files = ["index", "document", "documents", "serving-documents", "failure", "follow", "types"];
    for (const file of files) {
      const text = await readFile(join(ROOT, "src", "client", `${file}.ts`), "utf8");
      expect(text).not.toMatch(/from "(node:|ws|graphql")|\bprocess\.|\bBuffer\b|\brequire\(/);
    }
  });
});
