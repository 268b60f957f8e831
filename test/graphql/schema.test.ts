import { readFileSync } from "node:fs";
import {
  buildSchema,
  findBreakingChanges,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
} from "graphql";
import { describe, expect, it } from "vitest";
import { printed } from "../../src/graphql/print.ts";
import { schema } from "../../src/graphql/schema.ts";

const committed = readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8");

describe("schema.graphql", () => {
  it("is what the code says: run `npm run schema` after a change", () => {
    expect(printed()).toBe(committed);
  });

  it("can be read back and means the same", () => {
    expect(findBreakingChanges(buildSchema(committed), schema)).toEqual([]);
  });

  it("describes every type, field, argument, input field and enum value", () => {
    const bare: string[] = [];
    const check = (name: string, described: { description?: string | null | undefined }) => {
      if (!described.description) bare.push(name);
    };
    for (const [name, type] of Object.entries(schema.getTypeMap())) {
      if (name.startsWith("__")) continue;
      check(name, type);
      if (isEnumType(type)) for (const value of type.getValues()) check(`${name}.${value.name}`, value);
      if (isInputObjectType(type))
        for (const field of Object.values(type.getFields())) check(`${name}.${field.name}`, field);
      if (!isObjectType(type) && !isInterfaceType(type)) continue;
      for (const field of Object.values(type.getFields())) {
        check(`${name}.${field.name}`, field);
        for (const arg of field.args) check(`${name}.${field.name}(${arg.name}:)`, arg);
      }
    }
    expect(bare).toEqual([]);
  });

  it("gives every mutation a nullable result and a list of user errors", () => {
    for (const field of Object.values(schema.getMutationType()!.getFields())) {
      expect(String(field.type)).toBe(`${field.name[0]!.toUpperCase()}${field.name.slice(1)}Payload!`);
      const payload = schema.getType(String(field.type).slice(0, -1));
      if (!isObjectType(payload)) throw new Error(`${field.name} answers with no object`);
      const { userErrors, ...results } = payload.getFields();
      expect(String(userErrors?.type)).toBe("[UserError!]!");
      for (const result of Object.values(results)) expect(String(result.type)).not.toMatch(/!$/);
    }
  });

  it("says for every scalar of its own where it is specified", () => {
    for (const name of ["DateTime", "Sha256", "BigInt", "JSON"]) {
      expect(schema.getType(name)).toMatchObject({ specifiedByURL: expect.stringMatching(/^https:/) });
    }
  });
});
