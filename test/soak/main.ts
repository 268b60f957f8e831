/** Long runs that look for rare failures, by name: `npm run soak -- fuzz`. */
const RUNS: Readonly<Record<string, () => Promise<{ run: (args: readonly string[]) => Promise<void> }>>> = {
  devices: () => import("./devices.ts"),
  fuzz: () => import("./fuzz.ts"),
};

const [name = "", ...args] = process.argv.slice(2);
const load = RUNS[name];
if (load) await (await load()).run(args);
else {
  console.error(`Name a run: ${Object.keys(RUNS).join(", ")}. Example: npm run soak -- fuzz`);
  process.exitCode = 1;
}
