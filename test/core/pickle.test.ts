import { describe, expect, it } from "vitest";
import { unpickle } from "../../src/core/pickle.ts";
import { STATE_GLOBALS } from "../../src/core/torch-state.ts";
import { bytes, call, global, int, pickle, tuple, uint32, uint64, unicode } from "../support/torch-file.ts";

const read = (data: Uint8Array) => unpickle(data, { name: "a.bin", globals: STATE_GLOBALS });
const code = (data: Uint8Array) => {
  try {
    read(data);
    return "read";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
};
const repeat = (count: number, ...part: (string | Uint8Array)[]) => {
  const one = bytes(...part);
  return new Uint8Array(Buffer.alloc(count * one.byteLength, one));
};
const memo = (count: number) => {
  const out = repeat(count, "r", uint32(0));
  const view = new DataView(out.buffer);
  for (let i = 0; i < count; i++) view.setUint32(5 * i + 1, i, true);
  return out;
};

describe("a pickle of plain values", () => {
  it("is read with its numbers, texts, lists, tuples and dictionaries", () => {
    const value = pickle(
      "}(",
      unicode("a"),
      tuple(int(-3), bytes("K\xff"), bytes("M\x01\x02"), bytes("\x8a\x01\xff"), bytes("\x8a\x00")),
      unicode("é"),
      bytes("](N\x88\x89G", Buffer.from("3ff8000000000000", "hex"), "e"),
      "u",
    );
    expect(read(value).value).toEqual({
      kind: "dict",
      attributes: null,
      items: [
        "a",
        { kind: "tuple", items: [-3, 255, 513, -1, 0] },
        "é",
        { kind: "list", items: [null, true, false, 1.5] },
      ],
    });
  });

  it("says where it ends, so that another one can follow", () => {
    const first = pickle("N");
    const both = bytes(first, pickle(int(7)));
    const { end } = read(both);
    expect(end).toBe(first.byteLength);
    const second = unpickle(both, { name: "a.bin", globals: new Set(), start: end });
    expect(second).toEqual({ value: 7, end: both.byteLength });
  });

  it("writes down a call and a persistent id instead of making anything of them", () => {
    const made = call("torch._utils", "_rebuild_parameter", bytes(unicode("k"), "Q"));
    expect(read(pickle(made)).value).toEqual({
      kind: "call",
      name: "torch._utils._rebuild_parameter",
      args: [{ kind: "persistent", id: "k" }],
    });
  });

  it("may be of protocol 4, with frames, a memo without numbers and globals from the stack", () => {
    const named = bytes("\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94h\x03");
    const value = bytes("\x80\x04\x95", uint64(20), named, "\x85.");
    expect(read(value).value).toMatchObject({ kind: "tuple", items: [{ kind: "dict", items: [] }] });
  });
});

describe("a pickle that would run code", () => {
  it.each([
    ["os.system", call("os", "system", unicode("touch /tmp/pwned"))],
    ["posix.system", call("posix", "system", unicode("id"))],
    ["builtins.eval", call("builtins", "eval", unicode("1+1"))],
    ["builtins.getattr", call("builtins", "getattr", global("torch", "FloatStorage"), unicode("__class__"))],
    ["subprocess.Popen", call("subprocess", "Popen", tuple(unicode("sh")))],
    ["torch.storage._load_from_bytes", call("torch.storage", "_load_from_bytes", unicode("x"))],
    ["torch.FloatStorage.__init__", global("torch.FloatStorage", "__init__")],
    ["collections.OrderedDict.fromkeys", global("collections", "OrderedDict.fromkeys")],
    ["numpy.core.multiarray._reconstruct", global("numpy.core.multiarray", "_reconstruct")],
  ])("by %s is refused and named", (name, value) => {
    expect(() => read(pickle(value))).toThrow(
      expect.objectContaining({ code: "UNSAFE_PICKLE", message: expect.stringContaining(name) }),
    );
  });

  it("by a global whose name comes from the stack is refused as well", () => {
    expect(code(bytes("\x80\x04\x8c\x02os\x8c\x06system\x93."))).toBe("UNSAFE_PICKLE");
  });

  it.each([
    ["INST", bytes("(ios\nsystem\n")],
    ["OBJ", bytes("(", global("torch", "FloatStorage"), "o")],
    ["NEWOBJ", bytes(global("collections", "OrderedDict"), ")\x81")],
    ["NEWOBJ_EX", bytes(global("collections", "OrderedDict"), ")}\x92")],
    ["EXT1", bytes("\x82\x01")],
    ["PERSID", bytes("Pstorage\n")],
    ["0x97", bytes("\x97")],
  ])("by the opcode %s is refused and named", (name, value) => {
    expect(() => read(pickle(value))).toThrow(
      expect.objectContaining({ code: "UNSAFE_PICKLE", message: expect.stringContaining(name) }),
    );
  });

  it("by setting the state of an object is refused, and a state dictionary's _metadata is not", () => {
    const dictionary = call("collections", "OrderedDict");
    const state = (name: string) => bytes("}", unicode(name), int(1), "s");
    expect(code(pickle(dictionary, state("_metadata"), "b"))).toBe("read");
    expect(code(pickle(dictionary, state("__class__"), "b"))).toBe("UNSAFE_PICKLE");
    expect(code(pickle(global("torch", "FloatStorage"), state("_metadata"), "b"))).toBe("UNSAFE_PICKLE");
  });
});

describe("a pickle that would exhaust the reader", () => {
  const hostile: readonly (readonly [string, () => Uint8Array])[] = [
    ["a text of 4 GB", () => bytes("\x80\x02X", uint32(0xffffffff), ".")],
    ["a text of 2⁶⁴ bytes", () => bytes("\x80\x04\x8d", uint64(2n ** 64n - 1n), ".")],
    ["an integer of 255 bytes", () => pickle("\x8a\xff", new Uint8Array(255))],
    ["an integer of 2 GB", () => bytes("\x80\x02\x8b", uint32(0x7fffffff), ".")],
    ["a million lists", () => pickle(repeat(1_000_000, "]"))],
    ["a million marks", () => pickle(repeat(1_100_000, "("))],
    ["more values than may wait", () => pickle(repeat(1_100_000, "N"))],
    ["more steps than any file takes", () => pickle(repeat(4_100_000, "N0"), "N")],
    ["a memo of a million", () => pickle("N", memo(1_100_000))],
  ];
  it.each(hostile)("by %s is refused in time", (_, make) => {
    const data = make();
    const start = performance.now();
    expect(code(data)).toBe("BAD_FILE");
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it("by tuples in tuples, each twice in the next, takes no more room than it has opcodes", () => {
    const doubled = pickle("N\x85q\x00", repeat(500_000, "2\x86q\x00"));
    expect(code(doubled)).toBe("read");
  });

  it("by 600,000 levels of nesting, or by a list in itself, is read without recursion", () => {
    expect(code(pickle("N", repeat(599_000, "\x85")))).toBe("read");
    expect(code(pickle("]q\x00h\x00a"))).toBe("read");
  });

  it("by setting a large state again and again is refused at the first time", () => {
    const items = repeat(1000, unicode("_metadata"), "N");
    const value = bytes("}(", items, "uq\x010", call("collections", "OrderedDict"), "h\x01b");
    expect(code(pickle(value))).toBe("UNSAFE_PICKLE");
  });
});

describe("a damaged pickle", () => {
  it.each([
    ["nothing", bytes()],
    ["no end", bytes("\x80\x02N")],
    ["nothing on the stack at its end", bytes("\x80\x02.")],
    ["a value below a mark taken", pickle("N(0")],
    ["a mark missing", pickle("t")],
    ["a memo that was never written", pickle("h\x07")],
    ["a key without a value", pickle("}(N", "u")],
    ["something added to what is no list", pickle("NNa")],
    ["a call of what is no global", pickle("N)R")],
    ["a call without a tuple", pickle(global("collections", "OrderedDict"), "NR")],
    ["a text that is not UTF-8", pickle("X", uint32(1), "\xff")],
    ["a global without an end", bytes("\x80\x02ccollections")],
    ["a protocol of the future", bytes("\x80\x09N.")],
  ])("with %s is refused", (_, data) => {
    expect(code(data)).toBe("BAD_FILE");
  });
});
