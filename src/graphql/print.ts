import { writeFile } from "node:fs/promises";
import { printSchema } from "graphql";
import { printedReportSchema } from "../core/evaluation/schema.ts";
import { schema } from "./schema.ts";

const FILE = new URL("../../schema.graphql", import.meta.url);
const REPORT_FILE = new URL("../../evaluation.schema.json", import.meta.url);

/** schema.graphql: what reviewers and clients read. */
export function printed(): string {
  return `# Printed by \`npm run schema\`; a test compares.\n\n${printSchema(schema)}\n`;
}

if (import.meta.main) {
  await writeFile(FILE, printed());
  await writeFile(REPORT_FILE, printedReportSchema());
}
