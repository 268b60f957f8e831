import { buildSchema, getIntrospectionQuery, parse, specifiedRules, validate } from "graphql";
import { describe, expect, it } from "vitest";
import { versionQuery } from "../../src/client/documents.ts";
import { ANONYMOUS } from "../../src/core/permissions.ts";
import { LIMITS, limitRules } from "../../src/graphql/limits.ts";
import { schema } from "../../src/graphql/schema.ts";
import type { ViewerContext } from "../../src/registry/context.ts";
import { testApi } from "../support/graphql.ts";

/** What a document is refused for, before anything is executed. */
function refused(query: string): string[] {
  return validate(schema, parse(query), [...specifiedRules, ...limitRules(LIMITS)]).map(
    ({ extensions, message }) => String(extensions.limit ?? message),
  );
}

const repeat = (n: number, one: (i: number) => string) =>
  Array.from({ length: n }, (_, i) => one(i)).join(" ");

describe("the limits", () => {
  it("let through what the console, the command line and tools ask", () => {
    expect(refused(versionQuery.text)).toEqual([]);
    expect(refused(getIntrospectionQuery())).toEqual([]);
  });

  it("refuse an alias bomb", () => {
    const query = `{ ${repeat(1000, (i) => `a${i}: viewer { name }`)} }`;
    expect(refused(query)).toEqual(["root fields", "aliases"]);
    expect(refused(`{ viewer { ${repeat(31, (i) => `a${i}: name`)} } }`)).toEqual(["aliases"]);
  });

  it("refuse an alias bomb that is hidden in fragments", () => {
    const query = `{ viewer { ...A ...A ...A ...A } } fragment A on Account { ${repeat(10, (i) => `a${i}: name`)} }`;
    expect(refused(query)).toEqual(["aliases"]);
    const lol = repeat(20, (i) => `fragment F${i} on Account { ...F${i + 1} ...F${i + 1} }`);
    // Doubles twenty times: each is measured once, or this would take a million walks.
    const document = parse(`{ viewer { ...F0 } } ${lol} fragment F20 on Account { a: name }`);
    const began = performance.now();
    expect(validate(schema, document, limitRules(LIMITS))).toHaveLength(1);
    expect(performance.now() - began).toBeLessThan(100);
  });

  it("refuse depth, in the open and through fragments", () => {
    const nest = (n: number): string => (n === 0 ? "ref" : `parents(first: 1) { nodes { ${nest(n - 1)} } }`);
    expect(refused(`{ version(ref: "a/b") { ${nest(6)} } }`)).toEqual([]);
    expect(refused(`{ version(ref: "a/b") { ${nest(10)} } }`)).toContain("depth");
    const fragment = `fragment V on Version { ${nest(6)} }`;
    expect(
      refused(
        `{ version(ref: "a/b") { parents { nodes { ...V } } children { nodes { ...V } } } } ${fragment}`,
      ),
    ).toContain("depth");
  });

  it("refuse what could load too much, counting page sizes, also those in variables and fragments", () => {
    const nested = (first: string) =>
      `models(first: ${first}) { nodes { versions(first: ${first}) { nodes { files(first: ${first}) { nodes { path } } } } } }`;
    expect(refused(`{ ${nested("10")} }`)).toEqual([]);
    expect(refused(`{ ${nested("100")} }`)).toEqual(["cost"]);
    expect(refused(`query ($n: Int) { ${nested("$n")} }`)).toEqual(["cost"]);
    const hidden = `{ models(first: 100) { ...M } }
      fragment M on ModelConnection { nodes { versions { ...V } } }
      fragment V on VersionConnection { nodes { files { ...F } tensors { ...T } } }
      fragment F on FileConnection { nodes { path } } fragment T on TensorConnection { nodes { name } }`;
    expect(refused(hidden)).toEqual(["cost"]);
  });

  it("count a plan as the work that it is, however it is reached", () => {
    const plan = 'mergePlan(input: { base: { version: { ref: "a/b" } }, sources: [] }) { plan { runnable } }';
    const report = 'compatibility(base: { ref: "a/b" }) { compatible }';
    expect(refused(`{ version(ref: "a/b") { ${report} } ${plan} }`)).toEqual([]);
    expect(refused(`{ models(first: 10) { nodes { latestVersion { ${report} } } } }`)).toEqual([]);
    expect(refused(`{ models(first: 100) { nodes { latestVersion { ${report} } } } }`)).toEqual(["cost"]);
    expect(
      refused(`{ version(ref: "a/b") { ${repeat(50, () => `... on Version { a: ${report} }`)} } }`),
    ).toEqual(["aliases", "cost"]);
    const ids = repeat(60, () => '"x"');
    expect(refused(`{ nodes(ids: [${ids}]) { ... on Version { ${report} } } }`)).toEqual(["cost"]);
    expect(refused(`query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Version { ${report} } } }`)).toEqual([
      "cost",
    ]);
  });

  it("leave a cycle of fragments to the rule that names it", () => {
    const query = "{ viewer { ...A } } fragment A on Account { ...B } fragment B on Account { ...A }";
    expect(refused(query)).toEqual([expect.stringContaining("Cannot spread fragment")]);
  });

  it("hold for any schema: they need no type of ours", () => {
    const other = buildSchema("type Query { a: Query b: Int }");
    const deep = (n: number): string => (n === 0 ? "b" : `a { ${deep(n - 1)} }`);
    expect(validate(other, parse(`{ ${deep(20)} }`), limitRules(LIMITS))).toHaveLength(1);
  });
});

describe("the server", () => {
  // Nothing is executed, so nothing is needed.
  const nobody = { viewer: ANONYMOUS } as ViewerContext;

  it("answers a refused document with the limit, and counts tokens while it parses", async () => {
    const api = await testApi();
    const { errors } = await api.ask(nobody, `{ ${repeat(31, (i) => `a${i}: viewer { name }`)} }`);
    expect(errors[0]?.extensions).toMatchObject({ code: "LIMIT_EXCEEDED", limit: "root fields", most: 20 });
    const long = await api.ask(nobody, `{ viewer { ${"name ".repeat(5000)} } }`);
    expect(long.errors[0]?.extensions?.code).toBe("GRAPHQL_PARSE_FAILED");
    expect(long.errors[0]?.message).toContain("token");
    await api.apollo.stop();
  });

  it("tells nothing of its schema where introspection is off, not even by suggestions", async () => {
    const api = await testApi(false);
    const { errors } = await api.ask(nobody, "{ __schema { types { name } } }");
    expect(errors[0]?.extensions?.code).toBe("GRAPHQL_VALIDATION_FAILED");
    const typo = await api.ask(nobody, "{ viewr { name } }");
    expect(typo.errors[0]?.message).not.toContain("viewer");
    await api.apollo.stop();
  });
});
