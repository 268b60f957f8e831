import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lineageTree } from "../src/demo-show.ts";
import { readTensors } from "./support/tensor-files.ts";

const ROOT = join(import.meta.dirname, "..");

/** Runs the demo as `npm run demo -- --once` does after its set-up. */
function start(env: Record<string, string>, ...args: string[]) {
  const child = spawn(process.execPath, ["src/demo.ts", ...args], {
    cwd: ROOT,
    env: { ...process.env, DATABASE_URL: "", GRAFTWORK_IMPORT_ROOTS: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { child, ended };
}

const demo = (...args: Parameters<typeof start>) => start(...args).ended;

describe("npm run demo -- --once", () => {
  let home: string;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "graftwork-demo-"));
  });
  afterAll(() => rm(home, { recursive: true, force: true }));

  it("imports, plans, merges, checks, verifies, evaluates and shows the lineage; twice does no harm", async () => {
    const first = await demo({ GRAFTWORK_HOME: home, PORT: "0" }, "--once");
    expect(first.stderr).toBe("");
    expect(first.code).toBe(0);
    expect(first.stdout.match(/verdict IDENTICAL, 56 tensors/g)).toHaveLength(2);
    expect(first.stdout.match(/check PASSED/g)).toHaveLength(2);
    expect(first.stdout.match(/ PASSED under the gate default@1/g)).toHaveLength(2);
    expect(first.stdout).not.toContain("FAIL");
    expect(first.stdout).toMatch(/42 of 56 tensors change/);
    expect(first.stdout).toMatch(
      /Console {2}http:\/\/127\.0\.0\.1:\d+\/models\/graftwork\/sentiment-merged@1/,
    );
    expect(first.stdout).toContain("graftwork/demo-base@1  base\n");
    expect(first.stdout).toContain("─ graftwork/sentiment@1  adapter, trained on graftwork/demo-base@1\n");
    expect(first.stdout).toMatch(/└─ graftwork\/sentiment-merged@1 {2}merged, .*graftwork\/sentiment@1/);

    // What came out through the API is what PEFT writes, byte for byte.
    const folder = /merged in .*?: (\/.*)/.exec(first.stdout)![1]!;
    const expected = await readTensors(join(ROOT, "test/fixtures/demo/expected/sentiment/model.safetensors"));
    const actual = await readTensors(join(folder, "model.safetensors"));
    for (const [name, { bytes }] of expected) expect(actual.get(name)!.bytes.equals(bytes), name).toBe(true);

    const second = await demo({ GRAFTWORK_HOME: home, PORT: "0" }, "--once");
    expect(second.stderr).toBe("");
    expect(second.code).toBe(0);
    expect(second.stdout.match(/these bytes were imported before/g)).toHaveLength(3);
    expect(second.stdout.match(/merged before: cached/g)).toHaveLength(2);
    const digests = (text: string) => text.slice(text.indexOf("\nDigests"), text.indexOf("\nConsole"));
    expect(digests(second.stdout)).toBe(digests(first.stdout));
  }, 180_000);

  it("fails with another exit code, and says why, when a step fails", async () => {
    const { code, stderr } = await demo(
      { GRAFTWORK_HOME: home, PORT: "0", GRAFTWORK_IMPORT_ROOTS: join(home, "nothing") },
      "--once",
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/the demo failed: PATH_OUTSIDE_ROOTS: .*GRAFTWORK_IMPORT_ROOTS/);
  }, 120_000);

  it("does not take something else on its port for the server", async () => {
    const other = createServer((_request, response) => response.writeHead(404).end("not here"));
    await new Promise<void>((done) => other.listen(0, "127.0.0.1", done));
    const port = String((other.address() as AddressInfo).port);
    const { code, stderr } = await demo({ GRAFTWORK_HOME: home, PORT: port }, "--once");
    other.close();
    expect(code).toBe(1);
    expect(stderr).toMatch(/PORT_IN_USE: .*Stop it, or set PORT/);
  });

  it("takes its server along when it is stopped before the end", async () => {
    const { child, ended } = start({ GRAFTWORK_HOME: home, PORT: "0" });
    child.stdout.on("data", (text: string) => {
      if (text.includes("Merge into")) child.kill("SIGTERM");
    });
    const { code, stdout } = await ended;
    expect(code).toBe(1);
    const url = /(http:\S+)/.exec(stdout)![1]!;
    await expect(fetch(url)).rejects.toThrow();
  });

  it("without --once keeps serving, and says where the console and the token are, not what the server logged", async () => {
    const { child, ended } = start({ GRAFTWORK_HOME: home, PORT: "0" });
    let answer: Promise<number> | null = null;
    let text = "";
    child.stdout.on("data", (chunk: string) => {
      text += chunk;
      const url = /Serving at (\S+) until Ctrl-C/.exec(text)?.[1];
      if (!url || answer) return;
      answer = fetch(url)
        .then((response) => response.status)
        .finally(() => child.kill("SIGTERM"));
    });
    const { stdout, stderr } = await ended;
    expect(await answer).toBe(200);
    expect(stdout).toContain(`the token to sign in with stands in ${join(home, "admin-token")}.`);
    // From here on what the server says is shown: that it stops. What it said before is not.
    expect(stderr).not.toMatch(/Admin token|is ready|job started/);
  }, 60_000);

  it("is what npm runs", async () => {
    const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    expect(scripts.demo).toBe("node setup.mjs src/demo.ts");
  });
});

describe("the lineage as a tree", () => {
  const version = (ref: string, kind: "BASE" | "ADAPTER" | "MERGED") => ({ id: ref, ref, kind });
  const base = version("a/base@1", "BASE");
  const tune = version("a/tune@1", "ADAPTER");
  const merged = version("a/merged@1", "MERGED");
  const edge = (
    parent: typeof base,
    child: typeof base,
    relation: "TRAINED_ON" | "MERGED_FROM",
    weight: number,
  ) => ({
    parent,
    child,
    relation,
    role: parent.kind === "BASE" ? ("BASE" as const) : ("ADAPTER" as const),
    weight,
    parentDigest: "",
    recipeDigest: null,
    depth: 1,
  });

  it("names every version once and what it came from", () => {
    const edges = [
      edge(base, tune, "TRAINED_ON", 1),
      edge(base, merged, "MERGED_FROM", 1),
      edge(tune, merged, "MERGED_FROM", 0.5),
      edge(tune, merged, "MERGED_FROM", 0.5),
    ];
    expect(lineageTree(base, edges)).toEqual([
      "a/base@1  base",
      "└─ a/tune@1  adapter, trained on a/base@1",
      "   └─ a/merged@1  merged, a/base@1 + 0.5 × a/tune@1",
    ]);
  });
});
