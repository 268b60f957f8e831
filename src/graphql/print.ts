import { writeFile } from "node:fs/promises";
import { printSchema } from "graphql";
import { schema } from "./schema.ts";

const FILE = new URL("../../schema.graphql", import.meta.url);

/** schema.graphql: what reviewers and clients read. */
export function printed(): string {
  return `# Printed by \`npm run schema\`; a test compares.\n\n${printSchema(schema)}\n`;
}

if (import.meta.main) await writeFile(FILE, printed());
