import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const ROOT = resolve(import.meta.dirname, "../..");
const FOLDER = join(ROOT, "test-results", "document-types");

const prelude = (module: string) => [
  `import type { Document } from "../../src/client/document.ts";`,
  `import type * as documents from "../../${module}";`,
  "type ResultOf<D> = D extends Document<infer R, never> ? R : never;",
  "type VariablesOf<D> = D extends Document<unknown, infer V> ? V : never;",
  "declare function fits<Wanted, Given extends Wanted>(): void;",
];

/**
 * Has the compiler look at lines such as `fits<ResultOf<typeof documents.x>, { … }>();` and returns what it complains
 * about. `documents` is the module of that path from the root; `name` keeps files of different tests apart.
 */
export async function compareTypes(name: string, module: string, lines: readonly string[]): Promise<string> {
  await mkdir(FOLDER, { recursive: true });
  const file = join(FOLDER, `${name}.ts`);
  await writeFile(file, [...prelude(module), ...lines].join("\n"));
  const config = join(FOLDER, `${name}.tsconfig.json`);
  await writeFile(
    config,
    JSON.stringify({ extends: "../../tsconfig.json", include: [`./${name}.ts`], exclude: [] }),
  );
  const tsc = join(ROOT, "node_modules", ".bin", "tsc");
  return await promisify(execFile)(process.execPath, [tsc, "--noEmit", "-p", config]).then(
    ({ stdout }) => stdout,
    (error: { stdout: string }) => error.stdout,
  );
}
