import { startEmbedded } from "../../src/registry/embedded.ts";

// A server process that a test kills: starts the home's Postgres, says so, and stays.
const [, , home = ""] = process.argv;
try {
  const postgres = await startEmbedded({ home });
  process.send?.({ url: postgres.url, pid: postgres.pid(), adopted: postgres.adopted });
  setInterval(() => {}, 1000);
} catch (error) {
  process.send?.({ error: (error as { code?: string }).code });
  process.disconnect?.();
}
