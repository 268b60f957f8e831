import { describe, expect, it } from "vitest";
import { AppError } from "../../src/core/errors.ts";
import { MemoryBudget, withinMemory } from "../../src/jobs/memory.ts";

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A work that takes `thread` bytes a thread (and 10 besides) and ends when it is told to. */
function job(memory: MemoryBudget, thread: number, threads = 1) {
  const stop = new AbortController();
  const said: string[] = [];
  const state = { threads: 0, end: () => {} };
  const done = withinMemory(
    {
      memory,
      signal: stop.signal,
      engine: { threads },
      waiting: async (message) => {
        said.push(message);
      },
    },
    { process: 10, thread },
    async (engine) => {
      state.threads = engine.threads;
      await new Promise<void>((resolve) => {
        state.end = resolve;
      });
    },
  );
  return { state, done, said, cancel: () => stop.abort(new Error("cancelled")) };
}

describe("merges at once", () => {
  it("run together while their plans fit into the memory, and wait their turn otherwise", async () => {
    const memory = new MemoryBudget(100);
    const [first, second, third] = [job(memory, 40), job(memory, 60), job(memory, 20)];
    await settled();
    expect([first, second, third].map(({ state }) => state.threads)).toEqual([1, 0, 0]);
    // The third would fit beside the first, but then the second could wait for ever.
    expect(third.said).toEqual(["waiting for others to give back memory: this takes 1 MB"]);
    first.state.end();
    await first.done;
    await settled();
    expect([second, third].map(({ state }) => state.threads)).toEqual([1, 1]);
    second.state.end();
    third.state.end();
    await Promise.all([second.done, third.done]);
    expect(memory.isShort(100)).toBe(false);
  });

  it("use fewer threads where all of them do not fit", async () => {
    const wide = job(new MemoryBudget(100), 40, 8);
    await settled();
    expect(wide.state.threads).toBe(2);
    wide.state.end();
    await wide.done;
  });

  it("are refused where not even one thread fits, with the setting that allows more", async () => {
    const error = await job(new MemoryBudget(100), 95).done.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(AppError);
    expect(error).toMatchObject({ code: "NOT_ENOUGH_MEMORY", details: { needed: 105, allowed: 100 } });
    expect((error as AppError).message).toContain("GRAFTWORK_MEMORY");
  });

  it("that are cancelled while they wait leave their place to the next", async () => {
    const memory = new MemoryBudget(100);
    const [first, second, third] = [job(memory, 40), job(memory, 80), job(memory, 30)];
    await settled();
    second.cancel();
    await expect(second.done).rejects.toThrow("cancelled");
    await settled();
    expect(third.state.threads).toBe(1);
    first.state.end();
    third.state.end();
    await Promise.all([first.done, third.done]);
  });
});
