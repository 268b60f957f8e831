import { describe, expect, test } from "vitest";
import { createLog, type LogLevel } from "../src/log.ts";

function capture(options: { level?: LogLevel; readable?: boolean; secrets?: string[] } = {}) {
  const lines: string[] = [];
  const log = createLog({ level: "info", readable: false, ...options, write: (line) => lines.push(line) });
  return { log, lines };
}

describe("the log", () => {
  test("writes one JSON document a line", () => {
    const { log, lines } = capture();
    log.info("two\nlines", { jobId: "7", bytes: 12n });
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain("\n");
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: "info",
      message: "two\nlines",
      jobId: "7",
      bytes: "12",
    });
  });

  test("leaves out what is below its level", () => {
    const { log, lines } = capture({ level: "warn" });
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
    expect(lines.map((line) => JSON.parse(line).message)).toEqual(["c", "d"]);
  });

  test("never writes a secret: not by value, not by field name, not in a URL, not inside an error", () => {
    const { log, lines } = capture({ secrets: ["gw_supersecret"] });
    const error = new Error("could not use gw_supersecret", {
      cause: new Error("postgresql://me:hunter2@db/graftwork is away"),
    });
    log.error("starting with gw_supersecret", {
      error,
      adminToken: "another",
      url: "postgres://a:hunter2@h/d",
    });
    expect(lines.join()).not.toMatch(/supersecret|hunter2|another/);
    expect(lines.join()).toContain("postgresql://me:[hidden]@db/graftwork");
  });

  test("keeps code, message, stack and cause of an error", () => {
    const { log, lines } = capture();
    log.error("failed", { error: Object.assign(new Error("no"), { code: "ECONNREFUSED" }) });
    const { error } = JSON.parse(lines[0]!);
    expect(error).toMatchObject({ code: "ECONNREFUSED", message: "no" });
    expect(error.stack).toContain("log.test.ts");
  });

  test("is readable on a terminal and passes no escape sequences on", () => {
    const { log, lines } = capture({ readable: true });
    log.warn("odd file \u001b[31mred", { path: "a b" });
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d warn: odd file red path=a b$/);
  });
});
