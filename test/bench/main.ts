/**
 * Benchmarks, run by name: `npm run bench -- kernels`. They print what they measured beside a yardstick taken in the same
 * minute on the same machine, since absolute numbers say little on a shared one.
 */
const BENCHMARKS: Readonly<
  Record<string, () => Promise<{ run: (args: readonly string[]) => Promise<void> }>>
> = {
  devices: () => import("./devices.ts"),
  kernels: () => import("./kernels.ts"),
  merge: () => import("./merge.ts"),
  parity: () => import("./parity.ts"),
};

const [name = "", ...args] = process.argv.slice(2);
const load = BENCHMARKS[name];
if (load) await (await load()).run(args);
else {
  console.error(`Name a benchmark: ${Object.keys(BENCHMARKS).join(", ")}. Example: npm run bench -- kernels`);
  process.exitCode = 1;
}
