import { homedir, totalmem } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { digestCacheFolder, readSettings, SETTINGS } from "../src/config.ts";
import { AppError } from "../src/core/errors.ts";

const read = (env: Record<string, string>) => readSettings(env, "/somewhere");

function refused(env: Record<string, string>): AppError {
  try {
    read(env);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error("the settings were accepted");
}

describe("settings", () => {
  test("with an empty environment are the documented defaults", () => {
    const settings = read({});
    expect(settings).toMatchObject({
      port: 4000,
      host: "127.0.0.1",
      databaseUrl: null,
      home: "/somewhere/.graftwork",
      adminToken: null,
      importRoots: ["/somewhere", join(homedir(), ".cache", "huggingface", "hub")],
      failpoint: null,
      logLevel: "info",
      introspection: true,
    });
    expect(settings.threads).toBeGreaterThan(0);
    expect(settings.memory).toBeGreaterThan(100_000_000);
    expect(settings.memory).toBeLessThanOrEqual(totalmem() / 2);
  });

  test("that are empty count as unset, as docker compose passes them", () => {
    expect(read(Object.fromEntries(SETTINGS.map(({ name }) => [name, ""])))).toEqual(read({}));
  });

  test("are taken from the environment", () => {
    const settings = read({
      PORT: "0",
      HOST: "0.0.0.0",
      DATABASE_URL: "postgresql://me:pw@db:5432/graftwork",
      GRAFTWORK_HOME: "/data",
      GRAFTWORK_ADMIN_TOKEN: "a-token-that-is-long-enough",
      GRAFTWORK_IMPORT_ROOTS: "/models:/more/",
      GRAFTWORK_THREADS: "3",
      GRAFTWORK_MEMORY: "1500",
      GRAFTWORK_LOG: "debug",
      GRAFTWORK_INTROSPECTION: "off",
      GRAFTWORK_FAILPOINT: "after-sync",
    });
    expect(settings).toEqual({
      port: 0,
      host: "0.0.0.0",
      databaseUrl: "postgresql://me:pw@db:5432/graftwork",
      home: "/data",
      adminToken: "a-token-that-is-long-enough",
      importRoots: ["/models", "/more"],
      threads: 3,
      memory: 1_500_000_000,
      logLevel: "debug",
      introspection: false,
      failpoint: "after-sync",
    });
  });

  test.each([
    [{ HF_HUB_CACHE: "/hub", HF_HOME: "/hf" }, "/hub"],
    [{ HF_HOME: "/hf" }, "/hf/hub"],
    [{ XDG_CACHE_HOME: "/cache" }, "/cache/huggingface/hub"],
  ])("find the Hugging Face cache where %o puts it", (env, folder) => {
    expect(read(env).importRoots).toEqual(["/somewhere", folder]);
  });

  test.each([
    [{ GRAFTWORK_HOME: "mine" }, "/somewhere/mine/cache/digests"],
    [{ XDG_CACHE_HOME: "/cache" }, "/cache/graftwork/digests"],
    [{}, join(homedir(), ".cache", "graftwork", "digests")],
  ])("put the digests that the command line remembers where %o says", (env, folder) => {
    expect(digestCacheFolder(env, "/somewhere")).toBe(folder);
  });

  test.each([
    ["PORT", "65536"],
    ["PORT", "4000x"],
    ["PORT", "-1"],
    ["HOST", "http://localhost"],
    ["GRAFTWORK_THREADS", "0"],
    ["GRAFTWORK_MEMORY", "1.5G"],
    ["GRAFTWORK_MEMORY", "99"],
    ["GRAFTWORK_LOG", "loud"],
    ["GRAFTWORK_FAILPOINT", "somewhere"],
    ["GRAFTWORK_IMPORT_ROOTS", "models"],
    ["GRAFTWORK_IMPORT_ROOTS", "/models:more"],
    ["GRAFTWORK_INTROSPECTION", "yes"],
  ])("refuse %s=%s and say the name, the value and what is allowed", (name, value) => {
    const error = refused({ [name]: value });
    expect(error.code).toBe("BAD_SETTING");
    expect(error.message).toContain(`${name} is "${value}"`);
    expect(error.message).toContain("it must be");
  });

  test.each([
    ["DATABASE_URL", "mysql://me:hunter2@db/graftwork"],
    ["GRAFTWORK_ADMIN_TOKEN", "hunter2"],
  ])("refuse a wrong %s without repeating the secret", (name, value) => {
    const error = refused({ [name]: value });
    expect(error.message).toContain(name);
    expect(error.message).not.toContain("hunter2");
  });

  test("name every wrong variable at once", () => {
    const error = refused({ PORT: "x", GRAFTWORK_LOG: "y" });
    expect(error.reasons?.map((reason) => reason.subject)).toEqual(["PORT", "GRAFTWORK_LOG"]);
  });
});
