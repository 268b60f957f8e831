import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, DEMO } from "../support/cli.ts";

const base = join(DEMO, "base");
const adapter = join(DEMO, "adapters/sentiment");
const ZEROS = `sha256:${"0".repeat(64)}`;

let temporary: string;
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), "graftwork-pins-"));
});
afterAll(() => rm(temporary, { recursive: true, force: true }));

const run = (command: string, ...more: string[]) =>
  cli(command, "--base", base, "--adapter", adapter, "--json", ...more);
const digestOf = async (folder: string): Promise<string> =>
  JSON.parse((await cli("inspect", folder, "--json")).stdout).digests.version;

describe("a pinned digest", () => {
  it("that disagrees is refused by a plan already, for the base and for the adapter", async () => {
    for (const option of ["--base-digest", "--adapter-digest"]) {
      const { code, stdout } = await run("plan", option, ZEROS);
      expect(JSON.parse(stdout).error.code, option).toBe("DIGEST_MISMATCH");
      expect(code).toBe(1);
    }
  });

  it("that agrees is merged and stands in the recipe", async () => {
    const pins = ["--base-digest", await digestOf(base), "--adapter-digest", await digestOf(adapter)];
    const { code, stdout } = await run("merge", ...pins, "--out", join(temporary, "good"));
    expect(code).toBe(0);
    const document = JSON.parse(stdout);
    expect(document.digests.version).toBe(await digestOf(join(temporary, "good")));
    expect(document.recipe.base.version).toBe(pins[1]);
    expect(document.recipe.sources[0].version).toBe(pins[3]);
  });
});
