import { AppError } from "../core/errors.ts";
import { builder } from "./builder.ts";
import { Finding } from "./finding.ts";

/** An AppError that became an answer, with the input field as the caller knows it. */
export interface UserErrorShape {
  readonly error: AppError;
  readonly field: readonly string[] | null;
}

const ref = (name: string) => builder.objectRef<UserErrorShape>(name);

export const UserError = builder.interfaceRef<UserErrorShape>("UserError").implement({
  description: "Why what was asked cannot be done. Expected failures only: top-level errors are faults.",
  resolveType: ({ error }) => typeOf(error),
  fields: (t) => ({
    code: t.string({
      description: "Stable code in capitals, finer than the type: BAD_REF, KIND_DIFFERS, JOB_ENDED, …",
      resolve: ({ error }) => error.code,
    }),
    field: t.stringList({
      nullable: true,
      description: 'Where in the arguments: `["input", "base"]`; null where no single field is to blame.',
      resolve: ({ field }) => (field ? [...field] : null),
    }),
    message: t.string({
      description: "What is wrong, why, and what to do next; for people.",
      resolve: ({ error }) => error.message,
    }),
  }),
});

const plain = (name: string, description: string) =>
  ref(name).implement({ description, interfaces: [UserError] });

plain("InvalidInput", "A field of the input is not what it must be.");
plain("NotFound", "Something that the input names does not exist, or the viewer may not see it.");
plain("Forbidden", "The viewer may not do this: sign in, or ask for the role that the message names.");
plain("Conflict", "The object is not in the state that this needs.");
plain("IdempotencyConflict", "The idempotency key was used before with other input.");

ref("BaseDigestMismatch").implement({
  description: "An input is pinned to a digest that it does not have.",
  interfaces: [UserError],
  fields: (t) => ({
    expected: t.field({
      type: "Sha256",
      nullable: true,
      description: "The digest that was pinned.",
      resolve: ({ error }) => error.reasons?.[0]?.details?.expected ?? null,
    }),
    actual: t.field({
      type: "Sha256",
      nullable: true,
      description: "The digest that the version has.",
      resolve: ({ error }) => error.reasons?.[0]?.details?.actual ?? null,
    }),
  }),
});

ref("PlanRefused").implement({
  description: "The merge would be wrong; every reason at once.",
  interfaces: [UserError],
  fields: (t) => ({
    reasons: t.field({
      type: [Finding],
      description: "Each reason.",
      resolve: ({ error }) => [...(error.reasons ?? [])],
    }),
  }),
});

const TYPES: Readonly<Record<string, string>> = {
  NOT_FOUND: "NotFound",
  UNAUTHENTICATED: "Forbidden",
  FORBIDDEN: "Forbidden",
  IDEMPOTENCY_CONFLICT: "IdempotencyConflict",
  JOB_ENDED: "Conflict",
  NOT_A_MERGE: "Conflict",
};

function typeOf({ code, reasons }: AppError): string {
  if (reasons?.length === 1 && code === "DIGEST_MISMATCH") return "BaseDigestMismatch";
  if (reasons?.length && code !== "BAD_GATE") return "PlanRefused";
  return TYPES[code] ?? "InvalidInput";
}

/**
 * Runs what a mutation does. An AppError becomes its `userErrors`; anything else is a bug and goes on, to be masked.
 * `fields` says what a registry field is called in this mutation's input.
 */
export async function capture<Payload extends object>(
  work: () => Promise<Payload>,
  fields: Readonly<Record<string, string>> = {},
): Promise<Partial<Payload> & { userErrors: UserErrorShape[] }> {
  try {
    return { ...(await work()), userErrors: [] };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const field =
      error.field === undefined ? null : ["input", ...(fields[error.field] ?? error.field).split(".")];
    return { userErrors: [{ error, field }] } as unknown as Partial<Payload> & {
      userErrors: UserErrorShape[];
    };
  }
}
