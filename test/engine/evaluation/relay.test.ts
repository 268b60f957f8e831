import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { alignSides } from "../../../src/engine/evaluation/pair.ts";
import { relayed } from "../../../src/engine/evaluation/relay.ts";
import { checkpointSide } from "../../../src/engine/evaluation/sides.ts";
import { locate } from "../../support/forward.ts";

const located = await locate(join(import.meta.dirname, "../../fixtures/models/llama-fp32"));
const setup = {
  ...alignSides([checkpointSide(located)]),
  device: "onnx-cpu",
  threads: 1,
  cacheBytes: 0,
} as const;
const sequences = Array.from({ length: 3 }, () => Int32Array.of(1, 2, 3));
const request = { type: "logits", setup, sequences, hidden: true } as const;

/** Children of this process that are still there. */
const children = () =>
  process.getActiveResourcesInfo().filter((resource) => resource === "ProcessWrap").length;

describe("what a process tells of a model", () => {
  it("comes tensor by tensor, the next ones computed only when the last one was taken", async () => {
    const names: string[] = [];
    const events = relayed(request, { threads: 1 }, (message) => {
      if (message.type === "tensor") names.push(`${message.tensor.sequence} ${message.tensor.name}`);
      return null;
    });
    const end = await events.next();
    expect(end).toMatchObject({ done: true, value: { type: "done" } });
    const each = ["embed", "hidden.0", "hidden.1", "final", "logits"];
    expect(names).toEqual([0, 1, 2].flatMap((sequence) => each.map((name) => `${sequence} ${name}`)));
  });

  it("ends with its process where what is done with it fails, and where nobody wants the rest", async () => {
    await expect.poll(children).toBe(0);
    const failing = relayed(request, { threads: 1 }, () => {
      expect(children()).toBe(1);
      throw new Error("the disk is full");
    });
    await expect(failing.next()).rejects.toThrow("the disk is full");
    await expect.poll(children).toBe(0);
    const progress = { type: "progress", stage: "logits", done: 1, total: 2 } as const;
    const left = relayed(request, { threads: 1 }, () => progress);
    await left.next();
    expect(children()).toBe(1);
    await left.return(undefined as never);
    await expect.poll(children).toBe(0);
  });
});
