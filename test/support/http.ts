import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHttp } from "../../src/http/app.ts";
import { ensureAdmin } from "../../src/registry/accounts.ts";
import { type TestDatabase, testDatabase } from "./db.ts";
import { type Seed, seed } from "./seed.ts";

export interface TestServer {
  readonly url: string;
  readonly token: string;
  readonly test: TestDatabase;
  readonly seed: Seed;
  /** Log entries of level error. */
  readonly logged: unknown[];
  close(): Promise<void>;
}

/** A server on a free port with a console of three files; outside of its folder lies `secret.txt`. */
export async function testServer(options: { recheckMs?: number } = {}): Promise<TestServer> {
  const test = await testDatabase();
  const s = await seed(test);
  const token = "gw_test_token_of_the_admin";
  await ensureAdmin(s.worker, { presetToken: token });
  const folder = await mkdtemp(join(tmpdir(), "graftwork-web-"));
  const webRoot = join(folder, "dist");
  await mkdir(join(webRoot, "assets"), { recursive: true });
  await writeFile(join(webRoot, "index.html"), "<!doctype html><title>Graftwork</title>");
  await writeFile(join(webRoot, "assets", "app-1a2b3c.js"), "console.log(1)");
  await writeFile(join(folder, "secret.txt"), "secret");
  await symlink(join(folder, "secret.txt"), join(webRoot, "link.txt"));
  const logged: unknown[] = [];
  const { url, close } = await startHttp({
    registry: s.worker,
    settings: { port: 0, host: "127.0.0.1", introspection: true },
    log: { error: (message, fields) => logged.push({ message, ...fields }) },
    webRoot,
    ...options,
  });
  return {
    url,
    token,
    test,
    seed: s,
    logged,
    close: async () => {
      await close();
      await test.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A GET whose path is sent as it is; fetch would tidy `..` away. */
export function rawGet(url: string, path: string): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path, headers: { accept: "*/*" } }, (response) => {
      let body = "";
      response.on("data", (chunk) => {
        body += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("error", reject);
    sent.end();
  });
}
