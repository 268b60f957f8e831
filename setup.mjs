// All set-up for every npm script, in plain JavaScript that any Node from 20 on runs: dependencies, generated code,
// kernels, console. Each step is skipped while its inputs are unchanged. What follows then runs on the Node 24 of
// node_modules, started by path: a shell would keep the first `node` it had found.
//
//   node setup.mjs                       set up only
//   node setup.mjs check                 formatting, lint, types
//   node setup.mjs test [vitest args]    check, then all tests
//   node setup.mjs path/to/file.ts …     run that file
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const modules = join(root, "node_modules");
const node = join(modules, ".bin", process.platform === "win32" ? "node.cmd" : "node");
const marks = join(modules, ".graftwork");
const quiet = process.env.npm_config_loglevel === "silent";

/** Starts a program, passes signals on, and resolves with its exit status. */
function run(command, args, { env = {}, onlyErrors = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      // What set-up prints must not mix with what the program prints: `--json` promises one document.
      stdio: onlyErrors ? ["ignore", 2, 2] : "inherit",
      env: {
        // Stripping types and compiling once, not at every start of the command line and of each worker thread.
        NODE_COMPILE_CACHE: join(marks, "compiled"),
        ...process.env,
        PATH: `${join(modules, ".bin")}:${process.env.PATH ?? ""}`,
        ...env,
      },
    });
    const pass = (signal) => child.kill(signal);
    process.on("SIGINT", pass).on("SIGTERM", pass);
    child.on("error", reject).on("exit", (code, signal) => {
      process.off("SIGINT", pass).off("SIGTERM", pass);
      resolve(signal ? 128 + (signal === "SIGINT" ? 2 : signal === "SIGTERM" ? 15 : 9) : (code ?? 1));
    });
  });
}

/** Every file below the given paths, so that a digest of their bytes tells whether a step must run again. */
function filesBelow(path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (statSync(full).isFile()) return [path];
  return readdirSync(full)
    .filter((name) => !["node_modules", "dist", "build", "client.ts"].includes(name))
    .sort()
    .flatMap((name) => filesBelow(join(path, name)));
}

function digestOf(paths) {
  const hash = createHash("sha256");
  for (const path of paths.flatMap(filesBelow)) hash.update(path).update(readFileSync(join(root, path)));
  return hash.digest("hex");
}

/**
 * One set-up at a time in one clone: two would take the dependencies away from under each other. Not in the clone,
 * whose folders come and go. Whoever waited finds the steps done.
 */
const lock = join(
  tmpdir(),
  `graftwork-set-up-${createHash("sha256").update(root).digest("hex").slice(0, 16)}`,
);
let locked = false;
/** No set-up takes as long. */
const LOCK_MS = 20 * 60_000;

async function takeLock() {
  for (let told = false; !locked; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      locked = true;
      process.on("exit", () => locked && rmSync(lock, { force: true }));
    } catch (error) {
      if (error.code !== "EEXIST") return;
      if (isGone(lock)) rmSync(lock, { force: true });
      else if (!told) process.stderr.write("set-up: waiting for another one in this folder …\n");
      told = true;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** Whether the process that wrote a lock has ended without removing it; its id may be another program's by now. */
function isGone(file) {
  try {
    if (Date.now() - statSync(file).mtimeMs > LOCK_MS) return true;
    const pid = Number(readFileSync(file, "utf8"));
    // Empty: it is being written.
    if (pid > 0) process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}

/** Runs a step unless it ran before on the same inputs and its output is still there. */
async function step({ name, inputs, output, work }) {
  const mark = join(marks, name);
  const digest = digestOf(inputs);
  const isDone = () =>
    existsSync(mark) && readFileSync(mark, "utf8") === digest && existsSync(join(root, output));
  if (isDone()) return;
  await takeLock();
  if (isDone()) return;
  if (!quiet) process.stderr.write(`set-up: ${name} …\n`);
  const status = await work();
  if (status !== 0) {
    process.stderr.write(`set-up: ${name} failed (status ${status}); the lines above say why.\n`);
    process.exit(status);
  }
  mkdirSync(marks, { recursive: true });
  writeFileSync(mark, digest);
}

const npm = process.env.npm_execpath;
const setUp = { onlyErrors: true };

async function installAll(withConsole) {
  await step({
    name: "dependencies",
    inputs: ["package-lock.json", ".npmrc"],
    output: "node_modules/node",
    work: () => {
      rmSync(marks, { recursive: true, force: true });
      const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
      return npm ? run(process.execPath, [npm, ...args], setUp) : run("npm", args, setUp);
    },
  });
  await step({
    name: "database-client",
    inputs: ["prisma/schema.prisma", "prisma.config.ts", "package-lock.json"],
    output: "prisma/client/client.ts",
    work: () =>
      // Generating needs no engine, but Prisma insists on the path of one: any file that exists stops the download.
      run(node, [join(modules, "prisma/build/index.js"), "generate"], {
        ...setUp,
        env: { PRISMA_SCHEMA_ENGINE_BINARY: join(root, "package.json"), PRISMA_HIDE_UPDATE_MESSAGE: "1" },
      }),
  });
  await step({
    name: "kernels",
    inputs: ["src/engine/wasm", "package-lock.json"],
    output: "src/engine/wasm/build/kernels.wasm",
    work: () => run(node, ["src/engine/wasm/build.mjs"], setUp),
  });
  if (!withConsole) return;
  await step({
    name: "console",
    inputs: ["web", "vite.config.ts", "src/client", "src/core", "package-lock.json"],
    output: "web/dist/index.html",
    work: () => run(node, [join(modules, "vite/bin/vite.js"), "build", "--logLevel", "warn"], setUp),
  });
}

async function check() {
  const lint = await run(node, [join(modules, "@biomejs/biome/bin/biome"), "check", "."]);
  const types = await run(node, [join(modules, "typescript/bin/tsc"), "--noEmit", "-p", "."]);
  return lint || types;
}

const [target, ...args] = process.argv.slice(2);
await installAll(!target?.startsWith("src/cli/"));
// What follows may run for days.
if (locked) rmSync(lock, { force: true });
locked = false;
if (target === undefined) process.exit(0);
if (target === "check") process.exit(await check());
if (target === "test") {
  const checked = await check();
  process.exit(checked || (await run(node, [join(modules, "vitest/vitest.mjs"), "run", ...args])));
}
process.exit(await run(node, [join(root, target), ...args]));
