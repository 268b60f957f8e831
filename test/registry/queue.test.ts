import { fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Delivery, JobQueue } from "../../src/registry/queue.ts";
import { type TestDatabase, testDatabase } from "../support/db.ts";

let test: TestDatabase;
let queue: JobQueue;
beforeAll(async () => {
  test = await testDatabase();
  queue = await test.queue();
});
afterAll(() => test.close());

async function until(done: () => boolean, ms = 10_000): Promise<void> {
  for (const end = Date.now() + ms; !done() && Date.now() < end; ) await sleep(20);
}

describe("the queue", () => {
  it("delivers a job when its transaction commits and nothing when it rolls back", async () => {
    const seen: string[] = [];
    await queue.work("IMPORT_VERSION", 1, async ({ jobId }) => void seen.push(jobId));
    const lost = randomUUID();
    const kept = randomUUID();
    const failing = test.db.$transaction(async (tx) => {
      await queue.enqueue(tx, { id: lost, kind: "IMPORT_VERSION" });
      throw new Error("changed my mind");
    });
    await expect(failing).rejects.toThrow("changed my mind");
    await test.db.$transaction((tx) => queue.enqueue(tx, { id: kept, kind: "IMPORT_VERSION" }));
    await until(() => seen.length > 0);
    await sleep(300);
    expect(seen).toEqual([kept]);
  });

  it("delivers again what a handler threw at", async () => {
    const deliveries: Delivery[] = [];
    await queue.work("VERIFY_MERGE", 1, async (delivery) => {
      deliveries.push(delivery);
      if (deliveries.length === 1) throw new Error("the database went away");
    });
    const id = randomUUID();
    await test.db.$transaction((tx) => queue.enqueue(tx, { id, kind: "VERIFY_MERGE" }));
    await until(() => deliveries.length === 2);
    expect(deliveries.map((delivery) => delivery.jobId)).toEqual([id, id]);
    expect(deliveries[1]!.retriesLeft).toBe(deliveries[0]!.retriesLeft - 1);
  });

  it("delivers at once what a killed server was doing, as soon as the next one releases it", async () => {
    const id = randomUUID();
    await test.db.$transaction((tx) => queue.enqueue(tx, { id, kind: "RUN_MERGE" }));
    const child = fork(fileURLToPath(new URL("./queue-process.ts", import.meta.url)), [test.url]);
    const taken = await new Promise((done) => child.once("message", done));
    expect(taken).toBe(id);
    const exited = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await exited;
    const started = Date.now();
    expect(await queue.releaseOrphans()).toBe(1);
    const seen: string[] = [];
    await queue.work("RUN_MERGE", 1, async ({ jobId }) => void seen.push(jobId));
    await until(() => seen.length > 0);
    expect(seen).toEqual([id]);
    expect(Date.now() - started).toBeLessThan(5000);
  });
});
