import { isJsonObject } from "../../../src/core/json.ts";

/** One thing that a verification found to be not as recorded, in words. */
export interface Difference {
  /** A tensor or a file. */
  readonly name: string;
  readonly what: string;
  readonly expected: string | null;
  readonly actual: string | null;
}

export interface VerifyReport {
  readonly identical: boolean;
  /** How many tensors were compared. */
  readonly tensors: number;
  readonly differences: readonly Difference[];
}

/** The `what` of a difference in `src/engine/verify.ts`, for people. */
const WHAT: Record<string, string> = {
  stored: "was changed on disk:",
  derived: "comes out differently from base and adapter:",
  missing: "is no longer in the files:",
  unexpected: "was not part of the merge:",
  input: "base or adapter is another one now:",
  file: "was changed on disk:",
};

/** Reads the report of a verification, which the API passes on as JSON; null where it is none. */
export function readVerifyReport(report: unknown): VerifyReport | null {
  if (!isJsonObject(report) || typeof report.verdict !== "string") return null;
  const list = Array.isArray(report.differences) ? report.differences : [];
  return {
    identical: report.verdict === "IDENTICAL",
    tensors: Number(report.tensors ?? 0),
    differences: list.filter(isJsonObject).map(({ name, what, expected, actual }) => ({
      name: String(name),
      what: WHAT[String(what)] ?? String(what),
      expected: typeof expected === "string" ? expected : null,
      actual: typeof actual === "string" ? actual : null,
    })),
  };
}
