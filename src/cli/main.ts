#!/usr/bin/env node
import { digestCacheFolder } from "../config.ts";
import { AppError } from "../core/errors.ts";
import { ENGINE } from "../core/record.ts";
import type { EngineEvent } from "../engine/events.ts";
import { findCommand, parseCommandLine } from "./arguments.ts";
import { type CommandSpec, type Outcome, textOf, UsageError, type Values } from "./command.ts";
import { commandHelp, overview, usage, versionLine } from "./help.ts";
import { Progress } from "./progress.ts";

/** The exit code: 0 done, 1 refused or failed, 2 wrong usage; of some commands others besides. */
async function main(args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  try {
    return await dispatch(args, json);
  } catch (error) {
    return report(error, json);
  }
}

async function dispatch(args: readonly string[], json: boolean): Promise<number> {
  // `graftwork --json merge …` means what `graftwork merge --json …` means.
  const [name, ...rest] = args[0] === "--json" ? [...args.slice(1), "--json"] : args;
  if (name === undefined || name === "--json") throw new UsageError("no command is given", null);
  if (name === "version" || name === "--version")
    return json ? printJson({ ...ENGINE }) : print(versionLine());
  const say = (help: string) => (json ? printJson({ help }) : print(help));
  if (name === "help" || name === "--help" || name === "-h") {
    const [about] = rest.filter((argument) => argument !== "--json");
    return say(about === undefined ? overview() : commandHelp(findCommand(about)));
  }
  const command = findCommand(name);
  const { values, positionals } = parseCommandLine(command, rest);
  if (values.help) return say(commandHelp(command));
  const outcome = await execute(command, values, positionals);
  const { document, lines, failure, exitCode = 1 } = outcome;
  if (json) printJson({ ...document, ...(failure && { error: describe(failure) }) });
  else print(lines.join("\n"));
  if (!failure) return 0;
  complain(failure.code, failure.message);
  return exitCode;
}

async function execute(
  command: CommandSpec,
  values: Values,
  positionals: readonly string[],
): Promise<Outcome> {
  const interrupted = new AbortController();
  const stop = () => {
    // A second Ctrl-C ends the process as usual.
    process.removeListener("SIGINT", stop).removeListener("SIGTERM", stop);
    interrupted.abort(new AppError("INTERRUPTED", "stopped by a signal; nothing was written."));
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  const progress = values.json && !process.stderr.isTTY ? null : new Progress(process.stderr);
  const watch = async <T>(work: AsyncGenerator<EngineEvent, T>): Promise<T> => {
    let step = await work.next();
    while (!step.done) {
      progress?.show(step.value);
      step = await work.next();
    }
    return step.value;
  };
  const threads = Number(textOf(values, "threads") ?? navigator.hardwareConcurrency);
  try {
    const { run } = await command.load();
    const engine = { threads, signal: interrupted.signal, cache: digestCacheFolder() };
    const stream = (text: string) => {
      progress?.clear();
      process.stdout.write(harmless(text));
    };
    return await run({ values, positionals, engine, watch, stream });
  } finally {
    progress?.clear();
    process.removeListener("SIGINT", stop).removeListener("SIGTERM", stop);
  }
}

function print(text: string): number {
  if (text !== "") process.stdout.write(`${harmless(text)}\n`);
  return 0;
}

/** Names come from strangers' files: what could steer a terminal, or turn a line around, is shown instead of sent. */
function harmless(text: string): string {
  const shown = (c: string) => {
    const hex = c.charCodeAt(0).toString(16);
    return hex.length > 2 ? `\\u${hex}` : `\\x${hex.padStart(2, "0")}`;
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is about them
  return text.replaceAll(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, shown);
}

function printJson(document: unknown): number {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  return 0;
}

function describe({ code, message, reasons, details }: AppError) {
  return { code, message, ...(reasons && { reasons }), ...(details && { details }) };
}

function complain(code: string, message: string): void {
  process.stderr.write(`graftwork: ${code}: ${harmless(message.replaceAll(/\s*\n\s*/g, " "))}\n`);
}

/** The edge where expected failures end; anything else is a bug and is shown as one. */
function report(error: unknown, json: boolean): number {
  if (error instanceof UsageError) {
    if (json) printJson({ error: { code: "USAGE", message: error.message } });
    process.stderr.write(
      `graftwork: ${error.message}\n${error.command ? usage(error.command) : overview()}\n`,
    );
    return 2;
  }
  if (error instanceof AppError) {
    if (json) printJson({ error: describe(error) });
    complain(error.code, error.message);
    return 1;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (json) printJson({ error: { code: "INTERNAL", message: text } });
  process.stderr.write(`graftwork: INTERNAL: a defect of Graftwork, please report it: ${text}\n`);
  return 1;
}

// `graftwork inspect … | head` closes the pipe early; that is not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") return;
  complain("OUTPUT_FAILED", `what was found could not be written to stdout (${error.message}).`);
  process.exit(1);
});

process.exitCode = await main(process.argv.slice(2));
