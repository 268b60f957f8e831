import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { mergeStartMutation, modelImportMutation, type Started } from "../src/client/documents.ts";
import { followJob } from "../src/client/follow.ts";
import { type Client, createClient } from "../src/client/index.ts";
import { readSettings, SETTINGS } from "../src/config.ts";
import { DEMO } from "./support/cli.ts";
import { emptyDatabase } from "./support/db.ts";
import { readTensors } from "./support/tensor-files.ts";

const ROOT = join(import.meta.dirname, "..");

interface Service {
  image: string;
  build?: unknown;
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
}

const text = await readFile(join(ROOT, "docker-compose.yml"), "utf8");
const compose = parse(text, { merge: true }) as {
  services: Record<"postgres" | "setup" | "server" | "worker", Service>;
  volumes: Record<string, unknown>;
};
const { services } = compose;

/** `${NAME:-default}` as docker compose fills it in where NAME is unset. */
function filledIn(service: Service): Record<string, string> {
  const fill = (value: string) => value.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1");
  return Object.fromEntries(
    Object.entries(service.environment ?? {}).map(([name, value]) => [name, fill(value)]),
  );
}

describe("docker-compose.yml", () => {
  it("has Postgres 18, set-up, server and worker from public images, nothing to build", () => {
    expect(Object.keys(services).sort()).toEqual(["postgres", "server", "setup", "worker"]);
    expect(services.postgres.image).toBe("postgres:18");
    for (const name of ["setup", "server", "worker"] as const)
      expect(services[name].image).toMatch(/^node:24\b/);
    for (const service of Object.values(services)) expect(service.build).toBeUndefined();
  });

  it("sets only variables that config.ts knows, to values that it accepts", () => {
    const known = SETTINGS.map((setting) => setting.name);
    for (const service of [services.server, services.worker]) {
      for (const name of Object.keys(service.environment ?? {})) expect(known).toContain(name);
      const settings = readSettings(filledIn(service), "/app");
      expect(settings).toMatchObject({ home: "/data", importRoots: ["/models"], adminToken: null });
      expect(settings.databaseUrl).toBe("postgresql://graftwork:graftwork@postgres:5432/graftwork");
    }
    expect(readSettings(filledIn(services.server))).toMatchObject({ host: "0.0.0.0", port: 4000 });
    // What people may set from outside is described at the top of the file.
    const head = text.slice(0, text.indexOf("\nname:"));
    const asked = [...text.matchAll(/\$\{(\w+)/g)].map((match) => match[1]);
    for (const name of asked) expect(head).toContain(name);
  });

  it("gives Postgres the account that the others use", () => {
    const { POSTGRES_USER: user, POSTGRES_PASSWORD: password, POSTGRES_DB: db } = filledIn(services.postgres);
    const { databaseUrl } = readSettings(filledIn(services.worker));
    expect(databaseUrl).toBe(`postgresql://${user}:${password}@postgres:5432/${db}`);
  });

  it("keeps data in named volumes, shared by server and worker, and publishes to this machine only", () => {
    for (const { volumes = [] } of Object.values(services)) {
      for (const volume of volumes) {
        const source = volume.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1").split(":")[0]!;
        if (/^[./]/.test(source)) expect(volume).toMatch(/:ro$/);
        else expect(Object.keys(compose.volumes)).toContain(source);
        if (/^\.\/./.test(source)) expect(existsSync(join(ROOT, source))).toBe(true);
      }
    }
    expect(services.server.volumes).toEqual(services.worker.volumes);
    expect(services.server.ports).toEqual([expect.stringMatching(/^127\.0\.0\.1:\S+:4000$/)]);
    expect(services.postgres.ports).toBeUndefined();
  });

  it("waits for a healthy Postgres and the finished set-up, and checks the health of everything that runs", () => {
    for (const name of ["server", "worker"] as const) {
      expect(services[name].depends_on).toMatchObject({
        postgres: { condition: "service_healthy" },
        setup: { condition: "service_completed_successfully" },
      });
    }
    expect(services.worker.depends_on).toMatchObject({ server: { condition: "service_healthy" } });
    for (const name of ["postgres", "server", "worker"] as const) {
      const { test } = services[name].healthcheck!;
      expect(test[0]).toBe("CMD");
      expect(test.every((part) => typeof part === "string")).toBe(true);
    }
    const pattern = services.worker.healthcheck!.test.at(-1)!;
    expect(services.worker.command!.join(" ")).toMatch(new RegExp(pattern));
  });

  it("runs files that exist", () => {
    for (const { command } of [services.server, services.worker]) {
      expect(command![0]).toBe("node");
      expect(existsSync(join(ROOT, command![1]!))).toBe(true);
    }
    expect(existsSync(join(ROOT, "setup.mjs"))).toBe(true);
  });
});

/** A service's command as a process on this machine, with its environment but for what Docker would provide. */
class Running {
  readonly child: ChildProcess;
  output = "";

  constructor(service: Service, provided: Record<string, string>) {
    const [, ...args] = service.command!;
    this.child = spawn(process.execPath, args, {
      cwd: ROOT,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...filledIn(service), ...provided },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.setEncoding("utf8").on("data", (more: string) => {
        this.output += more;
      });
    }
  }

  async says(pattern: RegExp): Promise<RegExpExecArray> {
    for (let waited = 0; waited < 60_000; waited += 50) {
      const found = pattern.exec(this.output);
      if (found) return found;
      if (this.child.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${pattern} was not said, but: ${this.output}`);
  }

  async stop(): Promise<number | null> {
    if (this.child.exitCode !== null) return this.child.exitCode;
    const ended = new Promise<number | null>((resolve) => this.child.once("close", resolve));
    this.child.kill("SIGTERM");
    return await ended;
  }
}

describe("its server and worker as two processes, over TCP to a Postgres of another", () => {
  let home: string;
  let database: Awaited<ReturnType<typeof emptyDatabase>>;
  let server: Running;
  let worker: Running;
  let url: URL;
  let client: Client;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "graftwork-compose-"));
    database = await emptyDatabase();
    const provided = { DATABASE_URL: database.url, GRAFTWORK_HOME: home, GRAFTWORK_IMPORT_ROOTS: DEMO };
    server = new Running(services.server, { ...provided, PORT: "0" });
    worker = new Running(services.worker, provided);
    const [, said] = await server.says(/^Graftwork is ready: (http:\S+)/m);
    await worker.says(/^Graftwork worker is ready/m);
    url = new URL(said!);
    url.hostname = "127.0.0.1";
    const token = (await readFile(join(home, "admin-token"), "utf8")).trim();
    client = createClient({ url: url.href, token });
  });
  afterAll(async () => {
    await client?.close();
    await Promise.all([server?.stop(), worker?.stop()]);
    await database?.drop();
    await rm(home, { recursive: true, force: true });
  });

  const done = async ({ job, userErrors }: Started) => {
    expect(userErrors).toEqual([]);
    const work = followJob(client, job!.id);
    let step = await work.next();
    while (!step.done) step = await work.next();
    expect(step.value.error).toBeNull();
    expect(step.value.state).toBe("SUCCEEDED");
    return step.value.result;
  };
  const load = async (folder: string, model: string) => {
    const input = { source: { local: join(DEMO, folder) }, model, idempotencyKey: model };
    await done((await client.request(modelImportMutation, { input })).modelImport);
  };

  it("are healthy by the server's own health check", async () => {
    const [kind, , ...args] = services.server.healthcheck!.test;
    expect(kind).toBe("CMD");
    const here = args.map((arg) => arg.replace("127.0.0.1:4000", url.host));
    await promisify(execFile)(process.execPath, here);
    const dead = args.map((arg) => arg.replace("127.0.0.1:4000", "127.0.0.1:9"));
    await expect(promisify(execFile)(process.execPath, dead)).rejects.toMatchObject({ code: 1 });
  });

  it("import and merge: what the worker wrote is PEFT's result", async () => {
    await load("base", "demo/base");
    await load("adapters/sentiment", "demo/sentiment");
    const { mergeStart } = await client.request(mergeStartMutation, {
      input: {
        base: { version: { ref: "demo/base" } },
        sources: [{ version: { ref: "demo/sentiment" } }],
        output: { model: "demo/merged" },
        idempotencyKey: "merge",
      },
    });
    const result = await done(mergeStart);
    const version = result?.__typename === "MergeResult" ? result.version : null;
    expect(version?.location?.startsWith(home)).toBe(true);
    const actual = await readTensors(join(version!.location!, "model.safetensors"));
    const expected = await readTensors(join(DEMO, "expected/sentiment/model.safetensors"));
    for (const [name, { bytes }] of expected) expect(actual.get(name)!.bytes.equals(bytes), name).toBe(true);
  });

  it("stop with exit code 0 on the signal that Docker sends", async () => {
    expect(await Promise.all([server.stop(), worker.stop()])).toEqual([0, 0]);
  });
});
