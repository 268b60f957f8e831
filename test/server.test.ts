import { mkdtemp, readFile, realpath, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { viewerQuery } from "../src/client/documents.ts";
import { createClient } from "../src/client/index.ts";
import { startProcess, startServerProcess } from "./jobs/server-process.ts";

let folder: string;
let home: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "graftwork-server-")));
  home = join(folder, "home");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const TOKEN = /Admin token .*: (gw_\S+)/;
const file = () => readFile(join(home, "admin-token"), "utf8");

async function accepts(url: string, token: string): Promise<boolean> {
  const client = createClient({ url, token });
  try {
    return (await client.request(viewerQuery, {})).viewer?.isAdmin === true;
  } catch {
    return false;
  }
}

describe("the server", () => {
  it("shows the admin token once, keeps it for its owner only, and replaces it when asked", async () => {
    const first = await startServerProcess({ GRAFTWORK_HOME: home });
    const token = TOKEN.exec(first.output())?.[1];
    expect(await file()).toBe(`${token}\n`);
    expect((await stat(join(home, "admin-token"))).mode & 0o777).toBe(0o600);
    expect(await accepts(first.url, token!)).toBe(true);
    expect(await accepts(first.url, "gw_something-else-entirely")).toBe(false);
    expect(await first.stop()).toEqual({ code: 0, signal: null });

    const second = await startServerProcess({ GRAFTWORK_HOME: home }, ["--new-admin-token"]);
    const replaced = TOKEN.exec(second.output())?.[1];
    expect(replaced).not.toBe(token);
    expect(await file()).toBe(`${replaced}\n`);
    expect(await accepts(second.url, replaced!)).toBe(true);
    expect(await accepts(second.url, token!)).toBe(false);
    await second.stop();

    const preset = "a-preset-token-of-my-own";
    const third = await startServerProcess({ GRAFTWORK_HOME: home, GRAFTWORK_ADMIN_TOKEN: preset });
    expect(third.output()).not.toContain("token");
    expect(third.output()).not.toContain(preset);
    expect(await accepts(third.url, preset)).toBe(true);
    expect(await file()).toBe(`${preset}\n`);
    await third.stop();
  });

  it("that is told to stop while it starts leaves no Postgres behind", async () => {
    const early = join(folder, "early");
    const starting = startProcess("server.ts", { GRAFTWORK_HOME: early, PORT: "0" });
    // Written when the cluster is made, just before Postgres is started.
    while (!(await readFile(join(early, "postgres.json")).catch(() => null))) await sleep(5);
    starting.child.kill("SIGTERM");
    expect(await starting.exited).toEqual({ code: 0, signal: null });
    const place = JSON.parse(await readFile(join(early, "postgres.json"), "utf8"));
    await expect(readFile(join(place.folder, "data", "postmaster.pid"))).rejects.toThrow();
    await expect(readFile(join(early, "server.lock"))).rejects.toThrow();
  });

  it.each([
    ["server.ts", { PORT: "x" }, [], /^BAD_SETTING: .*PORT is "x"/],
    ["server.ts", { HOST: "203.0.113.1" }, [], /^BAD_SETTING: .*203\.0\.113\.1/],
    ["server.ts", { GRAFTWORK_ADMIN_TOKEN: "short" }, [], /^BAD_SETTING: (?!.*short)/],
    [
      "server.ts",
      { GRAFTWORK_ADMIN_TOKEN: "long-enough-as-a-token" },
      ["--new-admin-token"],
      /^BAD_SETTING: /,
    ],
    ["server.ts", {}, ["--no-worker"], /^BAD_SETTING: --no-worker needs DATABASE_URL/],
    ["server.ts", {}, ["--what"], /^USAGE: .*--what/],
    [
      "server.ts",
      { DATABASE_URL: "postgresql://me:hidden-word@127.0.0.1:1/x" },
      [],
      /^DATABASE_UNREACHABLE: (?!.*hidden-word).*127\.0\.0\.1:1, database "x".*ECONNREFUSED/,
    ],
    [
      "worker.ts",
      { DATABASE_URL: "postgresql://me:hidden-word@nowhere.invalid/x" },
      [],
      /^DATABASE_UNREACHABLE: (?!.*hidden-word).*nowhere\.invalid:5432/,
    ],
    [
      "server.ts",
      { DATABASE_URL: "mysql://me:hidden-word@127.0.0.1/x" },
      [],
      /^BAD_SETTING: (?!.*hidden-word)/,
    ],
    [
      "server.ts",
      { GRAFTWORK_HOME: "/etc/passwd" },
      [],
      /^HOME_UNUSABLE: .*\/etc\/passwd: a part of that path/,
    ],
    ["server.ts", { GRAFTWORK_HOME: "/proc/no/home" }, [], /^HOME_UNUSABLE: .*\/proc\/no\/home/],
    ["worker.ts", {}, [], /^BAD_SETTING: .*DATABASE_URL is not set/],
  ])("refuses to start %s with %o %o in one line and with status 1", async (program, env, args, message) => {
    const other = { GRAFTWORK_HOME: join(folder, "refused"), PORT: "0" };
    const refused = startProcess(program, { ...other, ...(env as Record<string, string>) }, args);
    expect(await refused.exited).toEqual({ code: 1, signal: null });
    expect(refused.output()).toMatch(message);
    expect(refused.output().trim().split("\n")).toHaveLength(1);
  });
});
