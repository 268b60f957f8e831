import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { AppError } from "../../../src/core/errors.ts";
import { parseReport, printedReportSchema, reportJsonSchema } from "../../../src/core/evaluation/schema.ts";
import { exampleReport } from "../../support/example-report.ts";

const committed = readFileSync(new URL("../../../evaluation.schema.json", import.meta.url), "utf8");

/** Schemas within a schema that would let anything pass. */
function unconstrained(schema: unknown, path = "#"): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  const node = schema as Record<string, unknown>;
  const children = Object.entries((node.properties ?? {}) as object).concat(
    Object.entries((node.$defs ?? {}) as object),
  );
  const says = ["type", "$ref", "anyOf", "enum", "const"].some((key) => key in node);
  return [
    ...(says ? [] : [path]),
    ...children.flatMap(([key, child]) => unconstrained(child, `${path}/${key}`)),
    ...("items" in node && node.items !== false ? unconstrained(node.items, `${path}/items`) : []),
  ];
}

function refused(action: () => unknown): AppError {
  try {
    action();
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

describe("evaluation.schema.json", () => {
  it("is what the code says: run `npm run schema` after a change", () => {
    expect(printedReportSchema()).toBe(committed);
  });

  it("has a name and a title, and says the type of every field", () => {
    const schema = reportJsonSchema();
    expect(schema).toMatchObject({ $id: "urn:graftwork:evaluation:1", title: "Graftwork evaluation report" });
    expect(unconstrained(schema)).toEqual([]);
    expect(schema.$defs).toMatchObject({ Digest: { type: "string", pattern: "^sha256:[0-9a-f]{64}$" } });
    // Every field must be there and no other may be.
    expect(schema.additionalProperties).toBe(false);
    expect(schema.required).toEqual(Object.keys(schema.properties as object));
  });
});

describe("reading a report", () => {
  it("gives back what was written", () => {
    const report = exampleReport();
    expect(parseReport(JSON.parse(JSON.stringify(report)))).toEqual(report);
  });

  it("names the field that is wrong, and never takes a number that is none", () => {
    const report = exampleReport();
    const broken = { ...report, logits: { ...report.logits!, maxLogitDifference: Number.NaN } };
    const error = refused(() => parseReport(broken, "old.json"));
    expect(error.code).toBe("BAD_REPORT");
    expect(error.field).toBe("logits.maxLogitDifference");
    expect(error.message).toContain('old.json: field "logits.maxLogitDifference"');
    expect(refused(() => parseReport([])).message).toContain("report: it is not what");
    expect(refused(() => parseReport({ ...report, verdict: "FINE" })).field).toBe("verdict");
  });
});
