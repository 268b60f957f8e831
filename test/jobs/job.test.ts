import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../src/core/errors.ts";
import { type JobContext, type JobDefinition, type JobRun, runDelivery } from "../../src/jobs/job.ts";
import { MemoryBudget } from "../../src/jobs/memory.ts";
import { claimJob } from "../../src/registry/jobs.ts";
import { startImport } from "../../src/registry/models.ts";
import { DEMO, type Harness, startHarness } from "./harness.ts";

let graft: Harness;
beforeAll(async () => {
  graft = await startHarness({ worker: false });
});
afterAll(() => graft.close());

let discards = 0;
const define = (handle: JobDefinition["handle"]): JobDefinition => ({
  kind: "IMPORT_VERSION",
  concurrency: 1,
  handle,
  discard: async () => void discards++,
});

async function newJob(): Promise<string> {
  return (await startImport(graft.ctx, { name: "a/b", path: join(DEMO, "base") })).id;
}

function deliver(jobId: string, definition: JobDefinition, stopping = new AbortController().signal) {
  const ctx: JobContext = { ...graft.jobContext, workerId: "test", stopping, memory: new MemoryBudget(1e9) };
  return runDelivery(ctx, definition, { jobId, signal: new AbortController().signal, retriesLeft: 5 });
}

const read = (id: string) => graft.test.db.job.findUniqueOrThrow({ where: { id } });

describe("a job", () => {
  it("that meets an expected failure fails for good, with code, message and reasons", async () => {
    const id = await newJob();
    const reasons = [{ code: "A", message: "first", subject: "x" }];
    discards = 0;
    await deliver(
      id,
      define(async () => {
        throw new AppError("A", "no", { reasons });
      }),
    );
    expect(await read(id)).toMatchObject({ state: "FAILED", error: { code: "A", message: "no", reasons } });
    expect(discards).toBe(1);
  });

  it("that meets unexpected errors is tried three times and then fails as INTERNAL, whose words are for the log", async () => {
    const id = await newJob();
    const broken = define(async () => {
      throw new TypeError("/secret/place is not a function");
    });
    await expect(deliver(id, broken)).rejects.toThrow(`under job ${id}`);
    expect((await read(id)).state).toBe("QUEUED");
    await expect(deliver(id, broken)).rejects.toThrow();
    await deliver(id, broken);
    const job = await read(id);
    expect(job).toMatchObject({ state: "FAILED", attempt: 3, error: { code: "INTERNAL" } });
    expect((job.error as { message: string }).message).toContain(`log has the details under job ${id}`);
    const events = await graft.test.db.jobEvent.findMany({ where: { jobId: id } });
    expect(events.map(({ type }) => type)).toContain("retrying");
    expect(JSON.stringify([job.error, events])).not.toContain("/secret/place");
  });

  it("that its worker had to let go three times is still not given up", async () => {
    const id = await newJob();
    for (let i = 0; i < 4; i++) {
      const stopping = new AbortController();
      const interrupted = define(async ({ signal }) => {
        stopping.abort(new Error("the worker is being stopped"));
        signal.throwIfAborted();
      });
      await expect(deliver(id, interrupted, stopping.signal)).rejects.toThrow("its worker was stopped");
    }
    expect(await read(id)).toMatchObject({ state: "QUEUED", attempt: 4, error: null });
  });

  it("that another worker took over is stopped and writes nothing more", async () => {
    const id = await newJob();
    discards = 0;
    let run: JobRun | undefined;
    await deliver(
      id,
      define(async (given) => {
        run = given;
        await claimJob(graft.ctx, { jobId: id, workerId: "another" });
        await new Promise((_, fail) =>
          given.signal.addEventListener("abort", () => fail(given.signal.reason)),
        );
      }),
    );
    expect(await read(id)).toMatchObject({ state: "RUNNING", attempt: 2, workerId: "another" });
    // The other one is at work: nothing that is shared may be removed under its hands.
    expect(discards).toBe(0);
    await expect(run!.emit({ type: "stage" })).rejects.toMatchObject({ code: "SUPERSEDED" });
  });

  it("that has ended is not run again when the queue delivers it twice", async () => {
    const id = await newJob();
    await deliver(
      id,
      define(async () => {
        throw new AppError("A", "no");
      }),
    );
    let ran = false;
    await deliver(
      id,
      define(async () => {
        ran = true;
      }),
    );
    expect(ran).toBe(false);
    expect((await read(id)).attempt).toBe(1);
  });

  it("stores progress a few times a second, not once an event, and the last one always", async () => {
    const id = await newJob();
    const before = graft.test.queries.length;
    await expect(
      deliver(
        id,
        define(async (run) => {
          await run.follow(
            (async function* () {
              for (let done = 1; done <= 500; done++)
                yield { type: "progress", stage: "digest", done, total: 500 };
            })(),
          );
          throw new Error("stop here");
        }),
      ),
    ).rejects.toThrow();
    const writes = graft.test.queries
      .slice(before)
      .filter((sql) => sql.includes("progress_done") && /update/i.test(sql));
    expect(writes.length).toBeLessThan(10);
    expect(await read(id)).toMatchObject({ stage: "digest", progressDone: 500n, progressTotal: 500n });
  });
});
