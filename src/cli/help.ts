import { ENGINE } from "../core/record.ts";
import type { CommandSpec } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { table } from "./format.ts";

export function overview(): string {
  const commands = [
    ...COMMANDS.map((command) => [`  ${command.name}`, command.summary]),
    ["  help [COMMAND]", "print this help, or a command's"],
    ["  version", "print the version of Graftwork and of its arithmetic"],
  ];
  return [
    "usage: graftwork <command> [options]",
    "",
    ...table(commands),
    "",
    "graftwork <command> --help says more about one command.",
    "Exit codes: 0 done, 1 refused or failed (reason and code on stderr), 2 wrong usage;",
    "of evaluate also 3, for INCONCLUSIVE.",
  ].join("\n");
}

export function usage(command: CommandSpec): string {
  const required = Object.entries(command.options)
    .filter(([, option]) => option.required)
    .map(([name, option]) => `--${name} ${option.value}`);
  return ["usage: graftwork", command.name, ...command.positionals, ...required, "[options]"].join(" ");
}

export function commandHelp(command: CommandSpec): string {
  const options = Object.entries(command.options).map(([name, option]) => [
    `  --${name}${option.value ? ` ${option.value}` : ""}${option.short ? `, -${option.short}` : ""}`,
    option.help,
  ]);
  const summary = `${command.summary[0]!.toUpperCase()}${command.summary.slice(1)}.`;
  const exits = command.exits === undefined ? [] : ["", `Exit codes: ${command.exits}`];
  return [usage(command), "", summary, command.details, "", ...table(options), ...exits].join("\n");
}

export function versionLine(): string {
  return `${ENGINE.name} ${ENGINE.version} (arithmetic ${ENGINE.numerics})`;
}
