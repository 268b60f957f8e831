/** A GraphQL document that knows the types of its answer and of its variables. */
export interface Document<Result, Variables> {
  readonly text: string;
  /** The operation's name: in logs, and in `operationName`. */
  readonly name: string;
  readonly kind: "query" | "mutation" | "subscription";
  /** Never there; carries the types. */
  readonly types?: (variables: Variables) => Result;
}

const OPERATION = /\b(query|mutation|subscription)\s+([A-Za-z_]\w*)/;

/** A typed document; `text` holds one named operation and its fragments. */
export function document<Result, Variables>(text: string): Document<Result, Variables> {
  const [, kind, name] = OPERATION.exec(text) ?? [];
  if (kind === undefined || name === undefined)
    throw new Error(`a document needs a named operation: ${text}`);
  // Shorter to send, and easier to read in a log.
  return {
    text: text.trim().replace(/\n\s+/g, "\n "),
    name,
    kind: kind as Document<Result, Variables>["kind"],
  };
}
