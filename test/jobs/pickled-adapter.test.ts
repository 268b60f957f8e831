import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { loadVersion } from "../../src/registry/checkpoints.ts";
import { type Harness, startHarness } from "./harness.ts";

const FIXTURES = join(import.meta.dirname, "../fixtures");
const CASE = join(FIXTURES, "merge/old-bin");

let graft: Harness;
beforeAll(async () => {
  graft = await startHarness();
  await cp(join(FIXTURES, "models/llama-bf16"), join(graft.root, "base"), { recursive: true });
  await cp(join(CASE, "adapter"), join(graft.root, "run/polite"), { recursive: true });
});
afterAll(() => graft.close());

describe("an adapter_model.bin in a sub-folder", () => {
  it("is imported with a warning that says where it was found, its tensors digested in place", async () => {
    await graft.import({ name: "old/base", path: join(graft.root, "base") });
    const job = await graft.import({ name: "old/adapter", path: join(graft.root, "run"), base: "old/base" });
    expect(job.error).toBeNull();
    const warnings = job.events.filter(({ type }) => type === "warning").map(({ data }) => data);
    expect(warnings).toMatchObject([{ code: "ADAPTER_IN_SUBFOLDER", subject: "polite" }]);
    const version = await loadVersion(graft.test.db, job.versionId!);
    expect(version.location).toBe(join(graft.root, "run/polite"));
    expect(version.facts.weights.map(({ path, tensors }) => [path, tensors.length])).toEqual([
      ["adapter_model.bin", 8],
    ]);
    for (const { digest, stats } of allTensors(version.facts)) {
      expect(digest).toMatch(/^sha256:/);
      expect(stats?.rms).toBeGreaterThan(0);
    }
  });

  it("merges from the registry into the bytes that PEFT wrote", async () => {
    const job = await graft.merge("old/base", "old/adapter", "old/merged");
    expect(job.error).toBeNull();
    const { facts } = await loadVersion(graft.test.db, job.versionId!);
    const expected = JSON.parse(await readFile(join(CASE, "expected.json"), "utf8"));
    expect(Object.fromEntries(allTensors(facts).map(({ name, digest }) => [name, digest]))).toEqual(
      Object.fromEntries(
        Object.entries<{ digest: string }>(expected).map(([name, one]) => [name, one.digest]),
      ),
    );
  });
});
