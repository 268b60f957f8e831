import { z } from "zod";
import { AppError } from "../errors.ts";
import { type EvaluationReport, reportSchema } from "./report.ts";

/** A name, not an address: nobody has to reach a server to check a report. */
const SCHEMA_ID = "urn:graftwork:evaluation:1";

/** JSON Schema (2020-12) of an evaluation's report. */
export function reportJsonSchema(): Record<string, unknown> {
  // A digest is a branded string to TypeScript and carries its own type and pattern.
  const { $schema, ...schema } = z.toJSONSchema(reportSchema, { unrepresentable: "any" });
  return {
    $schema,
    $id: SCHEMA_ID,
    title: "Graftwork evaluation report",
    description:
      "What a comparison of two ways to run a model found: base and adapters against their merge, level by level, with a verdict under a gate.",
    ...schema,
  };
}

/** evaluation.schema.json as it is checked in. */
export function printedReportSchema(): string {
  return `${JSON.stringify(reportJsonSchema(), null, 2)}\n`;
}

/**
 * Reads a stored report.
 *
 * @param value parsed JSON
 * @throws BAD_REPORT with the path of the field and what it must be
 */
export function parseReport(value: unknown, file = "report"): EvaluationReport {
  const parsed = reportSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path.join(".") ?? "";
  throw new AppError(
    "BAD_REPORT",
    `${file}: ${path === "" ? "it" : `field "${path}"`} is not what an evaluation's report holds: ${issue?.message ?? "it is wrong"}. ` +
      "Evaluate again with this version of Graftwork.",
    path === "" ? {} : { field: path },
  );
}
