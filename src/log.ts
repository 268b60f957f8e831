import { stripVTControlCharacters } from "node:util";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Facts beside a message: ids, counts, an `error`. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** Values that are never written, wherever they turn up: tokens, database passwords. */
  readonly secrets?: readonly (string | null)[];
  /** Readable lines instead of JSON; default: when stderr is a terminal. */
  readonly readable?: boolean;
  /** Where lines go; default stderr. */
  readonly write?: (line: string) => void;
}

// A field of such a name is hidden whatever it holds.
const SECRET_FIELD = /token|password|secret|authorization|cookie/i;
// The password in postgresql://user:password@host.
const URL_PASSWORD = /(\w+:\/\/[^\s:/@]*:)[^\s@]+@/g;
const HIDDEN = "[hidden]";

/** A log that writes one line an entry to stderr: JSON for machines, plain text on a terminal. */
export function createLog(options: LogOptions): Log {
  const readable = options.readable ?? process.stderr.isTTY === true;
  const write = options.write ?? ((line: string) => void process.stderr.write(`${line}\n`));
  const least = LOG_LEVELS.indexOf(options.level);
  const secrets = (options.secrets ?? []).filter((secret) => secret !== null && secret.length >= 6);
  const hide = (text: string) => {
    let hidden = text.replace(URL_PASSWORD, `$1${HIDDEN}@`);
    for (const secret of secrets) hidden = hidden.replaceAll(secret as string, HIDDEN);
    return hidden;
  };
  const entry =
    (level: Exclude<LogLevel, "silent">) =>
    (message: string, fields: LogFields = {}) => {
      if (LOG_LEVELS.indexOf(level) < least) return;
      const safe = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, plain(key, value)]));
      const at = new Date().toISOString();
      const line = readable
        ? readableLine({ at, level, message, fields: safe })
        : JSON.stringify({ at, level, message, ...safe });
      write(hide(line));
    };
  return { debug: entry("debug"), info: entry("info"), warn: entry("warn"), error: entry("error") };
}

/** A JSON-safe value: errors become their code, message and stack, secrets are hidden, big integers text. */
function plain(key: string, value: unknown): unknown {
  if (SECRET_FIELD.test(key)) return HIDDEN;
  if (typeof value === "bigint") return String(value);
  if (value instanceof Error) {
    const { code } = value as { code?: unknown };
    const cause = value.cause === undefined ? {} : { cause: plain("cause", value.cause) };
    return { ...(code === undefined ? {} : { code }), message: value.message, stack: value.stack, ...cause };
  }
  return value;
}

interface Entry {
  readonly at: string;
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

function readableLine({ at, level, message, fields }: Entry): string {
  const facts = Object.entries(fields).map(([key, value]) => {
    if (typeof value === "string") return `${key}=${value}`;
    const stack = (value as { stack?: unknown } | null)?.stack;
    const { code } = (value ?? {}) as { code?: unknown };
    return typeof stack === "string"
      ? `\n${code === undefined ? "" : `[${code}] `}${stack}`
      : `${key}=${JSON.stringify(value)}`;
  });
  const mark = level === "info" ? "" : `${level}: `;
  // A message may quote a file name that holds escape sequences.
  return stripVTControlCharacters([`${at.slice(11, 19)} ${mark}${message}`, ...facts].join(" "));
}
