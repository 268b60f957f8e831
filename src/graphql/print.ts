import { writeFile } from "node:fs/promises";
import { printSchema } from "graphql";
import { printedReportSchema } from "../core/evaluation/schema.ts";
import { schema } from "./schema.ts";

const ROOT = new URL("../../", import.meta.url);

/** schema.graphql: what reviewers and clients read. */
export function printed(): string {
  return `# Printed by \`npm run schema\`; a test compares.\n\n${printSchema(schema)}\n`;
}

if (import.meta.main) {
  await writeFile(new URL("schema.graphql", ROOT), printed());
  await writeFile(new URL("evaluation.schema.json", ROOT), printedReportSchema());
}
