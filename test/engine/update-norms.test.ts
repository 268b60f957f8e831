import { cp, mkdtemp, readdir, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allTensors } from "../../src/core/checkpoint.ts";
import { widen } from "../../src/core/dtype.ts";
import { finish } from "../../src/engine/digest.ts";
import { runExtract } from "../../src/engine/extract.ts";
import { measureUpdates } from "../../src/engine/update-norms.ts";
import { readCheckpoint } from "../../src/storage/checkpoint.ts";
import { readTensors } from "../support/tensor-files.ts";

const DEMO = join(import.meta.dirname, "../fixtures/demo");

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-norms-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("the sizes of an adapter's changes", () => {
  it("are the lengths of the products B·A", async () => {
    const adapter = join(DEMO, "adapters/sentiment");
    const facts = await readCheckpoint(adapter, { roots: null });
    const measured = await finish(measureUpdates({ folder: adapter, facts }, {}));
    const tensors = await readTensors(join(adapter, "adapter_model.safetensors"));
    const [first] = allTensors(measured).filter(({ name }) => name.endsWith("lora_B.weight"));
    const [b, a] = [first!.name, first!.name.replace("lora_B", "lora_A")].map((name) => tensors.get(name)!);
    const [left, right] = [b!, a!].map(({ dtype, bytes }) => widen(dtype as "F32", bytes));
    const [rows, rank] = b!.shape as [number, number];
    const columns = a!.shape[1]!;
    let squares = 0;
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += left![i * rank + k]! * right![k * columns + j]!;
        squares += sum * sum;
      }
    expect(first!.updateNorm! / Math.sqrt(squares)).toBeCloseTo(1, 9);
    expect(allTensors(measured).filter(({ updateNorm }) => updateNorm !== undefined).length).toBe(
      tensors.size / 2,
    );
  });

  it("of a file that was cut short meanwhile are refused by its name, not taken for a bug", async () => {
    const adapter = join(folder, "cut");
    await cp(join(DEMO, "adapters/sentiment"), adapter, { recursive: true });
    const facts = await readCheckpoint(adapter, { roots: null });
    await truncate(join(adapter, "adapter_model.safetensors"), 20_000);
    await expect(finish(measureUpdates({ folder: adapter, facts }, {}))).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining("adapter_model.safetensors"),
    });
  });
});

describe("leaving an extraction early", () => {
  it("ends its threads and leaves nothing", async () => {
    const output = join(folder, "left");
    const [base, tuned] = [join(DEMO, "base"), join(DEMO, "expected/sentiment")];
    const request = {
      base,
      tuned,
      output,
      rank: 16,
      targets: null,
      baseName: "b",
      seed: 0,
      dtype: "F32" as const,
    };
    for await (const event of runExtract(request, { threads: 2 })) {
      if (event.type === "progress" && event.stage === "merge") break;
    }
    expect((await readdir(folder)).filter((name) => name.includes("left"))).toEqual([]);
  });
});
