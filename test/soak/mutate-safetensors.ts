import { mutateBytes } from "./mutate-bytes.ts";
import { mutateJson, mutateText } from "./mutate-json.ts";
import type { Random } from "./random.ts";

interface Entry {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

const WIDTHS: Readonly<Record<string, number>> = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
};

/**
 * A safetensors file that is damaged in its header or anywhere, or sound but with other names, types, shapes or values:
 * what is sound goes on to the readers behind the header.
 */
export function mutateSafetensors(file: Buffer, random: Random): Uint8Array {
  const start = 8 + Number(file.readBigUInt64LE(0));
  const tensors = read(file, start);
  // Damaged before: there is nothing left to change with sense.
  if (!tensors) return mutateBytes(file, random);
  const kind = random.below(10);
  if (kind === 0) return mutateBytes(file, random);
  if (kind === 1) return mutateBytes(file, random, { to: start });
  if (kind < 4) {
    const header = file.subarray(8, start).toString("utf8");
    const changed = random.chance(0.7) ? mutateJson(header, random) : mutateText(header, random);
    return withHeader(changed, file.subarray(start), random);
  }
  return write(mutateTensors(tensors, random));
}

function withHeader(header: string, data: Buffer, random: Random): Uint8Array {
  const text = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  const claimed = random.chance(0.9)
    ? BigInt(text.byteLength)
    : random.pick([0n, 1n, BigInt(text.byteLength + 8), 2n ** 63n, 2n ** 64n - 1n, 99_999_999n]);
  prefix.writeBigUInt64LE(claimed);
  return Buffer.concat([prefix, text, data]);
}

function read(file: Buffer, start: number): Map<string, Entry> | null {
  try {
    const header = JSON.parse(file.subarray(8, start).toString("utf8")) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    return new Map(
      Object.entries(header)
        .filter(([name]) => name !== "__metadata__")
        .map(([name, { dtype, shape, data_offsets: offsets }]) => [
          name,
          { dtype, shape: [...shape], bytes: file.subarray(start + offsets[0], start + offsets[1]) },
        ]),
    );
  } catch {
    return null;
  }
}

function write(tensors: ReadonlyMap<string, Entry>): Uint8Array {
  let at = 0;
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    const offsets = [at, at + bytes.byteLength];
    at += bytes.byteLength;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`;
  });
  const header = Buffer.from(`{${['"__metadata__":{"format":"pt"}', ...entries].join(",")}}`);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.byteLength));
  return Buffer.concat([prefix, header, ...[...tensors.values()].map(({ bytes }) => bytes)]);
}

function mutateTensors(tensors: Map<string, Entry>, random: Random): Map<string, Entry> {
  const times = 1 + random.below(3);
  for (let i = 0; i < times; i++) {
    const names = [...tensors.keys()];
    if (names.length === 0) break;
    const name = random.pick(names);
    const tensor = tensors.get(name)!;
    const kind = random.below(8);
    if (kind === 0) tensors.delete(name);
    else if (kind === 1) tensors.set(rename(name, random.pick(names), random), tensor);
    else if (kind === 2) {
      tensors.delete(name);
      tensors.set(rename(name, random.pick(names), random), tensor);
    } else if (kind === 3) tensors.set(name, { ...tensors.get(random.pick(names))! });
    else if (kind === 4) tensors.set(name, resized(tensor, random.pick(Object.keys(WIDTHS)), tensor.shape));
    else if (kind === 5) tensors.set(name, spoiled(tensor, random));
    else tensors.set(name, resized(tensor, tensor.dtype, otherShape(tensor.shape, random)));
  }
  return tensors;
}

function rename(name: string, other: string, random: Random): string {
  const parts = name.split(".");
  const last = other.split(".").slice(-2).join(".");
  return random.pick([
    `${parts.slice(0, -2).join(".")}.${last}`,
    name.replace(/\d+/, String(random.below(100))),
    name.replace("base_model.model.", ""),
    `base_model.model.${name}`,
    name.toUpperCase(),
    parts.slice(1).join("."),
    parts.slice(0, -1).join("."),
    `${name}.default`,
    "__proto__",
    "constructor",
    "",
    ".",
    "lora_A.weight",
    "base_model.model..lora_A.weight",
    "x".repeat(random.pick([10, 1999, 3000])),
  ]);
}

function otherShape(shape: readonly number[], random: Random): number[] {
  const out = [...shape];
  const at = random.below(Math.max(1, out.length));
  const kind = random.below(6);
  if (kind === 0) out.splice(at, 1);
  else if (kind === 1) out.splice(at, 0, random.pick([1, 2, 3]));
  else if (kind === 2) out.reverse();
  else if (kind === 3) out[at] = 0;
  else if (kind === 4) return [];
  else out[at] = Math.max(0, (out[at] ?? 1) + random.pick([-8, -1, 1, 8, 16]));
  return out;
}

/** Bytes that fill the new shape: the old ones repeated. */
function resized(tensor: Entry, dtype: string, shape: readonly number[]): Entry {
  const length = shape.reduce((product, n) => product * n, WIDTHS[dtype] ?? 4);
  const bytes = Buffer.alloc(Math.min(length, 4_000_000));
  if (tensor.bytes.byteLength > 0) bytes.fill(tensor.bytes);
  return { dtype, shape: [...shape], bytes };
}

/** Values that no training writes: NaN, infinity, all zeros, all ones. */
function spoiled(tensor: Entry, random: Random): Entry {
  const bytes = Buffer.from(tensor.bytes);
  const fill = random.pick([0x00, 0xff, 0x7f, 0x80]);
  if (random.chance(0.5)) bytes.fill(fill);
  else for (let i = 0; i < 4; i++) if (bytes.byteLength > 0) bytes[random.below(bytes.byteLength)] = fill;
  return { ...tensor, bytes };
}
