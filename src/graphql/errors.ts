import { PothosValidationError } from "@pothos/core";
import { GraphQLError, type GraphQLFormattedError } from "graphql";
import { AppError } from "../core/errors.ts";
import { isConnectionError } from "../registry/db.ts";

/** Where what is hidden from a caller is written down. */
export type LogFault = (fault: {
  readonly requestId: string;
  readonly error: unknown;
  readonly path: string;
}) => void;

export const DATABASE_AWAY = "The database does not answer. It may be starting; try again in a moment.";

/** Codes that a caller may rely on; everything else becomes INTERNAL. */
const OPEN_CODES = new Set([
  "GRAPHQL_PARSE_FAILED",
  "GRAPHQL_VALIDATION_FAILED",
  "OPERATION_RESOLUTION_FAILURE",
  "BAD_REQUEST",
  "BAD_USER_INPUT",
  "UNAUTHENTICATED",
  "LIMIT_EXCEEDED",
  "CSRF",
]);

export function badUserInput(message: string, reason?: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code: "BAD_USER_INPUT", ...(reason && { reason }) } });
}

/**
 * What a caller may know of an error. Its own mistakes are explained; a fault of ours is reduced to a request id,
 * and handed to `log` whole. Never a stack trace, a query, a path or a host.
 */
export function formatFault(
  error: GraphQLError,
  { requestId, log }: { readonly requestId: string; readonly log: LogFault },
): GraphQLFormattedError {
  const { message, locations, path } = error.toJSON();
  const shown = describe(error);
  if (shown === null) log({ requestId, error: error.originalError ?? error, path: path?.join(".") ?? "" });
  return {
    message: shown
      ? (shown.message ?? message)
      : `Something went wrong on the server. The log has the reason under request ${requestId}.`,
    ...(locations && { locations }),
    ...(path && { path }),
    extensions: { ...(shown?.extensions ?? { code: "INTERNAL" }), requestId },
  };
}

interface Shown {
  readonly message?: string;
  readonly extensions: Readonly<Record<string, unknown>>;
}

function describe(error: GraphQLError): Shown | null {
  const { originalError } = error;
  if (originalError instanceof AppError) {
    const { code, message, field } = originalError;
    const known = code === "UNAUTHENTICATED" ? code : "BAD_USER_INPUT";
    return { message, extensions: { code: known, reason: code, ...(field && { field }) } };
  }
  // It is being started again: asking again is right, and nothing else about it is the caller's business.
  if (isConnectionError(originalError)) return { message: DATABASE_AWAY, extensions: { code: "NOT_READY" } };
  // Pothos' own complaints are about ids and cursors that the caller made up.
  if (originalError instanceof PothosValidationError) return { extensions: { code: "BAD_USER_INPUT" } };
  const { code, reason, limit, most } = error.extensions;
  // Apollo calls every error of validation the same.
  if (typeof limit === "string") return { extensions: { code: "LIMIT_EXCEEDED", limit, most } };
  if (typeof code === "string" && OPEN_CODES.has(code)) {
    return { extensions: { code, ...(typeof reason === "string" && { reason }) } };
  }
  // A document that does not fit the schema has no original error and no path: graphql itself wrote it.
  if (!originalError && code === undefined && error.path === undefined)
    return { extensions: { code: "GRAPHQL_VALIDATION_FAILED" } };
  return null;
}
