import type { Check as CheckShape } from "../core/parity.ts";
import { builder } from "./builder.ts";
import { Finding, readFindings } from "./finding.ts";

export interface CheckReportShape {
  readonly checks: readonly CheckShape[];
  readonly warnings: unknown;
}

export const Check = builder.objectRef<CheckShape>("Check").implement({
  description: "One question of the check after a merge, with its answer.",
  fields: (t) => ({
    level: t.exposeInt("level", { description: "Parity level: 0 structure, 1 weights." }),
    name: t.exposeString("name", { description: "What must hold." }),
    passed: t.exposeBoolean("passed", { description: "Whether it holds." }),
    detail: t.exposeString("detail", { description: "What was compared, and what was found." }),
  }),
});

export const CheckReport = builder.objectRef<CheckReportShape>("CheckReport").implement({
  description:
    "What the check after a merge found: is it the checkpoint that was meant, did the arithmetic happen?",
  fields: (t) => ({
    checks: t.field({ type: [Check], description: "Every question.", resolve: ({ checks }) => [...checks] }),
    warnings: t.field({
      type: [Finding],
      description: "What is worth reading although the check passed, such as tensors that did not change.",
      resolve: ({ warnings }) => readFindings(warnings),
    }),
  }),
});

/** A report out of its JSON column; null where there is none. */
export function readReport(value: unknown): CheckReportShape | null {
  const report = value as Partial<CheckReportShape> | null;
  return report && Array.isArray(report.checks) ? { checks: report.checks, warnings: report.warnings } : null;
}
