// Compiles the AssemblyScript kernels in this folder into build/kernels.wasm. Run by setup, or by hand:
//   node src/engine/wasm/build.mjs
// Does nothing where the result is newer than every source. Several processes may run it at once: each writes its own
// file and renames it into place, so nobody ever reads half a module.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "build", "kernels.wasm");

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

const sources = readdirSync(here).filter((name) => name.endsWith(".ts") || name === "build.mjs");
const newest = Math.max(...sources.map((name) => modified(join(here, name))));
if (modified(target) <= newest) await compile();

async function compile() {
  // Only where it is needed: loading the compiler takes longer than the check above.
  const { default: asc } = await import("assemblyscript/asc");
  const options = "--enable simd --enable relaxed-simd --runtime stub --importMemory -O3 --noAssert --use abort=";
  let binary;
  const { error, stderr } = await asc.main(["kernels.ts", "--outFile", "kernels.wasm", ...options.split(" ")], {
    readFile: (name) => (sources.includes(name) ? readFileSync(join(here, name), "utf8") : null),
    writeFile: (name, contents) => {
      if (name === "kernels.wasm") binary = contents;
    },
    listFiles: () => [],
  });
  if (error || !binary) throw new Error(`The kernels do not compile:\n${stderr.toString()}`, { cause: error });
  mkdirSync(dirname(target), { recursive: true });
  const mine = `${target}.${process.pid}`;
  try {
    writeFileSync(mine, binary);
    renameSync(mine, target);
  } finally {
    rmSync(mine, { force: true });
  }
}
