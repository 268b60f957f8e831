/** One entry of `errors` in an answer. */
export interface TopLevelError {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions?: Readonly<Record<string, unknown>>;
}

/**
 * The server did not do what was asked: a fault of this program (bad document, no token) or of the server. Expected
 * failures of a mutation are not this: they are in `userErrors`.
 */
export class GraphqlFailure extends Error {
  /** `extensions.code` of the first error, an HTTP status such as HTTP_502, or UNREACHABLE. */
  readonly code: string;
  readonly errors: readonly TopLevelError[];
  /** Names the request in the server's log. */
  readonly requestId: string | null;

  constructor(
    errors: readonly TopLevelError[],
    options: { readonly code?: string; readonly cause?: unknown } = {},
  ) {
    const [first] = errors;
    super(errors.map((error) => error.message).join("\n") || "The server gave no answer.", {
      cause: options.cause,
    });
    this.name = "GraphqlFailure";
    this.code = options.code ?? text(first?.extensions?.code) ?? "INTERNAL";
    this.errors = errors;
    this.requestId = text(first?.extensions?.requestId);
  }
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** Nothing answered there: no server, or it or its database went away. Worth trying again, unlike other failures. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof GraphqlFailure && /^(UNREACHABLE|NOT_READY|HTTP_50[234])$/.test(error.code);
}
