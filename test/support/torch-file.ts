import { crc32 } from "node:zlib";

/*
 * Writes pickles opcode by opcode and files as torch.save lays them out, right ones and wrong ones, without Python.
 */

const text = new TextEncoder();

/** Bytes one after another; a string stands for its characters' bytes (latin1), as opcodes are written. */
export function bytes(...parts: readonly (string | number | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  return Buffer.concat(
    parts.map((part) =>
      typeof part === "string"
        ? Buffer.from(part, "latin1")
        : typeof part === "number"
          ? Buffer.from([part])
          : part,
    ),
  );
}

export function uint32(value: number): Uint8Array {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

export function uint64(value: number | bigint): Uint8Array {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
}

/** The opcodes of a text, a whole number, a global and a tuple. */
export const unicode = (value: string) => {
  const encoded = text.encode(value);
  return bytes("X", uint32(encoded.byteLength), encoded);
};
export const int = (value: number) => bytes("J", uint32(value >>> 0));
export const global = (module: string, name: string) => bytes(`c${module}\n${name}\n`);
export const tuple = (...items: readonly Uint8Array[]) => bytes("(", ...items, "t");
/** A call of a global with a tuple of arguments. */
export const call = (module: string, name: string, ...args: readonly Uint8Array[]) =>
  bytes(global(module, name), tuple(...args), "R");
/** A whole pickle around the opcodes of one value. */
export const pickle = (...value: readonly (string | Uint8Array)[]) => bytes("\x80\x02", ...value, ".");

export interface TestStateTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly strides?: readonly number[];
  readonly offset?: number;
  /** Key of its storage; its place in the list where absent. */
  readonly storage?: string;
  /** Class of its storage, e.g. "HalfStorage"; FloatStorage where absent. */
  readonly type?: string;
  /** Elements of its storage, where they are not those of its bytes. */
  readonly count?: number;
  /** Bytes of its storage; zeros where absent. */
  readonly data?: Uint8Array;
  readonly parameter?: boolean;
}

const WIDTHS: Readonly<Record<string, number>> = {
  FloatStorage: 4,
  HalfStorage: 2,
  BFloat16Storage: 2,
  DoubleStorage: 8,
  LongStorage: 8,
  IntStorage: 4,
};

const widthOf = (tensor: TestStateTensor) => WIDTHS[tensor.type ?? "FloatStorage"] ?? 4;
const elements = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);
const keyOf = (tensor: TestStateTensor, i: number) => tensor.storage ?? String(i);
const countOf = (tensor: TestStateTensor) =>
  tensor.count ?? (tensor.data ? tensor.data.byteLength / widthOf(tensor) : elements(tensor.shape));
const dataOf = (tensor: TestStateTensor) =>
  tensor.data ?? new Uint8Array(elements(tensor.shape) * widthOf(tensor));

function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, i) => elements(shape.slice(i + 1)));
}

/** The opcodes of one tensor, as torch.save writes them. */
export function tensorValue(tensor: TestStateTensor, key: string, legacy = false): Uint8Array {
  const storage = tuple(
    unicode("storage"),
    global("torch", tensor.type ?? "FloatStorage"),
    unicode(key),
    unicode("cpu"),
    int(countOf(tensor)),
    ...(legacy ? [bytes("N")] : []),
  );
  const value = call(
    "torch._utils",
    "_rebuild_tensor_v2",
    bytes(storage, "Q"),
    int(tensor.offset ?? 0),
    tuple(...tensor.shape.map(int)),
    tuple(...(tensor.strides ?? rowMajor(tensor.shape)).map(int)),
    bytes("\x89"),
    call("collections", "OrderedDict"),
  );
  if (!tensor.parameter) return value;
  return call("torch._utils", "_rebuild_parameter", value, bytes("\x88"), call("collections", "OrderedDict"));
}

/** The pickle of a dictionary of tensors. */
export function statePickle(tensors: readonly TestStateTensor[], legacy = false): Uint8Array<ArrayBuffer> {
  const items = tensors.map((tensor, i) =>
    bytes(unicode(tensor.name), tensorValue(tensor, keyOf(tensor, i), legacy)),
  );
  return pickle("}(", ...items, "u");
}

export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  /** Compression method that is claimed; 0, stored, where absent. */
  readonly method?: number;
  /** Name at the entry's own place, where it is another one than in the directory. */
  readonly localName?: string;
  /** Uncompressed size that is claimed. */
  readonly claimed?: number;
  /** Where the directory says the entry is, where it says so wrongly. */
  readonly at?: number;
}

/** A zip archive of stored entries. */
export function zipFile(
  entries: readonly ZipEntry[],
  claimedEntries = entries.length,
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    const { name, data, method = 0, localName = name, claimed = data.byteLength } = entry;
    const common = (length: number) => {
      const head = Buffer.alloc(26);
      head.writeUInt16LE(method, 4);
      head.writeUInt32LE(crc32(data), 10);
      head.writeUInt32LE(data.byteLength, 14);
      head.writeUInt32LE(claimed, 18);
      head.writeUInt16LE(length, 22);
      return head;
    };
    const local = Buffer.from(localName);
    const central = Buffer.from(name);
    const before = bytes("PK\x03\x04", common(local.byteLength), local);
    directory.push(
      bytes(
        "PK\x01\x02\x00\x00",
        common(central.byteLength),
        new Uint8Array(10),
        uint32(entry.at ?? at),
        central,
      ),
    );
    parts.push(before, data);
    at += before.byteLength + data.byteLength;
  }
  const central = bytes(...directory);
  const count = Buffer.alloc(2);
  count.writeUInt16LE(claimedEntries);
  const end = bytes("PK\x05\x06", uint32(0), count, count, uint32(central.byteLength), uint32(at), "\0\0");
  return bytes(...parts, central, end);
}

/** A file as torch.save writes it since 1.6. */
export function torchZip(
  tensors: readonly TestStateTensor[],
  data = statePickle(tensors),
): Uint8Array<ArrayBuffer> {
  return zipFile(torchEntries(tensors, data));
}

/** The entries of such a file. */
export function torchEntries(tensors: readonly TestStateTensor[], data = statePickle(tensors)): ZipEntry[] {
  const storages = new Map(tensors.map((tensor, i) => [keyOf(tensor, i), dataOf(tensor)]));
  return [
    { name: "archive/data.pkl", data },
    { name: "archive/byteorder", data: bytes("little") },
    ...[...storages].map(([key, stored]) => ({ name: `archive/data/${key}`, data: stored })),
    { name: "archive/version", data: bytes("3\n") },
  ];
}

/** A file as torch.save wrote it before 1.6. */
export function legacyTorchFile(tensors: readonly TestStateTensor[]): Uint8Array<ArrayBuffer> {
  const storages = new Map(tensors.map((tensor, i) => [keyOf(tensor, i), tensor]));
  const magic = Buffer.from("6cfc9c46f9206aa85019", "hex");
  return bytes(
    pickle("\x8a\x0a", magic),
    pickle(int(1001)),
    pickle("}(", unicode("protocol_version"), int(1001), unicode("little_endian"), "\x88", "u"),
    statePickle(tensors, true),
    pickle("](", ...[...storages.keys()].map(unicode), "e"),
    ...[...storages.values()].flatMap((tensor) => [uint64(countOf(tensor)), dataOf(tensor)]),
  );
}
