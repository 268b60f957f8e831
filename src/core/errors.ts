/** One reason why something is refused, or a warning that does not stop it. */
export interface Finding {
  /** Stable SCREAMING_SNAKE code, e.g. `SHAPE_MISMATCH`. */
  readonly code: string;
  /** What is wrong, where, why, and what to do next. */
  readonly message: string;
  /** The file, tensor, module or config field it is about. */
  readonly subject?: string;
  /** Machine-readable facts, e.g. `{ expected, actual }`. */
  readonly details?: Readonly<Record<string, string>>;
}

/** Takes one reason of several; whoever reports goes on with a value that does no harm. */
export type Report = (finding: Finding) => void;

export interface AppErrorExtras {
  /** The input field the error is about, as a dotted path. */
  readonly field?: string;
  /** Machine-readable facts, e.g. `{ expected, actual }`. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Every reason at once, where there can be several; the error's own code is the first one's. */
  readonly reasons?: readonly Finding[];
  readonly cause?: unknown;
}

/**
 * An expected failure: bad input, a refused plan, a missing file. Anything else that is thrown is a bug.
 * Caught only at the four edges (GraphQL format, job loop, CLI main, HTTP route).
 */
export class AppError extends Error {
  readonly code: string;
  readonly field: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly reasons: readonly Finding[] | undefined;

  constructor(code: string, message: string, extras: AppErrorExtras = {}) {
    super(message, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = "AppError";
    this.code = code;
    this.field = extras.field;
    this.details = extras.details;
    this.reasons = extras.reasons;
  }
}

/** Reasons in one message; a wrong base has one for each of its hundreds of tensors, which say the same. */
const MOST_IN_MESSAGE = 8;

/** Builds the error for a refusal that has one or more reasons: the first ones are in the message, all in `reasons`. */
export function refusal(what: string, reasons: readonly Finding[]): AppError {
  const [first] = reasons;
  if (!first) throw new Error("a refusal needs at least one reason");
  const text =
    reasons.length === 1
      ? first.message
      : reasons
          .slice(0, MOST_IN_MESSAGE)
          .map((reason, i) => `(${i + 1}) ${reason.code}: ${reason.message}`)
          .join(" ");
  const more = reasons.length - MOST_IN_MESSAGE;
  const rest = more > 0 ? ` And ${more} more reason${more === 1 ? "" : "s"}.` : "";
  return new AppError(first.code, `${what}: ${text}${rest}`, { reasons });
}
