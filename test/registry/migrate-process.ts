import { migrate } from "../../src/registry/migrate.ts";

// A process that a test starts several times at once.
const [, , url = ""] = process.argv;
process.send?.(await migrate(url));
process.disconnect?.();
