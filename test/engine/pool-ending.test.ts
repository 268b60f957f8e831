import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type PoolEvent,
  type PoolOptions,
  runTensorTasks,
  runWork,
  type TensorTask,
} from "../../src/engine/pool.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graftwork-pool-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Copies a file of sevens. */
function copyTask(name: string, bytes: number): TensorTask {
  const path = file(`${name}.in`, new Uint8Array(bytes).fill(7));
  return {
    name,
    dtype: "U8",
    shape: [bytes],
    input: { key: `base ${name}`, path, offset: 0, bytes, dtype: "U8", shape: [bytes] },
    output: { path: file(`${name}.out`, new Uint8Array(0)), offset: 0 },
  };
}

async function drain(
  tasks: readonly TensorTask[],
  options: PoolOptions & { onEvent?: (event: PoolEvent) => void },
): Promise<PoolEvent[]> {
  const events: PoolEvent[] = [];
  for await (const event of runTensorTasks(tasks, options)) {
    events.push(event);
    options.onEvent?.(event);
  }
  return events;
}

describe("ending early", () => {
  async function threadsLeft(): Promise<number> {
    return process.getActiveResourcesInfo().filter((kind) => kind === "MessagePort" || kind === "Worker")
      .length;
  }

  test("an abort rejects with the signal's reason and leaves no thread behind", async () => {
    const before = await threadsLeft();
    const controller = new AbortController();
    const reason = new Error("cancelled by ada");
    const events: PoolEvent[] = [];
    let aborted = 0;
    const drained = drain([copyTask("one", 120_000_000), copyTask("two", 120_000_000)], {
      threads: 2,
      signal: controller.signal,
      onEvent: (event) => {
        events.push(event);
        aborted = performance.now();
        controller.abort(reason);
      },
    });
    await expect(drained).rejects.toBe(reason);
    expect(events.length).toBeLessThanOrEqual(1);
    // Below the grace after which a thread is ended by force.
    expect(performance.now() - aborted).toBeLessThan(1500);
    expect(await threadsLeft()).toBe(before);
  });

  test("a signal that is aborted already starts nothing", async () => {
    const reason = new Error("too late");
    await expect(
      drain([copyTask("one", 10)], { threads: 1, signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
  });

  test("leaving the loop ends the threads", async () => {
    const before = await threadsLeft();
    for await (const _ of runTensorTasks([copyTask("one", 60_000_000)], { threads: 1 })) break;
    expect(await threadsLeft()).toBe(before);
  });

  test("works that wait for each other are a bug that is said, not a process that hangs", async () => {
    const works = [copyTask("a", 10), copyTask("b", 10)].map((task, i) => ({
      kind: "tensor" as const,
      task,
      after: [1 - i],
    }));
    const drained = async () => {
      for await (const _ of runWork(works, { threads: 2 }));
    };
    await expect(drained()).rejects.toThrow("wait for each other");
  });

  test("no task, no thread, no event", async () => {
    expect(await drain([], { threads: 2 })).toEqual([]);
  });

  test("the failpoint kills the process once a part of a tensor is on disk", async () => {
    const task = copyTask("half", 600_000);
    const pool = new URL("../../src/engine/pool.ts", import.meta.url).href;
    const script = file(
      "run.mjs",
      Buffer.from(`
      const { runTensorTasks } = await import(${JSON.stringify(pool)});
      const tasks = ${JSON.stringify([task])};
      for await (const _ of runTensorTasks(tasks, { threads: 1, failpoint: "mid-tensor" }));
    `),
    );
    const signal = await new Promise((resolve) => {
      execFile(process.execPath, [script], (error) => resolve(error?.signal));
    });
    expect(signal).toBe("SIGKILL");
    const written = readFileSync(task.output!.path);
    expect(written.byteLength).toBeGreaterThan(0);
    expect(written.byteLength).toBeLessThan(600_000);
    expect(written.every((byte) => byte === 7)).toBe(true);
  });
});
