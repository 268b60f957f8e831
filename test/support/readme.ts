import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { SETTINGS } from "../../src/config.ts";
import { RESULTS as KERNEL_RESULTS, kernelTable } from "../bench/kernels.ts";
import { mergeTable, RESULTS } from "../bench/merge.ts";
import { RESULTS as PARITY_RESULTS, parityTable } from "../bench/parity.ts";
import { featureTable, refusalTable } from "./features.ts";

/*
 * The parts of README.md that are printed rather than written. `npm run docs` prints them into the file; a test
 * compares them.
 */
const README = resolve(import.meta.dirname, "../../README.md");

function settingsTable(): string {
  // What tests use to provoke a crash is no setting for users.
  const rows = SETTINGS.filter(({ name }) => name !== "GRAFTWORK_FAILPOINT").map(
    (s) => `| \`${s.name}\` | ${s.default === null ? "" : `\`${s.default}\``} | ${s.description} |`,
  );
  return ["| setting | default | |", "|---|---|---|", ...rows].join("\n");
}

function benchTable(): string {
  if (!existsSync(RESULTS)) return "Not measured yet.";
  return mergeTable(JSON.parse(readFileSync(RESULTS, "utf8")));
}

function kernelBenchTable(): string {
  if (!existsSync(KERNEL_RESULTS)) return "Not measured yet.";
  return kernelTable(JSON.parse(readFileSync(KERNEL_RESULTS, "utf8")));
}

function parityBenchTable(): string {
  if (!existsSync(PARITY_RESULTS)) return "Not measured yet.";
  return parityTable(JSON.parse(readFileSync(PARITY_RESULTS, "utf8")));
}

const PARTS: Readonly<Record<string, () => string>> = {
  settings: settingsTable,
  features: featureTable,
  refusals: refusalTable,
  "bench:merge": benchTable,
  "bench:kernels": kernelBenchTable,
  "bench:parity": parityBenchTable,
};

export function readReadme(): string {
  return readFileSync(README, "utf8");
}

/** What stands between `<!-- name -->` and `<!-- /name -->`. */
export function readmePart(name: string, text = readReadme()): string {
  const open = `<!-- ${name} -->`;
  const from = text.indexOf(open);
  const to = text.indexOf(`<!-- /${name} -->`);
  if (from < 0 || to < from) throw new Error(`README.md has no part ${name}`);
  return text.slice(from + open.length, to).trim();
}

/** The lines of the one code block in a part. */
export function readmeCode(name: string): string {
  return readmePart(name)
    .replace(/^```\w+\n/, "")
    .replace(/\n```$/, "\n");
}

/** README.md with its printed parts as they are now. */
export function printedReadme(): string {
  let text = readReadme();
  for (const [name, print] of Object.entries(PARTS)) {
    const open = `<!-- ${name} -->`;
    const from = text.indexOf(open) + open.length;
    text = `${text.slice(0, from)}\n${print()}\n${text.slice(text.indexOf(`<!-- /${name} -->`))}`;
  }
  return text;
}

if (import.meta.main) writeFileSync(README, printedReadme());
