import type { AppError } from "../core/errors.ts";
import type { EngineEvent, EngineOptions } from "../engine/events.ts";

/** One option of a command, for `parseArgs` and for the help text. */
export interface OptionSpec {
  readonly type: "string" | "boolean";
  readonly short?: string;
  /** What stands for the value in the help, e.g. `DIR`. */
  readonly value?: string;
  readonly help: string;
  readonly required?: boolean;
  /** May be given several times; the value is then a list. */
  readonly multiple?: boolean;
  /** Says what is wrong with a value, or nothing. */
  readonly check?: (value: string) => string | null;
}

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** More about it, for `<command> --help`. */
  readonly details: string;
  /** Names of the positional arguments, all required. */
  readonly positionals: readonly string[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Says what is wrong with the options together, or nothing. */
  readonly check?: (values: Values) => string | null;
  /** Exit codes of its own, beside 0, 1 and 2. */
  readonly exits?: string;
  /** Loaded only when the command runs: help and errors of usage must not wait for the engine. */
  readonly load: () => Promise<{ run: Run }>;
}

export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface CommandContext {
  readonly values: Values;
  readonly positionals: readonly string[];
  readonly engine: EngineOptions;
  /** Runs long work to its end and draws its events. */
  readonly watch: <T>(work: AsyncGenerator<EngineEvent, T>) => Promise<T>;
  /** Writes text to stdout while the command still runs. */
  readonly stream: (text: string) => void;
}

/** What a command has to say; exactly one of the two forms is printed. */
export interface Outcome {
  /** With `--json`. */
  readonly document: Readonly<Record<string, unknown>>;
  readonly lines: readonly string[];
  /** Refused or different, although there is something to print: exit code 1, or `exitCode`. */
  readonly failure?: AppError;
  readonly exitCode?: number;
}

export type Run = (context: CommandContext) => Promise<Outcome>;

/** Wrong arguments: exit code 2, with the usage. */
export class UsageError extends Error {
  readonly command: CommandSpec | null;

  constructor(message: string, command: CommandSpec | null) {
    super(message);
    this.name = "UsageError";
    this.command = command;
  }
}

export function textOf(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === "string" ? value : undefined;
}

/** Every value of an option that may be given several times. */
export function textsOf(values: Values, name: string): readonly string[] {
  const value = values[name];
  return typeof value === "object" ? value : typeof value === "string" ? [value] : [];
}

export function numberOf(values: Values, name: string): number | undefined {
  const text = textOf(values, name);
  return text === undefined ? undefined : Number(text);
}
