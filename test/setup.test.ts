import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

/** Notes that it began and ended, and makes a `node` that makes what the other steps make. */
const NPM = `
  const fs = require("node:fs");
  fs.appendFileSync("log", "begin\\n");
  setTimeout(() => {
    fs.mkdirSync("node_modules/node", { recursive: true });
    fs.mkdirSync("node_modules/.bin", { recursive: true });
    const made = ["prisma/client/client.ts", "src/engine/wasm/build/kernels.wasm", "web/dist/index.html"];
    const lines = made.map((file) => "mkdir -p $(dirname " + file + "); touch " + file);
    fs.writeFileSync("node_modules/.bin/node", ["#!/bin/sh", ...lines, ""].join("\\n"), { mode: 0o755 });
    fs.appendFileSync("log", "end\\n");
  }, 500);
`;

let clone: string;
beforeAll(async () => {
  clone = await realpath(await mkdtemp(join(tmpdir(), "graftwork-clone-")));
  await copyFile(join(import.meta.dirname, "../setup.mjs"), join(clone, "setup.mjs"));
  await writeFile(join(clone, "npm.cjs"), NPM);
  await writeFile(join(clone, "package-lock.json"), "{}");
  await mkdir(join(clone, "src"));
});
afterAll(() => rm(clone, { recursive: true, force: true }));

async function setUp(): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, ["setup.mjs"], {
    cwd: clone,
    env: { ...process.env, npm_execpath: join(clone, "npm.cjs"), npm_config_loglevel: "notice" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  const [code] = await once(child, "close");
  return { code, said };
}

describe("set-up", () => {
  it("started twice at once in one clone installs once, and again does nothing", async () => {
    const both = await Promise.all([setUp(), setUp()]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    expect(await readFile(join(clone, "log"), "utf8")).toBe("begin\nend\n");
    expect(both.filter(({ said }) => said.includes("waiting for another one"))).toHaveLength(1);
    expect(await setUp()).toEqual({ code: 0, said: "" });
  });

  it("goes on after one that was killed", async () => {
    await rm(join(clone, "node_modules"), { recursive: true });
    const first = spawn(process.execPath, ["setup.mjs"], {
      cwd: clone,
      env: { ...process.env, npm_execpath: join(clone, "npm.cjs") },
      stdio: "ignore",
    });
    while ((await readFile(join(clone, "log"), "utf8")).split("begin").length < 3) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    first.kill("SIGKILL");
    await once(first, "close");
    expect((await setUp()).code).toBe(0);
  });
});
