import { parseArgs } from "node:util";
import { type CommandSpec, textsOf, UsageError, type Values } from "./command.ts";
import { COMMANDS } from "./commands.ts";

export function findCommand(name: string): CommandSpec {
  const command = COMMANDS.find((candidate) => candidate.name === name);
  if (command) return command;
  throw new UsageError(`unknown command "${name}"`, null);
}

/**
 * Parses what follows a command's name.
 * @throws UsageError for unknown, repeated, missing or malformed arguments; nothing is checked under `--help`
 */
export function parseCommandLine(command: CommandSpec, args: readonly string[]) {
  const { values, positionals, tokens } = parse(command, args);
  if (values.help) return { values: values as Values, positionals };
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    // The last one would win silently; with --adapter that merges less than was asked for.
    if (seen.has(token.name) && !command.options[token.name]?.multiple)
      throw new UsageError(`--${token.name} is given twice`, command);
    seen.add(token.name);
  }
  const missing = command.positionals[positionals.length];
  if (missing !== undefined) throw new UsageError(`${missing} is missing`, command);
  const extra = positionals[command.positionals.length];
  if (extra !== undefined) throw new UsageError(`"${extra}" is one argument too many`, command);
  for (const [name, option] of Object.entries(command.options)) {
    const value = values[name];
    if (option.required && value === undefined) throw new UsageError(`--${name} is missing`, command);
    for (const text of textsOf(values as Values, name)) {
      if (text === "") throw new UsageError(`--${name} is empty`, command);
      const wrong = option.check?.(text);
      if (wrong) throw new UsageError(`--${name} ${wrong}`, command);
    }
  }
  const wrong = command.check?.(values as Values);
  if (wrong) throw new UsageError(wrong, command);
  return { values: values as Values, positionals };
}

function parse(command: CommandSpec, args: readonly string[]) {
  const options = Object.fromEntries(
    Object.entries(command.options).map(([name, { type, short, multiple }]) => [
      name,
      { type, ...(short && { short }), ...(multiple && { multiple }) },
    ]),
  );
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, tokens: true });
  } catch (error) {
    // parseArgs says what is wrong in one sentence, and sometimes how to escape a dash in another.
    const message = error instanceof Error ? error.message : String(error);
    // It calls a value that starts with a dash ambiguous; nobody who wrote `--window -5` would know what that means.
    const [, option] = /^Option '(?:-\w, )?(--[\w-]+)[^']*' argument is ambiguous/.exec(message) ?? [];
    if (option !== undefined)
      throw new UsageError(
        `${option} needs a value; write ${option}=VALUE for one that starts with a dash`,
        command,
      );
    throw new UsageError(
      message.split(/\.\s/)[0]!.replace(/^[A-Z]/, (c) => c.toLowerCase()),
      command,
    );
  }
}
