import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { shownTests, unshownCases } from "./support/features.ts";
import { printedReadme, readmeCode, readReadme } from "./support/readme.ts";
import { requirement } from "./support/require.ts";
import { type ServerProcess, startServerProcess } from "./support/server.ts";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "..");

let home: string;
let server: ServerProcess;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "graftwork-readme-"));
  server = await startServerProcess({ GRAFTWORK_HOME: home });
});
afterAll(async () => {
  await server.stop();
  await rm(home, { recursive: true, force: true });
});

/** Runs the lines as they are printed; only where the server is comes from outside. */
async function runLines(command: string, part: string): Promise<string> {
  const env = { ...process.env, SERVER: server.url, GRAFTWORK_HOME: home };
  const { stdout, stderr } = await run(command, ["-c", readmeCode(part)], { cwd: ROOT, env });
  expect(stderr).toBe("");
  return stdout;
}

describe("the README", () => {
  it("has its tables printed from settings and results", () => {
    expect(readReadme()).toBe(printedReadme());
  });

  it("shows every golden case in its table of what works, and names tests that exist", () => {
    expect(unshownCases()).toEqual([]);
    expect(shownTests().filter((test) => !existsSync(join(ROOT, test)))).toEqual([]);
  });

  it.skipIf(!requirement("curl"))(
    "has curl lines that import, plan, merge, show lineage and verify",
    async () => {
      const lines = (await runLines("bash", "curl")).trim().split("\n");
      const answers = lines.map((line) => JSON.parse(line));
      expect(answers.filter((answer) => answer.errors)).toEqual([]);
      expect(answers.map((answer) => answer.data.job?.state ?? null)).not.toContain("FAILED");
      const plan = answers.find((answer) => answer.data.mergePlan).data.mergePlan.plan;
      expect(plan).toMatchObject({ runnable: true, touchedCount: 42, refusals: [] });
      const { version } = answers.find((answer) => answer.data.version).data;
      expect(version).toMatchObject({ ref: "graftwork/sentiment-merged@1", merge: { verdict: "PASSED" } });
      expect(version.parents.edges.map((edge: { role: string }) => edge.role)).toEqual(["BASE", "ADAPTER"]);
      const verified = answers.at(-1).data.job.result;
      expect(verified).toMatchObject({
        verdict: "PASSED",
        merge: { verification: { report: { verdict: "IDENTICAL" } } },
      });
    },
  );

  it.skipIf(!requirement("python"))("has Python lines that do the same", async () => {
    const lines = (await runLines("python3", "python")).trim().split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[3]).toMatch(/'verdict': 'PASSED', 'reasons': \[\], 'reportPath': '\/evaluations\//);
    expect(lines[0]).toMatch(/^graftwork\/demo-polite@1 sha256:[0-9a-f]{64}$/);
    expect(lines[1]).toBe("[('BASE', 'graftwork/demo-base@1'), ('ADAPTER', 'graftwork/polite@1')]");
    expect(lines[2]).toBe("{'verdict': 'PASSED'}");
  });
});
