import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpointDigests } from "../../src/core/checkpoint.ts";
import { digestCheckpoint, finish } from "../../src/engine/digest.ts";
import { measureUpdates } from "../../src/engine/update-norms.ts";
import { registerWorker, workerIsAlive } from "../../src/registry/devices.ts";
import { recordImport, startImport } from "../../src/registry/models.ts";
import { readCheckpoint } from "../../src/storage/checkpoint.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";
import { stranger, type TestApi, testApi } from "../support/graphql.ts";
import { demoFolder, type Seed, seed } from "../support/seed.ts";

let test: TestDatabase;
let s: Seed;
let api: TestApi;

beforeAll(async () => {
  test = await testDatabase();
  s = await seed(test);
  api = await testApi();
  await imported("demo/base", "BASE", "base");
  await imported("demo/light", "ADAPTER", "adapters/light-touch");
  await imported("demo/sentiment", "ADAPTER", "adapters/sentiment");
});
afterAll(async () => {
  await api.apollo.stop();
  await test.close();
});

/** As the import job does it: digests, statistics, and the sizes of an adapter's changes. */
async function imported(name: string, kind: "BASE" | "ADAPTER", demo: string) {
  const folder = demoFolder(demo);
  const options = { threads: 1 };
  const read = await readCheckpoint(folder, { roots: null });
  const digested = await finish(digestCheckpoint({ folder, facts: read }, options));
  const facts = kind === "BASE" ? digested : await finish(measureUpdates({ folder, facts: digested }, {}));
  const job = await startImport(s.admin, {
    name,
    kind,
    path: folder,
    ...(kind === "ADAPTER" && { base: "demo/base" }),
  });
  const outcome = { facts, digests: checkpointDigests(facts), location: folder };
  await recordImport(s.worker, await s.claim(job.id), outcome);
}

const REPORT = `query ($ref: String!, $base: VersionRefInput!) { version(ref: $ref) { compatibility(base: $base) {
  compatible statedBase statedRevision baseQuantization expectedError
  vocabulary { baseSize baseMaxTokenId adapterMaxTokenId tokenizerDifferences }
  plan { refusals { code } warnings { code } bytesToWrite memory { processBytes threadBytes } room { freeDiskBytes memoryBytes }
    coverage { tensorCount consumedCount ignored orphaned missing duplicated }
    touched(first: 3) { nodes { change rank forecast { weightRms deltaRms relativeError unchangedShare } } } }
} } }`;

async function report(ref: string, base = "demo/base") {
  const { data, errors } = await api.ask(s.admin, REPORT, { ref, base: { ref: base } });
  expect(errors).toEqual([]);
  return data.version.compatibility;
}

describe("the compatibility of an adapter with a base", () => {
  it("says what would be merged, and what rounding would cost, without reading a model file", async () => {
    const found = await report("demo/light");
    expect(found).toMatchObject({ compatible: true, baseQuantization: null, plan: { refusals: [] } });
    const [coverage] = found.plan.coverage;
    expect(coverage).toMatchObject({ ignored: [], orphaned: [], missing: [], duplicated: [] });
    expect(coverage.consumedCount).toBe(coverage.tensorCount);
    for (const { change, forecast } of found.plan.touched.nodes) {
      expect(change).toBe("LoRA");
      expect(forecast.weightRms).toBeGreaterThan(0);
      // This adapter was trained for 60 steps at a small rate: its change is 0.6 to 1.9 % of the weights.
      expect(forecast.deltaRms / forecast.weightRms).toBeGreaterThan(0.005);
      expect(forecast.deltaRms / forecast.weightRms).toBeLessThan(0.02);
      expect(forecast.relativeError).toBeGreaterThan(0.05);
    }
    expect(found.expectedError).toBeGreaterThan(0.05);
    expect(Number(found.plan.memory.threadBytes)).toBeGreaterThan(1_000_000);
    // No worker has told yet.
    expect(found.plan.room).toEqual({ freeDiskBytes: null, memoryBytes: null });
  });

  it("says what the workers have room for", async () => {
    await registerWorker(s.worker, { name: "big/1", devices: [] });
    await registerWorker(s.worker, { name: "small/1", devices: [] });
    await workerIsAlive(s.worker, "big/1", { freeDiskBytes: 9e12, memoryBytes: 4e9 });
    await workerIsAlive(s.worker, "small/1", { freeDiskBytes: 5, memoryBytes: 6e9 });
    const { room } = (await report("demo/light")).plan;
    expect(room).toEqual({ freeDiskBytes: "9000000000000", memoryBytes: "6000000000" });
  });

  it("expects less loss from an adapter with larger changes", async () => {
    expect((await report("demo/sentiment")).expectedError).toBeLessThan(
      (await report("demo/light")).expectedError,
    );
  });

  it("with something that is no base says every reason", async () => {
    const found = await report("demo/light", "demo/sentiment");
    expect(found.compatible).toBe(false);
    expect(found.plan.refusals.map((finding: { code: string }) => finding.code)).toContain(
      "NOT_A_CHECKPOINT",
    );
  });

  it("is a question about adapters only", async () => {
    expect(await report("demo/base")).toBeNull();
  });

  it("tells a stranger nothing of private versions, not even whether they are there", async () => {
    await test.db.model.updateMany({ where: { name: "light" }, data: { visibility: "PUBLIC" } });
    const ask = async (ref: string, base: object) => {
      const { data, errors } = await api.ask(stranger(s.admin), REPORT, { ref, base });
      const [error] = errors;
      return { version: data.version, says: error?.message, reason: error?.extensions?.reason };
    };
    expect(await ask("demo/sentiment", { ref: "demo/base" })).toMatchObject({
      version: null,
      says: undefined,
    });
    const { digest, id } = await test.db.version.findFirstOrThrow({ where: { model: { name: "base" } } });
    const globalId = Buffer.from(`Version:${id}`).toString("base64url");
    const none = Buffer.from(`Version:${id.replace(/.$/, (c) => (c === "0" ? "1" : "0"))}`).toString(
      "base64url",
    );
    for (const [there, not] of [
      [{ ref: "demo/base" }, { ref: "demo/nothing" }],
      [{ digest }, { digest: `sha256:${"0".repeat(64)}` }],
      [{ id: globalId }, { id: none }],
    ] as const) {
      const [hidden, absent] = [await ask("demo/light", there), await ask("demo/light", not)];
      expect(hidden).toMatchObject({ version: { compatibility: null }, reason: "NOT_FOUND" });
      expect(absent).toMatchObject({ version: { compatibility: null }, reason: "NOT_FOUND" });
    }
  });
});
