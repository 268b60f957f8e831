import type { Finding as FindingShape } from "../core/errors.ts";
import { builder } from "./builder.ts";

export const Finding = builder.objectRef<FindingShape>("Finding").implement({
  description: "One reason why something is refused, or a warning that stops nothing.",
  fields: (t) => ({
    code: t.exposeString("code", { description: "Stable code in capitals, for example SHAPE_MISMATCH." }),
    message: t.exposeString("message", { description: "What is wrong, where, why, and what to do next." }),
    subject: t.string({
      nullable: true,
      description: "The file, tensor, module or config field it is about.",
      resolve: ({ subject }) => subject ?? null,
    }),
  }),
});

/** Findings out of a JSON column; what does not look like one is left out. */
export function readFindings(value: unknown): FindingShape[] {
  if (!Array.isArray(value)) return [];
  return value.filter(
    (one): one is FindingShape =>
      typeof one === "object" &&
      one !== null &&
      typeof one.code === "string" &&
      typeof one.message === "string",
  );
}
