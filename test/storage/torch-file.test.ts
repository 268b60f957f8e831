import { describe, expect, it } from "vitest";
import { MemorySource } from "../../src/core/source.ts";
import { readTorchFile } from "../../src/storage/torch-file.ts";
import {
  bytes,
  call,
  int,
  legacyTorchFile,
  pickle,
  statePickle,
  type TestStateTensor,
  torchEntries,
  torchZip,
  tuple,
  uint32,
  unicode,
  type ZipEntry,
  zipFile,
} from "../support/torch-file.ts";

const read = (data: Uint8Array) =>
  readTorchFile(new MemorySource("adapter_model.bin", data), "adapter_model.bin");
const refused = (data: Uint8Array) =>
  read(data).then(
    () => ({ code: "read", message: "" }),
    (error: { code?: string; message: string }) => ({ code: error.code, message: error.message }),
  );

const filled = (length: number, value: number) => new Uint8Array(length).fill(value);
const tensors: TestStateTensor[] = [
  { name: "a", shape: [2, 3], data: filled(24, 1) },
  { name: "b", shape: [4], type: "BFloat16Storage", data: filled(8, 2), parameter: true },
  { name: "c", shape: [], type: "HalfStorage", data: filled(2, 3) },
  { name: "d", shape: [0, 5], type: "LongStorage" },
];

describe.each([
  ["zip", torchZip],
  ["legacy", legacyTorchFile],
] as const)("a %s file of torch.save", (_, write) => {
  it("gives names, types, shapes and the places of the bytes in the file itself", async () => {
    const data = write(tensors);
    const { tensors: found, size, path } = await read(data);
    expect([size, path]).toEqual([data.byteLength, "adapter_model.bin"]);
    const facts = Object.fromEntries(
      found.map(({ name, dtype, shape, begin, end }) => [
        name,
        [dtype, shape, [...data.subarray(begin, end)]],
      ]),
    );
    expect(facts).toEqual({
      a: ["F32", [2, 3], Array(24).fill(1)],
      b: ["BF16", [4], Array(8).fill(2)],
      c: ["F16", [], Array(2).fill(3)],
      d: ["I64", [0, 5], []],
    });
  });

  it("may have tensors that share a storage, from an offset on", async () => {
    const data = Uint8Array.from({ length: 24 }, (_, i) => i);
    const file = write([
      { name: "whole", shape: [3, 2], storage: "7", data },
      { name: "rows", shape: [2, 2], storage: "7", data, offset: 2 },
    ]);
    const found = (await read(file)).tensors;
    const rows = found.find(({ name }) => name === "rows")!;
    expect(found.map(({ name }) => name)).toEqual(["whole", "rows"]);
    expect([...file.subarray(rows.begin, rows.end)]).toEqual([...data.subarray(8)]);
  });

  it("is refused where a tensor is a transposed view, and read where a stride of one element says nothing", async () => {
    const view = { name: "v", shape: [3, 2], strides: [1, 3] };
    expect(await refused(write([view]))).toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/"v" is a view with strides \[1,3\] for shape \[3,2\].*safetensors/),
    });
    expect((await refused(write([{ name: "v", shape: [1, 2], strides: [77, 1] }]))).code).toBe("read");
  });

  const misfits: readonly (readonly [string, TestStateTensor[], RegExp])[] = [
    ["a tensor beyond its storage", [{ name: "a", shape: [4], count: 3 }], /"a" takes elements 0 to 4/],
    ["an offset beyond it", [{ name: "a", shape: [2], offset: 1 }], /"a" takes elements 1 to 3/],
    ["a negative size", [{ name: "a", shape: [-1], data: filled(4, 0) }], /"a" has no shape/],
    ["nine dimensions", [{ name: "a", shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] }], /more than 8 dimensions/],
    [
      "a complex tensor",
      [{ name: "a", shape: [1], type: "ComplexFloatStorage" }],
      /names torch\.ComplexFloat/,
    ],
    [
      "one storage with two types",
      [
        { name: "a", shape: [2], storage: "0", type: "HalfStorage" },
        { name: "b", shape: [2], storage: "0", type: "BFloat16Storage" },
      ],
      /"b" takes storage 0/,
    ],
    [
      "a name twice",
      [
        { name: "a", shape: [1] },
        { name: "a", shape: [1] },
      ],
      /names "a" twice/,
    ],
    ["an overlong name", [{ name: "n".repeat(3000), shape: [1] }], /3000 characters/],
    [
      "storages shared until the tensors are many times the file",
      Array.from({ length: 100 }, (_, i) => ({ name: `t${i}`, shape: [3000], storage: "0" })),
      /its tensors take 1200000 bytes in all/,
    ],
  ];
  it.each(misfits)("is refused with %s", async (_, wrong, says) => {
    const { code, message } = await refused(write(wrong));
    expect(code).toMatch(/BAD_FILE|UNSAFE_PICKLE/);
    expect(message).toMatch(says);
  });

  it("is refused at every length that it can be cut short to", async () => {
    const data = write(tensors);
    for (let length = 0; length < data.byteLength; length += 7) {
      const { code } = await refused(data.subarray(0, length));
      expect(["BAD_FILE", "UNSAFE_PICKLE"]).toContain(code);
    }
  });
});

describe("a file of torch.save with something else in it", () => {
  it.each([
    ["a training state", pickle("}", unicode("epoch"), int(3), "s"), /"epoch" is a number, not a tensor/],
    ["a list", pickle("]"), /it holds a list, not a dictionary/],
    ["a nested state", pickle("}", unicode("state_dict"), "}s"), /"state_dict" is a dict, not a tensor/],
    ["hooks", statePickleWithHooks(), /"a" carries hooks/],
    ["a tensor without a storage", pickle("}", unicode("a"), rebuild("N"), "s"), /"a" has no storage/],
    ["code after the pickle", bytes(statePickle([]), "N."), /something follows the pickle/],
    [
      "a call of os.system",
      pickle("}", unicode("a"), call("os", "system", unicode("id")), "s"),
      /names os\.system/,
    ],
  ])("(%s) is refused", async (_, data, says) => {
    const { code, message } = await refused(torchZip([], data));
    expect(code).toMatch(/BAD_FILE|UNSAFE_PICKLE/);
    expect(message).toMatch(says);
  });

  it("is told from what is no torch file at all", async () => {
    expect(await refused(bytes("hello"))).toMatchObject({
      message: expect.stringContaining("neither a zip archive nor a pickle"),
    });
    const big = torchEntries(tensors).map((entry) =>
      entry.name.endsWith("byteorder") ? { ...entry, data: bytes("big") } : entry,
    );
    expect((await refused(zipFile(big))).message).toContain("not little-endian");
    expect((await refused(pickle(int(1)))).message).toContain("does not start as torch.save");
  });
});

describe("a zip archive that is not torch.save's", () => {
  const entries = torchEntries(tensors);
  const withEntry = (change: Partial<ZipEntry>, at = 2) =>
    zipFile(entries.map((entry, i) => (i === at ? { ...entry, ...change } : entry)));
  it.each([
    ["a compressed entry", withEntry({ method: 8 }), /compressed/],
    ["a size that is claimed", withEntry({ claimed: 4_000_000_000 }), /size mismatch/],
    ["an absolute name", withEntry({ name: "/etc/passwd" }), /absolute path/],
    ["a name that leads out", withEntry({ name: "archive/../../x" }), /relative path|\.\./],
    ["a name with a backslash", withEntry({ name: "archive\\data\\0" }), /invalid characters/],
    ["the same entry twice", zipFile([...entries, entries[2]!]), /is there twice/],
    ["an entry with two names", withEntry({ localName: "archive/data/9" }), /another one in the directory/],
    ["entries in the same place", withEntry({ at: 0, name: "archive/data.pkl" }), /twice|another|overlap/],
    ["an entry beyond the file", withEntry({ at: 4_000_000 }), /beyond its end/],
    ["more entries than it has", zipFile(entries, 60_000), /not a sound zip|beyond its end/],
    ["no pickle", zipFile(entries.slice(1)), /holds 0 data\.pkl/],
    ["two pickles", zipFile([...entries, { ...entries[0]!, name: "other/data.pkl" }]), /holds 2 data\.pkl/],
    [
      "a storage missing",
      zipFile(entries.filter(({ name }) => name !== "archive/data/1")),
      /storage 1 is missing/,
    ],
    ["a storage too short", withEntry({ data: filled(20, 1) }), /storage 0 has 20 bytes, not 24/],
  ])("with %s is refused", async (_, data, says) => {
    expect(await refused(data)).toMatchObject({ code: "BAD_FILE", message: expect.stringMatching(says) });
  });

  it("whose entries overlap is refused, however small", async () => {
    const outer = torchEntries([{ name: "a", shape: [64] }]);
    const local = (name: string) => bytes("PK\x03\x04", new Uint8Array(22), uint32(name.length), name);
    // Inside the data of storage 0 stands another entry's head, and the directory points there.
    const inner = local("archive/data/1");
    const data = bytes(inner, new Uint8Array(256 - inner.byteLength));
    const file = zipFile(outer.map((e) => (e.name.endsWith("data/0") ? { ...e, data } : e)));
    const at = Buffer.from(file).indexOf(Buffer.from(inner));
    const hostile = zipFile([
      ...outer.map((e) => (e.name.endsWith("data/0") ? { ...e, data } : e)),
      { name: "archive/data/1", data: new Uint8Array(8), at },
    ]);
    expect((await refused(hostile)).message).toMatch(/overlap/);
  });
});

function rebuild(storage: string): Uint8Array {
  return call("torch._utils", "_rebuild_tensor_v2", bytes(storage), int(0), tuple(), tuple(), bytes("\x89N"));
}

function statePickleWithHooks(): Uint8Array<ArrayBuffer> {
  const plain = Buffer.from(statePickle([{ name: "a", shape: [1] }]));
  const odict = Buffer.from(call("collections", "OrderedDict"));
  const at = plain.indexOf(odict) + odict.byteLength;
  return bytes(plain.subarray(0, at), int(1), int(2), "s", plain.subarray(at));
}
