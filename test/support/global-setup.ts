import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { type Embedded, startEmbedded } from "../../src/registry/embedded.ts";
import { migrate } from "../../src/registry/migrate.ts";
import { openQueue } from "../../src/registry/queue.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Asked for once by a test file that needs Postgres; answers with the URL of the cluster. */
    postgresBroker: string;
  }
}

/** The database that test files copy: migrated, queues made. */
export const TEMPLATE = "graftwork_template";

/** One Postgres for the whole run, started when the first test file asks for it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let cluster: Promise<{ postgres: Embedded; home: string }> | undefined;
  const broker = createServer((_request, response) => {
    cluster ??= startCluster();
    cluster.then(
      ({ postgres }) => response.end(postgres.url),
      (error) => response.writeHead(500).end(String(error)),
    );
  });
  await new Promise<void>((done) => broker.listen(0, "127.0.0.1", done));
  project.provide("postgresBroker", `http://127.0.0.1:${(broker.address() as AddressInfo).port}/`);
  return async () => {
    broker.close();
    const started = await cluster?.catch(() => undefined);
    await started?.postgres.destroy();
    if (started) await rm(started.home, { recursive: true, force: true });
  };
}

async function startCluster(): Promise<{ postgres: Embedded; home: string }> {
  const home = await mkdtemp(join(tmpdir(), "graftwork-test-"));
  const settings = {
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    max_connections: "400",
  };
  const postgres = await startEmbedded({ home, settings });
  const template = new URL(postgres.url);
  template.pathname = `/${TEMPLATE}`;
  const admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  await admin.query(`create database ${TEMPLATE}`);
  await admin.end();
  await migrate(template.href);
  const queue = await openQueue({ url: template.href });
  await queue.stop(1000);
  return { postgres, home };
}
