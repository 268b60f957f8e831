import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TensorFile } from "../../src/storage/tensor-file.ts";
import { writeTextFolder } from "../../src/storage/text-folder.ts";
import { readTokenFile } from "../../src/storage/token-file.ts";
import { safetensorsFile } from "../support/safetensors.ts";
import { readTensors } from "../support/tensor-files.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "graftwork-tensor-file-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const TENSORS = [
  { name: "a", dtype: "F32", shape: [2, 2] },
  { name: "b", dtype: "I64", shape: [2] },
] as const;

describe("a file of tensors that is written piece by piece", () => {
  it("takes pieces in any order, is zero elsewhere, and appears when it is published", async () => {
    const path = join(folder, "new", "out.safetensors");
    {
      await using file = await TensorFile.create(path, TENSORS, { format: "pt" });
      await file.write("b", 8, BigInt64Array.of(7n));
      await file.write("a", 4, Float32Array.of(1.5, 2.5));
      expect(await readdir(join(folder, "new"))).not.toContain("out.safetensors");
      await file.publish();
    }
    const tensors = await readTensors(path);
    const bytes = (name: string) => Uint8Array.from(tensors.get(name)!.bytes).buffer;
    expect([...new Float32Array(bytes("a"))]).toEqual([0, 1.5, 2.5, 0]);
    expect([...new BigInt64Array(bytes("b"))]).toEqual([0n, 7n]);
    expect(await readdir(join(folder, "new"))).toEqual(["out.safetensors"]);
  });

  it("leaves nothing where it is given up, and replaces nothing", async () => {
    const path = join(folder, "given-up.safetensors");
    await expect(
      (async () => {
        await using file = await TensorFile.create(path, TENSORS);
        await file.write("a", 0, Float32Array.of(1));
        throw new Error("stopped");
      })(),
    ).rejects.toThrow("stopped");
    expect((await readdir(folder)).filter((name) => name.includes("given-up"))).toEqual([]);
    await writeFile(path, "mine");
    await expect(TensorFile.create(path, TENSORS)).rejects.toMatchObject({ code: "OUTPUT_EXISTS" });
  });

  it("has no place beside its tensors", async () => {
    await using file = await TensorFile.create(join(folder, "places.safetensors"), TENSORS);
    await expect(file.write("a", 12, Float32Array.of(1, 2))).rejects.toThrow(/no place/);
    await expect(file.write("c", 0, Float32Array.of(1))).rejects.toThrow(/no place/);
  });
});

describe("a folder of texts", () => {
  it("appears whole, or not at all", async () => {
    const path = join(folder, "report");
    expect(await writeTextFolder(path, { "a.md": "A", "b.md": "B" })).toBe(path);
    expect((await readdir(path)).sort()).toEqual(["a.md", "b.md"]);
    await expect(writeTextFolder(path, { "a.md": "A" })).rejects.toMatchObject({ code: "OUTPUT_EXISTS" });
    const bad = join(folder, "bad");
    await expect(writeTextFolder(bad, { "no/such/folder.md": "A" })).rejects.toThrow();
    expect((await readdir(folder)).filter((name) => name.includes("bad"))).toEqual([]);
  });
});

describe("a file of tokens", () => {
  const file = async (name: string, tensors: Parameters<typeof safetensorsFile>[0]) => {
    const path = join(folder, name);
    await writeFile(path, safetensorsFile(tensors));
    return path;
  };
  const i64 = (name: string, ...values: number[]) => ({
    name,
    dtype: "I64" as const,
    shape: [values.length],
    bytes: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  });

  it("gives every text in it, whatever else is there", async () => {
    const i32 = {
      name: "input_ids",
      dtype: "I32" as const,
      shape: [1, 2],
      bytes: new Uint8Array(Int32Array.of(8, 9).buffer),
    };
    const path = await file("tokens.safetensors", [
      i64("seq.0.input_ids", 1, 2, 3),
      i64("seq.0.attention_mask", 1, 1, 0),
      i64("seq.0.token_type_ids", 0, 0, 0),
      i64("something.else", 4),
      i32,
    ]);
    const inputs = await readTokenFile(path);
    expect(inputs.map(({ prefix, rows }) => [prefix, ...rows.map(({ ids }) => [...ids])])).toEqual([
      ["seq.0.", [1, 2]],
      ["", [8, 9]],
    ]);
  });

  it.each([
    ["no tokens", [i64("seq.0.ids", 1)], /holds no tensor called <name>\.input_ids/],
    [
      "a mask of nothing",
      [i64("input_ids", 1), i64("b.attention_mask", 1)],
      /b\.attention_mask masks nothing/,
    ],
    [
      "positions of their own",
      [i64("a.input_ids", 1), i64("a.position_ids", 4)],
      /a\.position_ids is not read/,
    ],
    [
      "a second part",
      [i64("a.input_ids", 1), i64("a.token_type_ids", 1)],
      /a\.token_type_ids is not all zero/,
    ],
    [
      "tokens as floats",
      [{ name: "a.input_ids", dtype: "F32" as const, shape: [1], bytes: new Uint8Array(4) }],
      /a\.input_ids is stored as F32/,
    ],
  ])("is refused for %s", async (name, tensors, says) => {
    await expect(readTokenFile(await file(`${name}.safetensors`, tensors))).rejects.toThrow(says);
  });
});
