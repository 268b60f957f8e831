import { describe, expect, it } from "vitest";
import { indexProblems, parseShardIndex } from "../../src/core/checkpoint.ts";
import { readSafetensorsHeader } from "../../src/core/safetensors.ts";
import { MemorySource } from "../../src/core/source.ts";
import { rawSafetensors, safetensorsFile } from "../support/safetensors.ts";

const read = (bytes: Uint8Array) => readSafetensorsHeader(new MemorySource("x.safetensors", bytes));
const f32 = (begin: number, end: number, shape = "[1]") =>
  `{"dtype":"F32","shape":${shape},"data_offsets":[${begin},${end}]}`;

describe("a safetensors header", () => {
  it("gives tensors in the order of their bytes with offsets from the file's start", async () => {
    const file = safetensorsFile([
      { name: "b", dtype: "BF16", shape: [2, 3] },
      { name: "a", dtype: "F32", shape: [] },
      { name: "empty", dtype: "F32", shape: [0, 4] },
    ]);
    const header = await read(file);
    expect(header.metadata).toEqual({ format: "pt" });
    expect(header.dataStart % 8).toBe(0);
    expect(header.tensors.map((t) => [t.name, t.begin - header.dataStart, t.end - header.dataStart])).toEqual(
      [
        ["b", 0, 12],
        ["a", 12, 16],
        ["empty", 16, 16],
      ],
    );
  });

  it("is read without touching the data", async () => {
    const source = new MemorySource("x", safetensorsFile([{ name: "w", dtype: "F32", shape: [1000, 1000] }]));
    const { dataStart } = await readSafetensorsHeader(source);
    expect(source.bytesRead).toBe(dataStart);
  });

  it("keeps names that look like array indices or prototypes", async () => {
    const file = safetensorsFile(
      ["b", "1", "0", "__proto__"].map((name) => ({ name, dtype: "U8", shape: [1] })),
    );
    expect((await read(file)).tensors.map((t) => t.name)).toEqual(["b", "1", "0", "__proto__"]);
  });

  const dims = `[${Array(9).fill(1).join()}]`;
  it.each([
    ["too short for a length", new Uint8Array(7), "too few"],
    ["a header beyond the file", rawSafetensors("{}", 0, 99n), "should end at byte 107"],
    ["a header over the limit", rawSafetensors("{}", 0, 100_000_001n), "limit is 100000000"],
    ["a length beyond 2^53", rawSafetensors("{}", 0, 0xffffffffffffffffn), "limit is"],
    ["no JSON", rawSafetensors("{nope", 0), "not JSON"],
    ["a list", rawSafetensors("[]", 0), "does not start with"],
    ["a name twice", rawSafetensors(`{"a":${f32(0, 4)},"a":${f32(0, 4)}}`, 4), 'names "a" twice'],
    [
      "an escaped name twice",
      rawSafetensors(`{"a":${f32(0, 4)},"\\u0061":${f32(0, 4)}}`, 4),
      'names "a" twice',
    ],
    [
      "an overlap",
      rawSafetensors(`{"a":${f32(0, 4)},"b":${f32(2, 6)}}`, 6),
      'tensor "b" overlaps tensor "a"',
    ],
    [
      "an overlong name",
      rawSafetensors(`{"${"a".repeat(2001)}":${f32(0, 4)}}`, 4),
      "name has 2001 characters",
    ],
    [
      "lists that no tensor needs",
      rawSafetensors(`{"a":[${"[],".repeat(700_000)}[]]}`, 0),
      "holds 700003 lists and objects, the limit is",
    ],
    [
      "numbers that no tensor needs",
      rawSafetensors(`{"a":[${"0,".repeat(2_500_000)}0]}`, 0),
      "holds 2500000 values, the limit is",
    ],
    ["a gap", rawSafetensors(`{"a":${f32(0, 4)},"b":${f32(6, 10)}}`, 10), "a gap of 2 bytes"],
    ["data left over", rawSafetensors(`{"a":${f32(0, 4)}}`, 5), "tensors end at byte"],
    ["a truncated tensor", rawSafetensors(`{"a":${f32(0, 400, "[100]")}}`, 40), "cut short"],
    ["offsets that do not fit the shape", rawSafetensors(`{"a":${f32(0, 8)}}`, 8), "takes 4, not 8"],
    ["negative offsets", rawSafetensors(`{"a":${f32(-4, 0)}}`, 0), "data_offsets"],
    ["a fractional shape", rawSafetensors(`{"a":${f32(0, 4, "[1.5]")}}`, 4), "whole numbers"],
    ["nine dimensions", rawSafetensors(`{"a":${f32(0, 4, dims)}}`, 4), "9 dimensions"],
    [
      "an impossible size",
      rawSafetensors(`{"a":${f32(0, 4, "[4503599627370496,4096]")}}`, 4),
      "impossible size",
    ],
    ["an unknown dtype", rawSafetensors('{"a":{"dtype":"F31","shape":[],"data_offsets":[0,0]}}', 0), "F31"],
    ["metadata that is not text", rawSafetensors('{"__metadata__":{"a":1}}', 0), "__metadata__"],
  ])("is refused with %s", async (_, bytes, why) => {
    await expect(read(bytes)).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining(why),
    });
    await expect(read(bytes)).rejects.toThrow("x.safetensors");
  });

  it("is refused with more than 200,000 tensors", async () => {
    const entries = Array.from({ length: 200_002 }, (_, i) => `"${i}":${f32(0, 0, "[0]")}`);
    await expect(read(rawSafetensors(`{${entries.join()}}`, 0))).rejects.toThrow("limit is 200000");
  });
});

describe("a shard index", () => {
  const shard = (path: string, name: string) => ({
    path,
    size: 12,
    dataStart: 8,
    metadata: {},
    tensors: [{ name, dtype: "F32" as const, shape: [1], begin: 8, end: 12 }],
  });

  it("must agree with its shards in both directions", () => {
    const index = parseShardIndex({ weight_map: { a: "1.safetensors", b: "2.safetensors" } }, "index");
    expect(index.shards).toEqual(["1.safetensors", "2.safetensors"]);
    const problems = indexProblems(
      index,
      [shard("1.safetensors", "a"), shard("2.safetensors", "c")],
      "index",
    );
    expect(problems.map((p) => p.subject)).toEqual(["b", "c"]);
  });

  it("may not leave open which of two shards a tensor is read from", () => {
    const index = parseShardIndex({ weight_map: { a: "1.safetensors", b: "2.safetensors" } }, "index");
    const both = [shard("1.safetensors", "a"), shard("1.safetensors", "b"), shard("2.safetensors", "b")];
    expect(indexProblems(index, both, "index").map((p) => [p.code, p.subject])).toEqual([["BAD_INDEX", "b"]]);
  });

  it.each(["../x.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "x.bin", 7])(
    "refuses the shard %j",
    (name) => {
      expect(() => parseShardIndex({ weight_map: { a: name } }, "index")).toThrow(
        expect.objectContaining({ code: "BAD_INDEX" }),
      );
    },
  );
});
